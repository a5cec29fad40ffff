"""What surrounds a network: intensities, flood fill, components, and labels back on the source grid."""

from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.errors import JobCancelled, ModelError
from AIDicomBridgeLib.inference import whole_volume
from AIDicomBridgeLib.inference.components import keep_largest_component
from AIDicomBridgeLib.inference.flood import flood
from AIDicomBridgeLib.inference.normalisation import cormack_units, scale_percentiles
from AIDicomBridgeLib.models.card import InputRules, NetworkRules
from AIDicomBridgeLib.progress import CancelToken
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, body_phantom, make_series, save_series


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("spacing_mm", [(3.0, 0.8, 0.6), (1.0, 1.0, 1.0)])
def test_a_network_that_thresholds_marks_the_same_voxels_of_the_source(
    tmp_path: Path, orientation: tuple[float, ...], spacing_mm: tuple[float, float, float]
) -> None:
    """Turning, resampling to 1 mm and back must not move anything: blocks of 6 voxels come back within their edge."""
    voxels = np.zeros((12, 48, 60), np.int16)
    voxels[3:9, 6:24, 36:54] = 100
    series = make_series(voxels, orientation=orientation, spacing_mm=spacing_mm)
    volume = read_volume(save_series(series, tmp_path))

    tensor, turn = whole_volume.network_input(volume, InputRules("LIA", (1.0, 1.0, 1.0), (0.0, 100.0)))
    logits = torch.cat([0.5 - tensor[0], tensor[0] - 0.5])
    labels = whole_volume.labels_on_source_grid(logits, turn, volume.voxels.shape)

    assert labels.shape == voxels.shape
    assert labels.dtype == np.uint8
    inner, outer = np.zeros_like(labels, bool), np.zeros_like(labels, bool)
    inner[4:8, 8:22, 38:52] = True
    outer[2:10, 4:26, 34:56] = True
    assert labels[inner].all()
    assert not labels[~outer].any()
    if spacing_mm == (1.0, 1.0, 1.0):
        np.testing.assert_array_equal(labels, voxels > 0)


def test_several_classes_are_decided_by_the_largest_logit() -> None:
    logits = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    turn = whole_volume.Orientation((0, 1, 2), ())
    labels = whole_volume.labels_on_source_grid(logits, turn, (3, 4, 6))
    np.testing.assert_array_equal(labels, logits.argmax(0).numpy())


def test_cancel_takes_effect_between_layers() -> None:
    cancel = CancelToken()
    layers = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    seen: list[int] = []

    def progress(event) -> None:
        seen.append(event.completed)
        cancel.cancel()

    with pytest.raises(JobCancelled):
        whole_volume.run_whole_volume(
            layers,
            torch.zeros(1, 1, 2, 2, 2),
            device=torch.device("cpu"),
            precision=torch.float32,
            progress=progress,
            cancel=cancel,
        )
    assert seen == [1]


def test_a_volume_beyond_the_memory_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_volume, "free_memory", lambda device: 10**9)
    rules = NetworkRules("meshnet", 15, 2, (1,))
    with pytest.raises(ModelError, match=r"about 2\.4 GB on cpu and 1\.0 GB are free"):
        whole_volume.refuse_if_too_large(10**7, rules, torch.device("cpu"), torch.float32)


def test_percentiles_are_scaled_and_clipped() -> None:
    scaled = scale_percentiles(np.arange(101, dtype=np.int16), (10, 90))
    assert scaled.dtype == np.float32
    assert scaled[:11].max() == 0
    assert scaled[90:].min() == 1
    assert scaled[50] == pytest.approx(0.5)
    assert (scale_percentiles(np.full(8, 7), (2, 98)) == 0).all()


def test_cormack_units_stretch_soft_tissue_only() -> None:
    hounsfield = np.array([-3000, -1024, -124, -24, 76, 1000], np.int16)
    np.testing.assert_allclose(cormack_units(hounsfield), [0, 0, 900, 2000, 3100, 4024])


def test_flood_goes_round_corners_and_stops_at_walls() -> None:
    passable = torch.tensor(
        [[[1, 1, 1, 0, 1], [0, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1]]], dtype=torch.bool
    )
    seeds = torch.zeros_like(passable)
    seeds[0, 0, 0] = True
    expected = passable.clone()
    expected[0, :, 4] = False
    assert torch.equal(flood(passable, seeds), expected)


def test_flood_agrees_with_connected_components() -> None:
    import SimpleITK as sitk

    passable = torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(3)) > 0.6
    components = sitk.GetArrayFromImage(
        sitk.ConnectedComponent(sitk.GetImageFromArray(passable.numpy().astype(np.uint8)))
    )
    for value in range(1, min(6, components.max() + 1)):
        seeds = torch.zeros_like(passable)
        seeds[tuple(np.argwhere(components == value)[0])] = True
        np.testing.assert_array_equal(flood(passable, seeds).numpy(), components == value)


def test_only_the_largest_component_of_the_asked_label_is_kept() -> None:
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[5, 7, 7] = 1
    labels[0, 0, 7] = 2
    cleaned = keep_largest_component(labels, 1)
    assert (cleaned[1:4, 1:4, 1:4] == 1).all()
    assert cleaned[5, 7, 7] == 0
    assert cleaned[0, 0, 7] == 2
    assert labels[5, 7, 7] == 1
    np.testing.assert_array_equal(keep_largest_component(labels, 9), labels)


def test_ct_tissues_labels_the_phantom_exactly(tmp_path: Path) -> None:
    from AIDicomBridgeLib import load_model

    voxels = body_phantom((16, 64, 72))
    volume = read_volume(save_series(make_series(voxels, spacing_mm=(3.0, 3.0, 3.0)), tmp_path))

    result = load_model("ct-tissues").segment(volume)

    expected = np.zeros(voxels.shape, np.uint8)
    for label, hounsfield in ((1, -850), (2, -100), (3, 50), (4, 700)):
        expected[voxels == hounsfield] = label
    np.testing.assert_array_equal(result.labels, expected)
    assert result.provenance is not None
    assert not result.provenance.learned


def test_a_model_refuses_a_modality_that_its_card_does_not_name(tmp_path: Path) -> None:
    from AIDicomBridgeLib import load_model

    volume = read_volume(save_series(make_series(body_phantom((3, 8, 8)), modality="MR"), tmp_path))
    with pytest.raises(ModelError, match="works on CT, not on MR"):
        load_model("ct-tissues").segment(volume)


def test_an_unusable_device_is_refused() -> None:
    from AIDicomBridgeLib import load_model

    with pytest.raises(ModelError, match="'nonsense'"):
        load_model("ct-tissues", device="nonsense")


def test_a_model_refuses_another_body_part_unless_told(tmp_path: Path) -> None:
    from dataclasses import replace

    from AIDicomBridgeLib import Catalogue, load_model

    card = replace(Catalogue.load()["ct-tissues"], body_parts=("HEAD",))
    volume = read_volume(save_series(make_series(body_phantom()), tmp_path))
    with pytest.raises(ModelError, match="works on HEAD, and the series says ABDOMEN"):
        load_model(card).segment(volume)
    assert load_model(card).segment(volume, any_body_part=True).labels.any()
    volume.source.headers[0].BodyPartExamined = ""
    assert load_model(card).segment(volume).labels.any()
