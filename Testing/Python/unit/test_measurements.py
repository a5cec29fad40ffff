"""Measurements against plain numpy on the whole array."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError, GeometryError, PixelError
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from segmented import PROVENANCE, SEGMENTS, make_labels, make_source
from synthetic import OBLIQUE, body_phantom


def test_volume_and_intensity_are_those_of_the_voxels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(-1000, 3000, (12, 64, 72)).astype(np.int16)
    source = make_source(tmp_path, voxels, orientation=OBLIQUE, spacing_mm=(3.0, 0.8, 0.6))
    array = rng.integers(0, 4, voxels.shape).astype(np.uint8)
    labels = LabelVolume(array, SEGMENTS, source=source, provenance=PROVENANCE)
    for measured in measure(labels, read_volume(source)):
        inside = voxels[array == measured.segment.label].astype(np.float64)
        assert measured.voxel_count == inside.size
        assert measured.volume_ml == pytest.approx(inside.size * 3.0 * 0.8 * 0.6 / 1000, rel=1e-5)
        assert measured.mean == pytest.approx(inside.mean())
        assert measured.standard_deviation == pytest.approx(inside.std(ddof=1))
        assert (measured.minimum, measured.maximum) == (inside.min(), inside.max())


def test_the_spread_of_large_values_keeps_its_digits(tmp_path: Path) -> None:
    source = make_source(tmp_path, modality="MR")
    voxels = (1e7 + np.arange(np.prod(source.shape)).reshape(source.shape) % 3).astype(np.float32)
    array = np.ones(source.shape, np.uint8)
    labels = LabelVolume(array, SEGMENTS[:1], source=source, provenance=PROVENANCE)
    measured = measure(labels, ImageVolume(voxels, source.ijk_to_lps, source))[0]
    assert measured.standard_deviation == pytest.approx(np.std(np.arange(voxels.size) % 3, ddof=1))


def test_a_segment_without_voxels_has_a_volume_of_zero_and_no_intensity(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    empty = replace(labels, labels=np.zeros_like(labels.labels))
    measured = measure(empty, read_volume(labels.source))[0]
    assert (measured.voxel_count, measured.volume_ml, measured.mean) == (0, 0.0, None)
    assert [number.quantity.meaning for number in measured.coded()] == ["Volume"]


def test_one_voxel_has_no_standard_deviation(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    array = np.zeros_like(labels.labels)
    array[3, 4, 5] = 1
    measured = measure(replace(labels, labels=array), read_volume(labels.source))[0]
    assert measured.mean == body_phantom()[3, 4, 5]
    assert measured.standard_deviation is None


@pytest.mark.parametrize(
    ("modality", "unit", "quantity"),
    [("CT", "[hnsf'U]", "Attenuation Coefficient"), ("MR", "1", "MR signal intensity")],
)
def test_the_unit_fits_the_modality(tmp_path: Path, modality: str, unit: str, quantity: str) -> None:
    labels = make_labels(tmp_path, modality=modality)
    mean = measure(labels, read_volume(labels.source))[0].coded()[1]
    assert (mean.unit.value, mean.quantity.meaning, mean.derivation.meaning) == (unit, quantity, "Mean")


def test_values_of_unknown_unit_are_not_reported(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    for header in labels.source.headers:
        header.RescaleType = "US"
    for measured in measure(labels, volume):
        assert measured.mean is None
        assert measured.maximum is None
        assert [item.quantity.meaning for item in measured.coded()] == ["Volume"]
        assert measured.volume_ml > 0


def test_another_grid_or_series_is_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "one")
    with pytest.raises(GeometryError):
        measure(labels, read_volume(make_source(tmp_path / "moved", origin=(0.0, 0.0, 0.0))))
    with pytest.raises(EncodingError, match="not made from this volume"):
        measure(labels, read_volume(make_source(tmp_path / "other")))


def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    voxels = body_phantom().astype(np.float32)
    voxels[labels.labels == 1] = np.nan
    with pytest.raises(PixelError, match="finite"):
        measure(labels, ImageVolume(voxels, labels.ijk_to_lps, labels.source))
