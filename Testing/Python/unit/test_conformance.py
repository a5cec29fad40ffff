"""Faults planted into good results: each is found, and good results have none."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.secondary_capture import build_secondary_captures
from AIDicomBridgeLib.results.segment_description import with_tracking_uids
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from checked_results import Results, assert_found
from pydicom import Dataset
from pydicom.uid import generate_uid
from segmented import make_labels


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_good_results_have_no_findings(tmp_path: Path, encoding: str) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    segmentation = build_segmentation(labels, encoding=encoding)
    report = build_measurement_report(labels, measure(labels, volume), segmentation=segmentation)
    captures = build_secondary_captures(labels, volume, segmentation=segmentation)
    everything = [segmentation, report, *captures]
    for result in everything:
        assert check_conformance(result, labels.source, related=everything) == []
    assert check_conformance(segmentation, list(labels.source.headers)) == []


def _unknown_source(segmentation: Dataset) -> None:
    group = segmentation.PerFrameFunctionalGroupsSequence[0]
    group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = generate_uid()


def _wrong_class(segmentation: Dataset) -> None:
    reference = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def _nonsense_code(segmentation: Dataset) -> None:
    segmentation.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "NONSENSE"


def _empty_meaning(segmentation: Dataset) -> None:
    segmentation.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence[0].CodeMeaning = ""


def _gap(segmentation: Dataset) -> None:
    segmentation.SegmentSequence[2].SegmentNumber = 5


def _no_segment(segmentation: Dataset) -> None:
    group = segmentation.PerFrameFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7


def _swapped_references(segmentation: Dataset) -> None:
    first, second = segmentation.PerFrameFunctionalGroupsSequence[:2]
    first.DerivationImageSequence, second.DerivationImageSequence = (
        second.DerivationImageSequence,
        first.DerivationImageSequence,
    )


def _type_code(segmentation: Dataset) -> Dataset:
    return segmentation.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]


def _nonsense_of_fma(segmentation: Dataset) -> None:
    _type_code(segmentation).CodingSchemeDesignator, _type_code(segmentation).CodeValue = "FMA", "NONSENSE"


SEGMENTATION_FAULTS: dict[tuple[str, str], Callable[[Dataset], object]] = {
    ("no frame of reference", "frame of reference"): lambda seg: delattr(seg, "FrameOfReferenceUID"),
    ("other frame of reference", "frame of reference"): lambda seg: setattr(seg, "FrameOfReferenceUID", generate_uid()),
    ("source that does not exist", "neither source nor result"): _unknown_source,
    ("source of another class", "not the SOP Class"): _wrong_class,
    ("series that does not exist", "which is not known"): lambda seg: setattr(
        seg.ReferencedSeriesSequence[0], "SeriesInstanceUID", generate_uid()
    ),
    ("nonsense code", "NONSENSE is no code of SCT"): _nonsense_code,
    ("empty meaning", "lacks its value, scheme or meaning"): _empty_meaning,
    ("gap in segment numbers", "segment numbers"): _gap,
    ("frame of no segment", "belongs to no segment"): _no_segment,
    ("no tracking UID", "tracking identifier and UID"): lambda seg: delattr(seg.SegmentSequence[0], "TrackingUID"),
    ("no algorithm name", "has no name"): lambda seg: delattr(seg.SegmentSequence[0], "SegmentAlgorithmName"),
    ("other patient", "PatientID differs"): lambda seg: setattr(seg, "PatientID", "OTHER"),
    ("other study", "StudyInstanceUID differs"): lambda seg: setattr(seg, "StudyInstanceUID", generate_uid()),
    ("no segments", "segment numbers"): lambda seg: delattr(seg, "SegmentSequence"),
    ("no dimensions", "dimensions of the frames"): lambda seg: delattr(seg, "DimensionIndexSequence"),
    ("wrong number of dimensions", "one index for each dimension"): lambda seg: setattr(
        seg.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0], "DimensionIndexValues", [1, 1, 1]
    ),
    ("no referenced series", "series of the source is not referenced"): lambda seg: delattr(
        seg, "ReferencedSeriesSequence"
    ),
    ("no position", "no position"): lambda seg: delattr(
        seg.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence"
    ),
    ("short pixel data", "length of the pixel data"): lambda seg: setattr(seg, "PixelData", seg.PixelData[:-2]),
    ("unknown DICOM code", "999999 is no code of DCM"): lambda seg: setattr(
        seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].DerivationCodeSequence[0],
        "CodeValue",
        "999999",
    ),
    ("source image of another slice", "lies elsewhere"): _swapped_references,
    ("empty label", "SegmentLabel is empty"): lambda seg: setattr(seg.SegmentSequence[0], "SegmentLabel", ""),
    ("long scheme", "lacks its value, scheme or meaning"): lambda seg: setattr(
        _type_code(seg), "CodingSchemeDesignator", "x" * 24
    ),
    ("long meaning", "longer than DICOM allows"): lambda seg: setattr(_type_code(seg), "CodeMeaning", "x" * 65),
    ("nonsense code of FMA", "NONSENSE is no code of FMA"): _nonsense_of_fma,
    ("wrong number of frames", "number of frames"): lambda seg: setattr(seg, "NumberOfFrames", 2),
}


@pytest.mark.parametrize("fault", SEGMENTATION_FAULTS, ids=lambda fault: fault[0])
def test_faults_of_a_segmentation_are_found(results: Results, fault: tuple[str, str]) -> None:
    segmentation = deepcopy(results.segmentation)
    SEGMENTATION_FAULTS[fault](segmentation)
    assert_found(segmentation, results, fault[1])


def _flipped_bit(segmentation: Dataset) -> None:
    pixels = bytearray(segmentation.PixelData)
    pixels[len(pixels) // 2] ^= 1
    segmentation.PixelData = bytes(pixels)


def _swapped_frames(segmentation: Dataset) -> None:
    groups = segmentation.PerFrameFunctionalGroupsSequence
    first, second = (groups[number].PlanePositionSequence[0] for number in (0, 1))
    first.ImagePositionPatient, second.ImagePositionPatient = second.ImagePositionPatient, first.ImagePositionPatient


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_voxels_that_are_not_the_labels_are_found(tmp_path: Path, encoding: str) -> None:
    labels = with_tracking_uids(make_labels(tmp_path), generate_uid)
    masks = np.stack([labels.mask(segment) for segment in labels.segments])
    labels = replace(labels, probabilities=masks.astype(np.float32) * 0.75)
    good = build_segmentation(labels, encoding=encoding)
    assert check_conformance(good, labels.source, labels=labels) == []
    for damage in (_flipped_bit, _swapped_frames):
        segmentation = deepcopy(good)
        damage(segmentation)
        found = check_conformance(segmentation, labels.source, labels=labels)
        assert any("not those of the labels" in finding.message or "read back" in finding.message for finding in found)


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_codes_that_are_not_the_labels_are_found(tmp_path: Path, encoding: str) -> None:
    labels = with_tracking_uids(make_labels(tmp_path), generate_uid)
    segmentation = build_segmentation(labels, encoding=encoding)
    item = segmentation.SegmentSequence[-1]  # bone of the left chest
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    kind.CodeValue, kind.CodeMeaning = "10200004", "Liver"
    del item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence
    item.AnatomicRegionSequence[0].CodeMeaning = "Abdomen"
    item.SegmentLabel = "Liver"
    assert [finding.message for finding in check_conformance(segmentation, labels.source, labels=labels)] == [
        "The type of the segment 3 is not that of the labels.",
        "The region of the segment 3 is not that of the labels.",
        "The region_modifier of the segment 3 is not that of the labels.",
        "The segment 3 has another name than in the labels.",
    ]


@pytest.mark.parametrize("compression", ["RLE", "JPEG-LS"])
def test_compressed_segmentations_have_a_frame_for_each_frame(tmp_path: Path, compression: str) -> None:
    labels = with_tracking_uids(make_labels(tmp_path), generate_uid)
    segmentation = build_segmentation(labels, encoding="LABELMAP", compression=compression)
    assert check_conformance(segmentation, labels.source, labels=labels) == []
    segmentation.PixelData = segmentation.PixelData[:200]
    found = check_conformance(segmentation, labels.source)
    assert any("fewer frames" in finding.message for finding in found)


CAPTURE_FAULTS: dict[tuple[str, str], Callable[[Dataset], object]] = {
    ("no source", "SourceImageSequence is absent"): lambda sc: delattr(sc, "SourceImageSequence"),
    ("source that does not exist", "neither source nor result"): lambda sc: setattr(
        sc.SourceImageSequence[0], "ReferencedSOPInstanceUID", generate_uid()
    ),
    ("silent about burnt-in text", "BurnedInAnnotation is absent"): lambda sc: delattr(sc, "BurnedInAnnotation"),
    ("claims to be original", "derived"): lambda sc: setattr(sc, "ImageType", ["ORIGINAL", "PRIMARY"]),
    ("in the series of the source", "series of its source"): lambda sc: setattr(sc, "SeriesInstanceUID", "1.2.3"),
}


@pytest.mark.parametrize("fault", CAPTURE_FAULTS, ids=lambda fault: fault[0])
def test_faults_of_a_capture_are_found(results: Results, fault: tuple[str, str]) -> None:
    capture = deepcopy(results.capture)
    CAPTURE_FAULTS[fault](capture)
    if capture.SeriesInstanceUID == "1.2.3":
        capture.SeriesInstanceUID = results.source.series_uid
    assert_found(capture, results, fault[1])


def test_a_reused_instance_uid_is_found(results: Results) -> None:
    capture = deepcopy(results.capture)
    capture.SOPInstanceUID = results.source.sop_instance_uids[0]
    assert_found(capture, results, "of another object")


def test_findings_hold_no_patient_data(results: Results) -> None:
    capture = deepcopy(results.capture)
    capture.PatientName = "Canary^Bird"
    found = check_conformance(capture, results.source, related=[results.segmentation])
    assert [finding.path for finding in found] == ["PatientName"]
    assert "Canary" not in str(found)
    assert "Synthetic" not in str(found)


def test_faulty_codes_of_the_source_are_not_ours(results: Results) -> None:
    capture = deepcopy(results.capture)
    broken = Dataset()
    broken.CodeValue = "1"
    capture.ProcedureCodeSequence = [broken]
    assert check_conformance(capture, results.source, related=[results.segmentation]) == []
