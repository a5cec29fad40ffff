"""The same labels as the package lungmask gives, with random weights in its own network."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import Catalogue, load_model
from AIDicomBridgeLib.errors import WeightsError
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import body_phantom, make_series, save_series

pytest.importorskip("lungmask", reason="lungmask is not installed (extra peers)")


def random_weights(path: Path) -> None:
    from lungmask.resunet import UNet

    torch.manual_seed(4)
    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False).eval()
    with torch.no_grad():  # a random head says nearly the same everywhere
        network.last.weight.mul_(40)
        network.last.bias.copy_(torch.tensor([-0.5, 0.0, 0.0]))
    torch.save(network.state_dict(), path)


@pytest.mark.parametrize("shape", [(4, 110, 130), (1, 40, 30)])  # the last row of the other is lost
def test_labels_are_identical_to_those_of_lungmask(tmp_path: Path, shape):
    from lungmask.mask import LMInferer

    path = tmp_path / "unet_r231-d5d2fc3d.pth"
    random_weights(path)
    voxels = body_phantom(shape)
    voxels += np.random.default_rng(1).normal(0, 40, voxels.shape).astype(np.int16)
    volume = read_volume(save_series(make_series(voxels), tmp_path / "series"))
    expected = LMInferer(modelpath=str(path), force_cpu=True, batch_size=1, tqdm_disable=True).apply(volume.voxels)
    card = Catalogue.load()["lungmask-r231"]
    folder = WeightsFolder(tmp_path)
    with pytest.raises(WeightsError, match="is not the one that the card names"):
        load_model(card, "cpu", weights_folder=folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = dataclasses.replace(card, weights=dataclasses.replace(card.weights, sha256=digest))

    result = load_model(card, "cpu", precision="float32", weights_folder=folder).segment(volume, any_body_part=True)

    assert len(np.unique(expected)) == 3
    np.testing.assert_array_equal(result.labels, expected)
    assert result.provenance.weights_sha256 == digest
