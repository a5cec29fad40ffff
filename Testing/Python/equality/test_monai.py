"""The same labels as MONAI's sliding_window_inference gives, on its settings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import load_model
from AIDicomBridgeLib.errors import ConsentError
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.label_rows import LabelRows
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan
from AIDicomBridgeLib.inference.rules import Decision, WindowRules
from AIDicomBridgeLib.inference.sliding_window import run_windows
from AIDicomBridgeLib.models.consent import Consents
from AIDicomBridgeLib.models.loading import folder_card
from AIDicomBridgeLib.models.monai_bundle import bundle_program
from AIDicomBridgeLib.series.volume import read_volume
from monai_folders import write_bundle
from synthetic import SAGITTAL, make_series, save_series

pytest.importorskip("monai", reason="monai is not installed (extra peers)")


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("shape", "roi", "overlap"), [((37, 29, 41), (16, 16, 16), 0.25), ((20, 33, 12), (16, 24, 16), 0.5)]
)
def test_labels_equal_those_of_monai(shape, roi, overlap, mode):
    from monai.inferers import sliding_window_inference

    torch.manual_seed(2)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1), torch.nn.InstanceNorm3d(6), torch.nn.Conv3d(6, 4, 3, padding=1)
    ).eval()
    tensor = torch.randn(1, *shape)
    with torch.inference_mode():
        expected = sliding_window_inference(tensor[None], roi, 1, network, overlap=overlap, mode=mode)[0].argmax(0)
        rows = LabelRows(Decision((0, 1, 2, 3)), shape, shape, axis=2)
        run_windows(
            Ensemble([network], torch.device("cpu"), torch.float32),
            tensor,
            rows,
            WindowRules(roi, overlap, "monai", mode),
            roi,
            MemoryPlan("cpu", "float32", 2, "cpu", "float32", shape, roi, 1, 0, 0),
        )
    assert float((torch.from_numpy(rows.labels) == expected).float().mean()) >= 0.9999
    assert len(np.unique(rows.labels)) == 4


@pytest.mark.parametrize("axcodes", ["", "RAS"])
@pytest.mark.parametrize(("inferer", "axis"), [("SliceInferer", 0), ("SliceInferer", 1), ("SlidingWindowInferer", 2)])
def test_a_2d_bundle_sees_the_slices_that_it_sees_in_monai(tmp_path: Path, axcodes: str, inferer: str, axis: int):
    from monai.data import MetaTensor
    from monai.inferers import SliceInferer, sliding_window_inference
    from monai.transforms import Orientation

    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, (5, 3), padding=(2, 1)), torch.nn.Tanh(), torch.nn.Conv2d(6, 3, 3, padding=1)
    ).eval()
    options = {"roi_size": [8, 12], "overlap": 0.5, "mode": "gaussian"}
    said = options | {"_target_": f"monai.inferers.{inferer}"} | ({"spatial_dim": axis} if axis < 2 else {})
    scaled = {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 100, "b_min": 0, "b_max": 1}
    turned = [{"_target_": "Orientationd", "keys": "image", "axcodes": axcodes}] if axcodes else []
    folder = write_bundle(tmp_path / "bundle", [*turned, scaled], channels=("background", "a", "b"), inferer=said)
    torch.jit.script(network).save(str(folder / "models" / "model.ts"))
    voxels = np.random.default_rng(1).integers(-200, 200, (11, 14, 13), np.int16)
    volume = read_volume(save_series(make_series(voxels, orientation=SAGITTAL), tmp_path / "series"))
    image = MetaTensor(
        torch.from_numpy(volume.voxels.transpose(2, 1, 0).copy()).float()[None] / 100,
        affine=np.diag([-1.0, -1, 1, 1]) @ volume.ijk_to_lps,
    )
    turn = Orientation(axcodes=axcodes) if axcodes else None
    image = turn(image) if turn else image
    with torch.inference_mode():
        if axis < 2:
            outputs = SliceInferer(spatial_dim=axis, **options)(image[None], network)[0]
        else:
            slices = [sliding_window_inference(part[None], sw_batch_size=1, predictor=network, **options)
                      for part in image.as_tensor().unbind(-1)]  # fmt: skip
            outputs = torch.stack(slices, -1)[0]
    labels = MetaTensor(
        outputs.argmax(0, keepdim=True), affine=image.affine, applied_operations=image.applied_operations
    )
    expected = (turn.inverse(labels) if turn else labels)[0].numpy().transpose(2, 1, 0)
    consents = Consents(tmp_path / "consents.json")
    card = folder_card(folder)
    consents.agree(bundle_program(card)[0], card.name)

    found = load_model(card, "cpu", precision="float32", consents=consents).segment(volume).labels

    assert float((found == expected).mean()) >= 0.9999
    assert len(np.unique(found)) == 3


def test_plain_weights_beside_a_program_need_no_consent(tmp_path: Path):
    from monai.networks.nets import UNet

    shape = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    torch.manual_seed(1)
    network = UNet(**shape).eval()
    defined = {"_target_": "UNet", **shape}
    folder = write_bundle(tmp_path / "bundle", inferer={"_target_": "SimpleInferer"}, network_def=defined)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    voxels = np.random.default_rng(1).integers(-9, 9, (8, 8, 8), np.int16)
    volume = read_volume(save_series(make_series(voxels), tmp_path / "series"))
    image = torch.from_numpy(volume.voxels.transpose(2, 1, 0).copy()).float()[None, None]
    with torch.inference_mode():
        expected = network(image)[0].argmax(0).numpy().transpose(2, 1, 0)
    model = load_model(folder, "cpu", precision="float32", consents=Consents(tmp_path / "consents.json"))
    assert float((model.segment(volume, any_body_part=True).labels == expected).mean()) >= 0.999
    agreed = Consents(tmp_path / "agreed.json")
    agreed.agree(bundle_program(folder_card(folder))[0], "toy")
    assert load_model(folder, "cpu", consents=agreed).weights_sha256 == model.weights_sha256  # it changes nothing
    torch.save({}, folder / "models" / "model.pt")  # what cannot be used: the program is what is left
    assert load_model(folder, "cpu", consents=agreed).weights_sha256 == bundle_program(folder_card(folder))[0]
    with pytest.raises(ConsentError):
        load_model(folder, "cpu", consents=Consents(tmp_path / "consents.json"))
