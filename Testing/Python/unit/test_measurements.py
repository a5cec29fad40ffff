"""Measurements against plain numpy on the whole array."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from AIDicomBridgeLib.errors import EncodingError, GeometryError, PixelError
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurements import SegmentMeasurements, measure
from AIDicomBridgeLib.results.quantities import ATTENUATION, HOUNSFIELD, QUANTITIES, fitting_units
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from pydicom import Dataset
from pydicom.sr._concepts_dict import concepts
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
        percentiles = (measured.percentile_10, measured.median, measured.percentile_90)
        assert percentiles == pytest.approx(np.percentile(inside, (10, 50, 90)))


def test_itk_finds_the_same_statistics(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, OBLIQUE)
    voxels = np.random.default_rng(1).normal(40, 300, labels.labels.shape).astype(np.float32)
    itk = sitk.LabelStatisticsImageFilter()
    itk.Execute(sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(labels.labels))
    for measured in measure(labels, ImageVolume(voxels, labels.ijk_to_lps, labels.source)):
        label = measured.segment.label
        assert measured.voxel_count == itk.GetCount(label)
        assert measured.mean == pytest.approx(itk.GetMean(label), rel=1e-6)
        assert measured.standard_deviation == pytest.approx(itk.GetSigma(label), rel=1e-6)
        assert (measured.minimum, measured.maximum) == (itk.GetMinimum(label), itk.GetMaximum(label))


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
    assert (measured.surface_area_mm2, measured.longest_diameter_mm, measured.centroid_lps_mm) == (None, None, None)
    assert [number.quantity.meaning for number in measured.coded()] == ["Number of voxels", "Volume"]


def test_one_voxel_has_no_standard_deviation(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    array = np.zeros_like(labels.labels)
    array[3, 4, 5] = 1
    measured = measure(replace(labels, labels=array), read_volume(labels.source))[0]
    assert measured.mean == body_phantom()[3, 4, 5]
    assert measured.standard_deviation is None
    assert (measured.minimum, measured.median, measured.maximum) == (measured.mean,) * 3


@pytest.mark.parametrize(
    ("modality", "attributes", "unit", "quantity"),
    [
        ("CT", {}, "[hnsf'U]", "Attenuation Coefficient"),
        ("MR", {}, "1", "MR signal intensity"),
        ("PT", {"Units": "BQML"}, "Bq/ml", "Nuclear Medicine Tomographic Activity"),
        ("PT", {"Units": "CNTS"}, "{counts}", "Nuclear Medicine Tomographic Activity"),
        ("PT", {"Units": "CPS"}, "{counts}/s", "Nuclear Medicine Tomographic Activity"),
        ("PT", {"Units": "PROPCNTS"}, "{propcounts}", "Nuclear Medicine Tomographic Activity"),
        ("PT", {"Units": "PROPCPS"}, "{propcounts}/s", "Nuclear Medicine Tomographic Activity"),
        ("PT", {"Units": "GML"}, "g/ml{SUVbw}", "Standardized Uptake Value"),
        ("PT", {"Units": "GML", "SUVType": "BW"}, "g/ml{SUVbw}", "Standardized Uptake Value"),
        ("PT", {"Units": "GML", "SUVType": "LBM"}, "g/ml{SUVlbm}", "Standardized Uptake Value"),
        ("PT", {"Units": "GML", "SUVType": "LBMJAMES128"}, "g/ml{SUVlbm(James128)}", "Standardized Uptake Value"),
        ("PT", {"Units": "GML", "SUVType": "LBMJANMA"}, "g/ml{SUVlbm(Janma)}", "Standardized Uptake Value"),
        ("PT", {"Units": "GML", "SUVType": "IBW"}, "g/ml{SUVibw}", "Standardized Uptake Value"),
        ("PT", {"Units": "GML", "SUVType": "BSA"}, "cm2/ml{SUVbsa}", "Standardized Uptake Value"),
        ("PT", {"Units": "CM2ML"}, "cm2/ml{SUVbsa}", "Standardized Uptake Value"),
    ],
)
def test_the_unit_fits_the_image(
    tmp_path: Path, modality: str, attributes: dict[str, str], unit: str, quantity: str
) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    for header in labels.source.headers:
        header.Modality = modality
        header.update(attributes)
    numbers = measure(labels, volume)[0].coded()
    mean = next(number for number in numbers if number.derivation and number.derivation.meaning == "Mean")
    assert (mean.unit.value, mean.quantity.meaning) == (unit, quantity)
    fitting = fitting_units()
    assert all(
        (number.unit.value, number.unit.scheme) in fitting[number.quantity.value, number.quantity.scheme]
        for number in numbers
    )


def test_every_quantity_is_a_value_and_every_standard_code_is_known() -> None:
    names = set(SegmentMeasurements.__dataclass_fields__)
    for quantity in QUANTITIES:
        assert quantity.name in names
        for code in (quantity.code, quantity.unit, quantity.method, quantity.derivation):
            if code is not None and not code.scheme.startswith("99") and code.value not in ("{voxels}", "ml"):
                known = {value for entry in concepts[code.scheme].values() for value in entry}
                assert code.value in known, code


def test_values_of_unknown_unit_are_not_reported(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    for header in labels.source.headers:
        header.RescaleType = "US"
    for measured in measure(labels, volume):
        assert measured.mean is None
        assert measured.maximum is None
        assert not any(item.derivation for item in measured.coded())
        assert measured.volume_ml > 0


@pytest.mark.parametrize("unit", ["HU", "hu ", "HU_MOD", ""])
def test_ct_that_models_take_as_hounsfield_units_is_measured_in_them(tmp_path: Path, unit: str) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    for header in labels.source.headers:
        header.RescaleType = unit
    for measured in measure(labels, volume):
        assert measured.mean is not None
        assert (measured.intensity, measured.intensity_unit) == (ATTENUATION, HOUNSFIELD)


@pytest.mark.parametrize(
    ("kind", "unit", "known"),
    [
        ("ADC", None, False),
        ("T2_STAR_MAP", None, False),
        ("M", "um2/s", False),
        ("M", "1", True),
        ("M", None, True),
    ],
)
def test_an_mr_map_is_no_signal(tmp_path: Path, kind: str, unit: str | None, known: bool) -> None:
    labels = make_labels(tmp_path, modality="MR")
    volume = read_volume(labels.source)
    for header in labels.source.headers:
        header.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", kind]
        if unit is not None:
            mapping, code = Dataset(), Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
            mapping.MeasurementUnitsCodeSequence = [code]
            header.RealWorldValueMappingSequence = [mapping]
    for measured in measure(labels, volume):
        assert (measured.mean is not None) == known
        assert any(item.quantity.meaning == "MR signal intensity" for item in measured.coded()) == known


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
