"""What a network is given to see: turned, cropped, resampled, normalised; and the way back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.inference.label_rows import LabelRows
from AIDicomBridgeLib.inference.normalisation import cormack_units, normalise, scale_percentiles
from AIDicomBridgeLib.inference.preparation import frame, network_input
from AIDicomBridgeLib.inference.resampling import axis_matrix, resample, separate_axis
from AIDicomBridgeLib.inference.rules import Decision, InputRules, IntensityStep
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, make_series, save_series


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("spacing_mm", [(3.0, 0.8, 0.6), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("crop", ["none", "nonzero"])
def test_a_network_that_thresholds_marks_the_same_voxels_of_the_source(
    tmp_path: Path, orientation: tuple[float, ...], spacing_mm: tuple[float, float, float], crop: str
) -> None:
    """Turning, resampling to 1 mm and back must not move anything: blocks of 6 voxels come back within their edge."""
    voxels = np.zeros((12, 48, 60), np.int16)
    voxels[3:9, 6:24, 36:54] = 100
    series = make_series(voxels, orientation=orientation, spacing_mm=spacing_mm)
    volume = read_volume(save_series(series, tmp_path))
    rules = InputRules("LIA", (1.0, 1.0, 1.0), (IntensityStep("window", 0, 100),), crop=crop)

    framing = frame([volume], rules)
    tensor = network_input([volume], rules, framing, torch.device("cpu"))
    rows = LabelRows(Decision((0, 1)), framing.grid, framing.box_shape, axis=1)
    rows.put(torch.cat([0.5 - tensor, tensor - 0.5]))
    labels = framing.on_source_grid(rows.labels)

    assert labels.shape == voxels.shape
    assert labels.dtype == np.uint8
    inner, outer = np.zeros_like(labels, bool), np.zeros_like(labels, bool)
    inner[4:8, 8:22, 38:52] = True
    outer[2:10, 4:26, 34:56] = True
    assert labels[inner].all()
    assert not labels[~outer].any()
    if spacing_mm == (1.0, 1.0, 1.0):
        np.testing.assert_array_equal(labels, voxels > 0)


def test_the_body_crop_keeps_the_body_and_halves_the_windows(tmp_path: Path) -> None:
    voxels = np.full((20, 128, 128), -1000, np.int16)
    voxels[:, 40:90, 30:100] = 40
    voxels[:, 110:112, 10:118] = 200  # a thin table
    volume = read_volume(save_series(make_series(voxels, spacing_mm=(2.0, 2.0, 2.0)), tmp_path))
    rules = InputRules("", crop="body")
    box = frame([volume], rules).box
    body = ((0, 20), (40, 90), (30, 100))
    assert all(part.start <= low and part.stop >= high for part, (low, high) in zip(box, body, strict=True))
    assert np.prod([part.stop - part.start for part in box]) < voxels.size / 2


@pytest.mark.parametrize(("count", "size"), [(7, 7), (7, 15), (20, 9), (1, 4)])
@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_resampling_keeps_constants_and_lines_in_place(count: int, size: int, kind: str) -> None:
    matrix = axis_matrix(count, size, kind).astype(float)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    middle = (np.arange(size) + 0.5) * count / size - 0.5
    inside = (middle >= 2) & (middle <= count - 3)
    if inside.any():
        np.testing.assert_allclose((matrix @ np.arange(count))[inside], middle[inside], atol=0.25)


def test_the_coarse_axis_is_the_one_of_much_larger_spacing() -> None:
    assert separate_axis((5.0, 0.8, 0.8), (5.0, 0.8, 0.8)) == 0
    assert separate_axis((1.0, 1.0, 1.0), (1.0, 4.0, 1.0)) == 1
    assert separate_axis((1.0, 1.0, 1.5), (1.5, 1.5, 1.5)) is None
    stepped = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 6, 6)
    doubled = resample(stepped, (8, 12, 12), cubic=True, nearest_axis=0)
    np.testing.assert_allclose(doubled[0, :, 5, 5], [0, 0, 1, 1, 2, 2, 3, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (IntensityStep("window", -100, 100), [0, 0.5, 0.75, 1]),
        (IntensityStep("clip", -50, 60), [-50, 0, 50, 60]),
        (IntensityStep("nnunet-ct", -50, 60, mean=10, std=20), [-3, -0.5, 2, 2.5]),
        (IntensityStep("shift-scale", mean=-200, std=100), [0, 2, 2.5, 5]),
        (IntensityStep("min-max"), [0, 0.4, 0.5, 1]),
        (IntensityStep("z-score", nonzero_only=True), [-1.22474, 0, 0, 1.22474]),
        (IntensityStep("window", 0, 1, modalities=("MR",)), [-200, 0, 50, 300]),
    ],
)
def test_intensity_rules(step: IntensityStep, expected: list[float]) -> None:
    found = normalise(torch.tensor([-200.0, 0.0, 50.0, 300.0])[None], (step,), ["CT"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_z_score_needs_no_numbers_that_apples_gpus_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch.Tensor, "double", lacking)
    values = torch.arange(1.0, 25.0).reshape(1, 2, 3, 4)
    values[0, 0] += 30000  # the digits of float32 suffice
    found = normalise(values.clone(), (IntensityStep("z-score", nonzero_only=True),), ["MR"])
    exact = values.numpy().astype(np.float64)
    np.testing.assert_allclose(found, (exact - exact.mean()) / exact.std(), atol=1e-5)


def test_channels_are_normalised_each_by_itself() -> None:
    first = torch.tensor([-200.0, 0.0, 50.0, 300.0])
    steps = (IntensityStep("min-max", channels=(0,)), IntensityStep("window", 0, 100, channels=(1,)))
    found = normalise(torch.stack([first, first]), steps, ["CT", "CT"])
    np.testing.assert_allclose(found, [[0, 0.4, 0.5, 1], [0, 0, 0.5, 1]], atol=1e-6)


def test_percentiles_are_scaled_and_clipped() -> None:
    scaled = scale_percentiles(torch.arange(101.0), 10, 90)
    assert scaled[:11].max() == 0
    assert scaled[90:].min() == 1
    assert scaled[50] == pytest.approx(0.5)
    assert (scale_percentiles(torch.full((8,), 7.0), 2, 98) == 0).all()


def test_cormack_units_stretch_soft_tissue_only() -> None:
    hounsfield = torch.tensor([-3000, -1024, -124, -24, 76, 1000], dtype=torch.int16)
    np.testing.assert_allclose(cormack_units(hounsfield), [0, 0, 900, 2000, 3100, 4024])
