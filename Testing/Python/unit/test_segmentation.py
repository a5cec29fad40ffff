"""Segmentations: what is written, and that it comes back voxel for voxel."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, EncodingError, GeometryError
from AIDicomBridgeLib.results.codes import coded_concept
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Provenance, Segment
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from segmented import ANATOMY, LEFT, LUNG, PROVENANCE, RIGHT, SEGMENTS, make_labels, make_source
from synthetic import AXIAL, OBLIQUE, SAGITTAL

ENCODINGS = [("BINARY", None), ("LABELMAP", None), ("LABELMAP", "RLE")]


@pytest.mark.parametrize(("encoding", "compression"), ENCODINGS)
@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("reverse", [False, True])
def test_labels_come_back_voxel_for_voxel(
    tmp_path: Path, encoding: str, compression: str | None, orientation: tuple[float, ...], reverse: bool
) -> None:
    labels = make_labels(tmp_path / "ct", orientation, reverse=reverse)
    path = tmp_path / "seg.dcm"
    build_segmentation(labels, encoding=encoding, compression=compression).save_as(path, enforce_file_format=True)
    back = read_segmentation(path, labels.source)
    assert np.array_equal(back.labels, labels.labels)
    assert back.provenance == PROVENANCE
    for ours, theirs in zip(labels.segments, back.segments, strict=True):
        for name in ("label", "name", "category", "type", "type_modifier", "region", "region_modifier"):
            assert getattr(theirs, name) == getattr(ours, name)
    assert back.segments[0].color_rgb == pytest.approx(SEGMENTS[0].color_rgb, abs=1)
    assert back.segments[2].tracking_uid == "1.2.3.4"


def test_rows_times_columns_need_not_fill_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path, np.zeros((3, 5, 7), np.int16))
    array = np.random.default_rng(1).integers(0, 4, source.shape).astype(np.uint16)
    labels = LabelVolume(array, SEGMENTS, source=source, provenance=PROVENANCE)
    assert np.array_equal(read_segmentation(build_segmentation(labels), source).labels, array)


def test_a_single_slice_can_be_segmented(tmp_path: Path) -> None:
    source = make_source(tmp_path, np.zeros((1, 16, 16), np.int16))
    array = np.zeros(source.shape, np.uint8)
    array[0, 3:7, 2:5] = 1
    labels = LabelVolume(array, SEGMENTS, source=source, provenance=PROVENANCE)
    assert np.array_equal(read_segmentation(build_segmentation(labels), source).labels, array)


def test_binary_numbers_segments_without_gaps_and_labelmap_by_label(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    array = np.zeros(source.shape, np.uint16)
    array[4, 10:20, 10:20], array[5, 10:20, 10:20] = 7, 300
    segments = (Segment(7, "Seven", ANATOMY, LUNG), Segment(300, "Three hundred", ANATOMY, LUNG))
    labels = LabelVolume(array, segments, source=source, provenance=PROVENANCE)
    binary = build_segmentation(labels)
    assert [int(item.SegmentNumber) for item in binary.SegmentSequence] == [1, 2]
    back = read_segmentation(binary, source)
    assert np.array_equal(back.labels == back.segment("Three hundred").label, array == 300)
    labelmap = read_segmentation(build_segmentation(labels, encoding="LABELMAP"), source)
    assert np.array_equal(labelmap.labels, array)
    assert labelmap.labels.dtype == np.uint16


@pytest.mark.parametrize(("encoding", "compression"), ENCODINGS)
def test_labels_without_content_are_written_as_empty_frames(
    tmp_path: Path, encoding: str, compression: str | None
) -> None:
    labels = make_labels(tmp_path)
    empty = replace(labels, labels=np.zeros_like(labels.labels))
    segmentation = build_segmentation(empty, encoding=encoding, compression=compression)
    assert int(segmentation.NumberOfFrames) == (3 if encoding == "BINARY" else 1)
    assert not read_segmentation(segmentation, labels.source).labels.any()


def test_empty_frames_are_left_out(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    expected = sum(int((plane == segment.label).any()) for plane in labels.labels for segment in labels.segments)
    assert int(build_segmentation(labels).NumberOfFrames) == expected


def test_each_frame_names_its_own_source_image(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, OBLIQUE)
    positions = {str(h.SOPInstanceUID): list(h.ImagePositionPatient) for h in labels.source.headers}
    for group in build_segmentation(labels).PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert positions[source.ReferencedSOPInstanceUID] == group.PlanePositionSequence[0].ImagePositionPatient


def test_the_object_belongs_to_the_patients_study_and_says_who_made_it(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, patient_name="Åström^Zoë=山田^太郎")
    now = datetime(2026, 3, 4, 5, 6, 7)
    segmentation = build_segmentation(labels, now=now)
    header = labels.source.headers[0]
    for name in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber", "StudyID"):
        assert segmentation[name].value == header[name].value
    assert segmentation.FrameOfReferenceUID == labels.source.frame_of_reference_uid
    assert segmentation.BodyPartExamined == "ABDOMEN"
    assert segmentation.SeriesInstanceUID != labels.source.series_uid
    assert (segmentation.SeriesDate, segmentation.SeriesTime) == ("20260304", "050607.000000")
    assert segmentation.SeriesNumber // 10000 == 11
    assert segmentation.SeriesDescription == "phantomnet segmentation (not for diagnostic use)"
    assert str(segmentation.ContentCreatorName) == "AIDicomBridge^"
    assert segmentation.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    algorithm = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("phantomnet", "2.1")
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    equipment = segmentation.ContributingEquipmentSequence[-1]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "1630"
    assert equipment.DeviceUID.startswith("2.25.")
    assert "not for diagnostic use" in equipment.ContributionDescription


def test_rules_are_not_called_artificial_intelligence(tmp_path: Path) -> None:
    labels = replace(make_labels(tmp_path), provenance=replace(PROVENANCE, learned=False))
    algorithm = build_segmentation(labels).SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Morphological Operations"


def test_sides_are_written_as_modifiers(tmp_path: Path) -> None:
    items = build_segmentation(make_labels(tmp_path)).SegmentSequence
    sides = [
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeValue
        for item in items[:2]
    ]
    assert sides == [RIGHT.value, LEFT.value]
    assert items[2].AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue == LEFT.value


def test_hand_made_segments_need_no_algorithm(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    manual = tuple(replace(segment, algorithm_type="MANUAL") for segment in labels.segments)
    segmentation = build_segmentation(replace(labels, segments=manual, provenance=None))
    assert "SegmentAlgorithmName" not in segmentation.SegmentSequence[0]
    with pytest.raises(EncodingError, match="names no algorithm"):
        build_segmentation(replace(labels, provenance=None))


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_an_algorithm_may_have_a_name_alone(tmp_path: Path, encoding: str) -> None:
    labels = make_labels(tmp_path)
    named = tuple(replace(segment, algorithm_name="somebody's") for segment in labels.segments)
    segmentation = build_segmentation(replace(labels, segments=named, provenance=None), encoding=encoding)
    assert {(item.SegmentAlgorithmType, item.SegmentAlgorithmName) for item in segmentation.SegmentSequence} == {
        ("AUTOMATIC", "somebody's")
    }
    assert check_conformance(segmentation, labels.source) == []
    back = read_segmentation(segmentation, labels.source)
    assert (back.provenance, back.segments[0].provenance, back.segments[0].algorithm_name) == (None, None, "somebody's")


def _algorithms(segmentation: Dataset) -> list[tuple[str, str | None]]:
    found = []
    for item in segmentation.SegmentSequence:
        said = item.get("SegmentationAlgorithmIdentificationSequence")
        found.append((item.SegmentAlgorithmName, said[0].AlgorithmVersion if said else None))
    return found


def test_each_segment_keeps_its_algorithm_and_its_tracking(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    first, second, third = labels.segments
    segments = (
        first,
        replace(second, algorithm_name="other", provenance=Provenance("other", "9.9", learned=False)),
        replace(third, algorithm_name="unknown", provenance=Provenance("unknown", "")),
    )
    segmentation = build_segmentation(replace(labels, segments=segments))
    expected = [("phantomnet", "2.1"), ("other", "9.9"), ("unknown", None)]
    assert _algorithms(segmentation) == expected
    segmentation.SegmentSequence[1].TrackingID = "theirs"
    back = read_segmentation(segmentation, labels.source)
    assert back.provenance == PROVENANCE
    again = build_segmentation(back)
    assert _algorithms(again) == expected
    assert [(item.TrackingID, item.TrackingUID) for item in again.SegmentSequence] == [
        (item.TrackingID, item.TrackingUID) for item in segmentation.SegmentSequence
    ]


def test_of_several_modifiers_the_side_is_kept_and_incomplete_codes_are_left_out(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    segmentation = build_segmentation(labels)
    first, second, third = segmentation.SegmentSequence
    upper = coded_concept(Code("261183002", "SCT", "Upper"))
    first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence.insert(0, upper)
    del second.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning
    second.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeValue = ""
    del third.AnatomicRegionSequence[0].CodeMeaning
    third.TrackingUID = "none"
    back = read_segmentation(segmentation, labels.source)
    assert [segment.type_modifier for segment in back.segments] == [RIGHT, None, None]
    assert (back.segments[2].region, back.segments[2].region_modifier, back.segments[2].tracking_uid) == (None,) * 3
    assert "AlgorithmFamilyCodeSequence" in second.SegmentationAlgorithmIdentificationSequence[0]


def test_a_segment_without_a_label_is_called_by_its_number(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    segmentation = build_segmentation(labels)
    segmentation.SegmentSequence[1].SegmentLabel = ""
    back = read_segmentation(segmentation, labels.source)
    assert [segment.name for segment in back.segments][1] == "Segment 2"


def test_rle_is_compressed_and_every_object_gets_new_uids(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    first = build_segmentation(labels, encoding="LABELMAP", compression="RLE")
    second = build_segmentation(labels, encoding="LABELMAP", compression="RLE")
    assert first.file_meta.TransferSyntaxUID == RLELossless
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


@pytest.mark.parametrize("arguments", [{"compression": "RLE"}, {"encoding": "binary"}])
def test_an_unsupported_encoding_says_what_is_supported(tmp_path: Path, arguments: dict[str, str]) -> None:
    with pytest.raises(EncodingError, match="Supported are BINARY, and LABELMAP and FRACTIONAL with"):
        build_segmentation(make_labels(tmp_path), **arguments)  # type: ignore[arg-type]


def test_a_source_without_frame_of_reference_is_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    for header in labels.source.headers:
        del header.FrameOfReferenceUID
    with pytest.raises(EncodingError, match="Frame of Reference"):
        build_segmentation(labels)


def test_a_segmentation_of_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "one", study_uid="1.2.3")
    other = make_source(tmp_path / "other", study_uid="1.2.3")
    with pytest.raises(ConflictError, match="FrameOfReferenceUID"):
        read_segmentation(build_segmentation(labels), other)


@pytest.mark.parametrize(
    "grid",
    [
        {"origin": (-31.0, 17.5, 104.0)},
        {"origin": (-30.0, 17.5, 103.25)},
        {"spacing_mm": (3.0, 0.81, 0.6)},
        {"orientation": OBLIQUE},
        {"voxels": np.zeros((12, 64, 73), np.int16)},
        {"voxels": np.zeros((5, 64, 72), np.int16)},
    ],
)
def test_a_segmentation_of_another_grid_is_refused(tmp_path: Path, grid: dict) -> None:
    labels = make_labels(tmp_path / "one", study_uid="1.2.3", frame_of_reference_uid="1.2.4")
    other = make_source(tmp_path / "other", study_uid="1.2.3", frame_of_reference_uid="1.2.4", **grid)
    with pytest.raises(GeometryError):
        read_segmentation(build_segmentation(labels), other)


def test_two_frames_of_one_segment_on_one_slice_are_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    segmentation = build_segmentation(labels)
    for group in segmentation.PerFrameFunctionalGroupsSequence:  # every frame now lies on one slice
        group.PlanePositionSequence[0].ImagePositionPatient = labels.source.headers[5].ImagePositionPatient
    with pytest.raises(BadDicomError, match="same voxels of one segment"):
        read_segmentation(segmentation, labels.source)


def _without_frames(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence


def _with_too_many_frames(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 10**6


def _truncated(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:100]


def _without_codes(dataset: Dataset) -> None:
    del dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence


def _of_an_undescribed_segment(dataset: Dataset) -> None:
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 200


@pytest.mark.parametrize(
    "damage", [_without_frames, _with_too_many_frames, _truncated, _without_codes, _of_an_undescribed_segment]
)
def test_a_damaged_segmentation_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    labels = make_labels(tmp_path)
    segmentation = build_segmentation(labels)
    damage(segmentation)  # type: ignore[operator]
    with pytest.raises((BadDicomError, EncodingError)) as caught:
        read_segmentation(segmentation, labels.source)
    assert segmentation.SOPInstanceUID in str(caught.value)


def test_an_image_is_no_segmentation(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    with pytest.raises(BadDicomError, match="no DICOM Segmentation"):
        read_segmentation(dcmread(source.paths[0]), source)
