"""The same brain as the package deepbet outlines, on a real head MR."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import Catalogue, load_model
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import make_series, save_series

pytest.importorskip("deepbet", reason="deepbet is not installed (extra peers)")
HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")


@pytest.mark.skipif(not HEAD.exists(), reason="the package mricron-data is not installed")
def test_the_brain_is_that_of_deepbet(tmp_path: Path):
    import deepbet.bet
    import nibabel

    image = nibabel.load(HEAD)
    expected = np.asarray(deepbet.bet.BrainExtraction(no_gpu=True).run(image)[1].dataobj) > 0  # (x, y, z), RAS
    voxels = np.asarray(image.dataobj).astype(np.int16).transpose(2, 1, 0)[:, ::-1, ::-1]  # z up, y back, x left
    series = make_series(voxels, modality="MR", spacing_mm=(1.0, 1.0, 1.0))
    volume = read_volume(save_series(series, tmp_path / "series"))
    models = Path(deepbet.bet.__file__).parents[1] / "data" / "models"
    folder = WeightsFolder(tmp_path)
    card = Catalogue.load()["deepbet"]
    for file, name in zip(card.weights_files, ("model.pt", "bbox_model.pt"), strict=True):
        (tmp_path / file.file).write_bytes((models / name).read_bytes())

    model = load_model(card, "cpu", precision="float32", weights_folder=folder)
    labels = model.segment(volume, any_body_part=True).labels

    found = labels[:, ::-1, ::-1].transpose(2, 1, 0) > 0
    dice = 2 * np.count_nonzero(found & expected) / (np.count_nonzero(found) + np.count_nonzero(expected))
    assert dice >= 0.98, dice
