"""How far slices may lie from a regular grid: rounding of their positions is read, and nothing more than that."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import GeometryError
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.series.geometry import SliceStack, position_tolerance_mm, spacing_mm, stack_slices
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import AXIAL, OBLIQUE, make_series, save_series

PIXEL_MM = 0.4


def _positions(count: int, spacing: float, orientation: tuple[float, ...]) -> np.ndarray:
    normal = np.cross(orientation[:3], orientation[3:])
    return np.array([-31.004, 17.497, 103.251]) + np.arange(count)[:, None] * spacing * normal


def _stacked(positions: np.ndarray, orientation: tuple[float, ...] = AXIAL) -> SliceStack:
    count = len(positions)
    return stack_slices(positions, np.tile(orientation, (count, 1)), np.full((count, 2), PIXEL_MM))


@pytest.mark.parametrize("count", [2, 7, 40, 1000])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@pytest.mark.parametrize(
    ("spacing", "decimals"), [(0.1953, 2), (0.3125, 2), (0.4, 2), (0.625, 2), (1.0, 2), (5.0, 2), (0.08, 3)]
)
def test_rounded_positions_are_a_regular_stack(spacing: float, decimals: int, orientation, count: int) -> None:
    positions = _positions(count, spacing, orientation)
    rounded = positions.round(decimals)
    stack = _stacked(rounded, orientation)
    assert not stack.irregularity
    assert spacing_mm(stack.ijk_to_lps)[0] == pytest.approx(spacing, abs=1.8 * 10**-decimals / (count - 1))
    of_slices = np.array([(0, 0, k, 1) for k in range(count)]) @ stack.ijk_to_lps.T
    misplaced = np.linalg.norm(of_slices[:, :3] - rounded, axis=1).max()
    assert misplaced <= position_tolerance_mm(spacing)


@pytest.mark.parametrize(("spacing", "tolerance"), [(0.1, 0.01), (0.625, 0.02), (1.0, 0.02), (5.0, 0.05)])
def test_no_slice_is_misplaced_by_more_than_a_tenth_of_it(spacing: float, tolerance: float) -> None:
    assert position_tolerance_mm(spacing) == pytest.approx(tolerance)


@pytest.mark.parametrize("at", [1, 20, -2])
@pytest.mark.parametrize(("count", "spacing"), [(40, 0.3125), (40, 0.625), (40, 5.0), (1000, 0.625)])
def test_a_missing_slice_is_found_among_rounded_positions(count: int, spacing: float, at: int) -> None:
    positions = np.delete(_positions(count, spacing, AXIAL).round(2), at, axis=0)
    with pytest.raises(GeometryError, match=r"(?i)slices are missing"):
        _stacked(positions)


@pytest.mark.parametrize(
    ("axis", "spacing", "moved", "words"),
    [
        (2, 0.625, 0.035, "unevenly spaced.*0.035 mm from"),
        (1, 0.625, 0.035, "one line.* 0.035 mm beside"),
        (1, 8.0, 0.045, "one line.* 0.045 mm beside"),  # a hundredth of the spacing is more than a tenth of a pixel
    ],
)
def test_one_slice_that_is_moved_is_found(axis: int, spacing: float, moved: float, words: str) -> None:
    positions = _positions(40, spacing, AXIAL)
    positions[20, axis] += moved
    with pytest.raises(GeometryError, match=words):
        _stacked(positions)


def test_gaps_that_grow_unseen_are_found_by_what_they_add_up_to() -> None:
    gaps = np.linspace(1.0, 1.002, 999)  # two thousandths at most, and 0.25 mm in the middle
    positions = np.zeros((1000, 3))
    positions[1:, 2] = np.cumsum(gaps)
    with pytest.raises(GeometryError, match=r"1\.000 to 1\.002 mm apart, and up to 0\.25. mm"):
        _stacked(positions)


def test_rounding_takes_no_measurement_away(tmp_path: Path) -> None:
    datasets = make_series(np.zeros((8, 10, 12), np.int16), spacing_mm=(0.3125, 0.4, 0.4))
    for dataset in datasets:
        dataset.ImagePositionPatient = [f"{value:.2f}" for value in dataset.ImagePositionPatient]
    volume = read_volume(save_series(datasets, tmp_path), resample=True)
    array = np.zeros(volume.voxels.shape, np.uint8)
    array[2:6, 3:7, 3:7] = 1
    organ = Code("113343008", "SCT", "Organ")
    labels = LabelVolume(array, (Segment(1, "Part", organ, organ, algorithm_name="Test"),), source=volume.source)
    measured = measure(labels, volume)[0]
    assert measured.surface_area_mm2 is not None
    assert measured.volume_ml == pytest.approx(64 * 0.3125 * 0.16 / 1000, rel=0.01)


@pytest.mark.parametrize(("moved", "even"), [(0.045, True), (0.055, False)])
def test_the_tolerance_of_tilted_slices_is_that_of_their_distance_along_the_normal(
    tmp_path: Path, moved: float, even: bool
) -> None:
    datasets = make_series(np.zeros((8, 10, 12), np.int16), spacing_mm=(5.0, 0.4, 0.4))
    for number, dataset in enumerate(datasets):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, f"{float(y) + 3 * number:.3f}", f"{float(z) + moved * (number == 4):.3f}"]
    source = read_volume(save_series(datasets, tmp_path), resample=True).source
    assert source.irregularity
    assert source.is_evenly_spaced is even
