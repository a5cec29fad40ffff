"""The results in the hands of others: dciodvfy judges them, dcmqi reads them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.secondary_capture import build_secondary_captures
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from peers.validators import dciodvfy_errors, on_grid, read_labels_with_dcmqi, read_report_with_dcmqi, save
from pydicom import Dataset, dcmread
from segmented import ANATOMY, LEFT, LUNG, PROVENANCE, RIGHT, SEGMENTS, make_labels, make_source, phantom_labels
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, body_phantom, make_series, save_series

SERIES = {
    "axial CT": {"orientation": AXIAL},
    "sagittal MR": {"orientation": SAGITTAL, "modality": "MR"},
    "coronal CT, last slice first": {"orientation": CORONAL, "reverse": True},
    "oblique MR, anisotropic": {"orientation": OBLIQUE, "modality": "MR", "spacing_mm": (5.0, 0.4, 1.1)},
}


@pytest.fixture(params=SERIES)
def labels(request: pytest.FixtureRequest, tmp_path: Path) -> LabelVolume:
    return make_labels(tmp_path / "source", **SERIES[request.param])


def test_dciodvfy_finds_no_error_in_any_result(labels: LabelVolume, tmp_path: Path) -> None:
    volume = read_volume(labels.source)
    segmentation = build_segmentation(labels)
    masks = np.stack([labels.mask(segment) for segment in labels.segments])
    fractions = replace(labels, probabilities=masks.astype(np.float32))
    results = {
        "BINARY": segmentation,
        "LABELMAP": build_segmentation(labels, encoding="LABELMAP"),
        "LABELMAP, RLE": build_segmentation(labels, encoding="LABELMAP", compression="RLE"),
        "FRACTIONAL": build_segmentation(fractions, encoding="FRACTIONAL"),
        "FRACTIONAL, JPEG-LS": build_segmentation(fractions, encoding="FRACTIONAL", compression="JPEG-LS"),
        "report": build_measurement_report(
            labels, measure(labels, volume), segmentation=segmentation, observer_name="A^B"
        ),
        "capture": build_secondary_captures(labels, volume, segmentation=segmentation, slices=[5])[0],
    }
    assert {name: dciodvfy_errors(result, tmp_path) for name, result in results.items()} == {
        name: [] for name in results
    }


def test_dcmqi_gives_the_binary_labels_at_the_same_world_positions(labels: LabelVolume, tmp_path: Path) -> None:
    images, segments = read_labels_with_dcmqi(build_segmentation(labels), tmp_path)
    assert [item["SegmentLabel"] for item in segments] == [segment.name for segment in labels.segments]
    for image, segment in zip(images, labels.segments, strict=True):
        values = on_grid(image, labels.labels.shape, labels.ijk_to_lps)
        assert np.array_equal(values > 0, labels.labels == segment.label)


@pytest.mark.parametrize("compression", [None, "RLE"])
def test_dcmqi_gives_the_labelmap_at_the_same_world_positions(
    labels: LabelVolume, tmp_path: Path, compression: str | None
) -> None:
    segmentation = build_segmentation(labels, encoding="LABELMAP", compression=compression)
    images, _ = read_labels_with_dcmqi(segmentation, tmp_path)
    assert len(images) == 1
    assert np.array_equal(on_grid(images[0], labels.labels.shape, labels.ijk_to_lps), labels.labels)


def test_dcmqi_reads_codes_sides_and_algorithm(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "source")
    _, segments = read_labels_with_dcmqi(build_segmentation(labels), tmp_path)
    assert segments[0]["SegmentedPropertyTypeModifierCodeSequence"]["CodeMeaning"] == "Right"
    assert segments[1]["SegmentedPropertyTypeModifierCodeSequence"]["CodeMeaning"] == "Left"
    assert segments[2]["AnatomicRegionSequence"]["CodeMeaning"] == "Chest"
    assert segments[2]["AnatomicRegionModifierSequence"]["CodeMeaning"] == "Left"
    assert segments[2]["TrackingUniqueIdentifier"] == "1.2.3.4"
    assert {item["SegmentAlgorithmName"] for item in segments} == {"phantomnet"}
    assert segments[0]["recommendedDisplayRGBValue"] == pytest.approx([197, 165, 145], abs=1)


# As Slicer's terminology and TotalSegmentator code them; the side is a modifier of the type.
SIDED = (
    Segment(1, "Left lung", ANATOMY, LUNG, type_modifier=LEFT),
    Segment(2, "Right lung", ANATOMY, LUNG, type_modifier=RIGHT),
    Segment(3, "Left kidney", ANATOMY, Code("64033007", "SCT", "Kidney"), type_modifier=LEFT),
    Segment(4, "Vertebra L3", ANATOMY, Code("36470004", "SCT", "L3 vertebra")),
    Segment(
        5,
        "Lesion",
        Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        Code("52988006", "SCT", "Lesion"),
        region=Code("64033007", "SCT", "Kidney"),
        region_modifier=LEFT,
    ),
)


def test_dcmqi_finds_every_slice_where_one_is_missing(tmp_path: Path) -> None:
    datasets = make_series(body_phantom((7, 32, 36)))
    del datasets[3]
    for dataset in datasets:
        dataset.SliceThickness = "1"  # thin slices with gaps: no substitute for the spacing
    source = SourceSeries.from_files(save_series(datasets, tmp_path / "source"), resample=True)
    labels = LabelVolume(np.ones(source.shape, np.uint8), SEGMENTS, source=source, provenance=PROVENANCE)
    (image,), _ = read_labels_with_dcmqi(build_segmentation(labels), tmp_path)
    assert image.GetSpacing() == pytest.approx((0.6, 0.8, 3.0))
    assert sitk.GetArrayViewFromImage(image).any(axis=(1, 2)).tolist() == [True, True, True, False, True, True, True]


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_left_and_right_arrive_in_dcmqis_description(tmp_path: Path, encoding: str) -> None:
    source = make_source(tmp_path / "source")
    array = np.zeros(source.shape, np.uint8)
    for segment in SIDED:
        array[3:8, 10 * segment.label : 10 * segment.label + 6, 20:40] = segment.label
    labels = LabelVolume(array, SIDED, source=source, provenance=PROVENANCE)
    _, described = read_labels_with_dcmqi(build_segmentation(labels, encoding=encoding), tmp_path)
    assert [item["SegmentLabel"] for item in described] == [segment.name for segment in SIDED]
    for item, segment in zip(described, SIDED, strict=True):
        for name, code in (
            ("SegmentedPropertyCategoryCodeSequence", segment.category),
            ("SegmentedPropertyTypeCodeSequence", segment.type),
            ("SegmentedPropertyTypeModifierCodeSequence", segment.type_modifier),
            ("AnatomicRegionSequence", segment.region),
            ("AnatomicRegionModifierSequence", segment.region_modifier),
        ):
            found = item.get(name)
            read = found and (found["CodeValue"], found["CodingSchemeDesignator"], found["CodeMeaning"])
            assert read == (code and (code.value, code.scheme, code.meaning))


def test_a_private_code_is_carried_as_it_is(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "source")
    private = Code("THING1", "99LOCAL", "Thing that no one has coded yet")
    labels = replace(labels, segments=(*labels.segments[:2], Segment(3, "Thing", ANATOMY, private)))
    segmentation = build_segmentation(labels)
    assert check_conformance(segmentation, labels.source) == []
    assert dciodvfy_errors(segmentation, tmp_path) == []
    _, described = read_labels_with_dcmqi(segmentation, tmp_path)
    assert described[2]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == "THING1"


def test_slicer_reads_all_segments_at_once(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "source")
    images, described = read_labels_with_dcmqi(build_segmentation(labels), tmp_path, merge=True)
    assert len(images) == 1
    values = on_grid(images[0], labels.labels.shape, labels.ijk_to_lps)
    for item, segment in zip(described, labels.segments, strict=True):
        assert np.array_equal(values == item["labelID"], labels.labels == segment.label)


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_empty_segmentations_are_valid_and_readable(tmp_path: Path, encoding: str) -> None:
    full = make_labels(tmp_path / "source")
    empty = LabelVolume(np.zeros_like(full.labels), full.segments, source=full.source, provenance=full.provenance)
    segmentation = build_segmentation(empty, encoding=encoding)
    assert dciodvfy_errors(segmentation, tmp_path) == []
    images, _ = read_labels_with_dcmqi(segmentation, tmp_path)
    assert not any(on_grid(image, empty.labels.shape, empty.ijk_to_lps).any() for image in images)


def test_poor_headers_give_results_without_error(tmp_path: Path) -> None:
    datasets = make_series(body_phantom())
    for dataset in datasets:
        dataset.SpecificCharacterSet, dataset.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"
        for name in ("StudyID", "AccessionNumber", "PatientBirthDate", "SliceThickness", "BodyPartExamined"):
            del dataset[name]
        with pytest.warns(UserWarning, match="Invalid value"):
            dataset.StudyTime, dataset.PatientSex = "10:11:12", "male"
        dataset.ProcedureCodeSequence = [Dataset()]
    source = SourceSeries.from_files(save_series(datasets, tmp_path / "source"))
    labels = LabelVolume(phantom_labels(source.shape), SEGMENTS, source=source, provenance=PROVENANCE)
    volume = read_volume(source)
    segmentation = build_segmentation(labels)
    report = build_measurement_report(labels, measure(labels, volume), segmentation=segmentation)
    capture = build_secondary_captures(labels, volume, segmentation=segmentation, slices=[5])[0]
    for result in (segmentation, report, capture):
        assert dciodvfy_errors(result, tmp_path) == []
        assert check_conformance(result, source, related=[segmentation]) == []
        assert str(dcmread(save(result, tmp_path)).PatientName) == "Yamada^Tarou=山田^太郎"


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_dcmqi_reads_the_volumes_from_the_report(labels: LabelVolume, tmp_path: Path, encoding: str) -> None:
    measurements = measure(labels, read_volume(labels.source))
    segmentation = build_segmentation(labels, encoding=encoding)
    report = build_measurement_report(labels, measurements, segmentation=segmentation)
    groups = read_report_with_dcmqi(report, tmp_path)["Measurements"]
    items = [item for item in segmentation.SegmentSequence if item.SegmentNumber != 0]
    assert len(groups) == len(measurements)
    for group, measured, item in zip(groups, measurements, items, strict=True):
        assert group["TrackingUniqueIdentifier"] == item.TrackingUID
        assert group["ReferencedSegment"] == int(item.SegmentNumber)
        assert group["SourceSeriesForImageSegmentation"] == labels.source.series_uid
        volume = next(m for m in group["measurementItems"] if m["quantity"]["CodeMeaning"] == "Volume")
        assert float(volume["value"]) == pytest.approx(measured.volume_ml)
        assert volume["units"]["CodeValue"] == "ml"
