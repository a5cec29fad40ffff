"""Faults planted into good results: each is found, and good results have none."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.secondary_capture import build_secondary_captures
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from pydicom.uid import generate_uid
from segmented import make_labels


@dataclass
class Results:
    source: SourceSeries
    segmentation: Dataset
    report: Dataset
    capture: Dataset


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    labels = make_labels(tmp_path_factory.mktemp("ct"))
    volume = read_volume(labels.source)
    segmentation = build_segmentation(labels)
    report = build_measurement_report(labels, measure(labels, volume), segmentation=segmentation)
    capture = build_secondary_captures(labels, volume, segmentation=segmentation, slices=[5])[0]
    return Results(labels.source, segmentation, report, capture)


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


def _group(report: Dataset) -> Dataset:
    return _child(_child(report, "Imaging Measurements"), "Measurement Group")


def _child(item: Dataset, meaning: str) -> Dataset:
    return next(
        child
        for child in item.ContentSequence
        if child.ConceptNameCodeSequence[0].CodeMeaning.lower() == meaning.lower()
    )


def _drop(item: Dataset, meaning: str) -> None:
    dropped = _child(item, meaning)
    item.ContentSequence = [child for child in item.ContentSequence if child is not dropped]


def _wrong_unit(report: Dataset) -> None:
    unit = _child(_group(report), "Volume").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    unit.CodeValue = unit.CodeMeaning = "mm"


def _wrong_relationship(report: Dataset) -> None:
    _child(_group(report), "Volume").RelationshipType = "HAS PROPERTIES"


def _other_tracking_uid(report: Dataset) -> None:
    _child(_group(report), "Tracking Unique Identifier").UID = generate_uid()


def _missing_segment(report: Dataset) -> None:
    _child(_group(report), "Referenced Segment").ReferencedSOPSequence[0].ReferencedSegmentNumber = 9


def _not_evidence(report: Dataset) -> None:
    report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop()


REPORT_FAULTS: dict[tuple[str, str], Callable[[Dataset], object]] = {
    ("wrong unit", "does not fit the quantity"): _wrong_unit,
    ("no tracking UID", "no tracking UID"): lambda report: _drop(_group(report), "Tracking Unique Identifier"),
    ("other tracking UID", "not that of the referenced segment"): _other_tracking_uid,
    ("no referenced segment", "no referenced segment"): lambda report: _drop(_group(report), "Referenced Segment"),
    ("segment that does not exist", "not in the segmentation"): _missing_segment,
    ("wrong relationship", "must be CONTAINS"): _wrong_relationship,
    ("no finding", "no finding"): lambda report: _drop(_group(report), "Finding"),
    ("segmentation is no evidence", "not among the evidence"): _not_evidence,
    ("no groups", "no measurement group"): lambda report: _drop(report, "Imaging Measurements"),
    ("nonsense code", "12345678 is no code of SCT"): lambda report: setattr(
        _child(_group(report), "Finding").ConceptCodeSequence[0], "CodeValue", "12345678"
    ),
}


@pytest.mark.parametrize("fault", REPORT_FAULTS, ids=lambda fault: fault[0])
def test_faults_of_a_report_are_found(results: Results, fault: tuple[str, str]) -> None:
    report = deepcopy(results.report)
    REPORT_FAULTS[fault](report)
    _assert_found(report, results, fault[1])


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
    ("wrong number of frames", "number of frames"): lambda seg: setattr(seg, "NumberOfFrames", 2),
}


@pytest.mark.parametrize("fault", SEGMENTATION_FAULTS, ids=lambda fault: fault[0])
def test_faults_of_a_segmentation_are_found(results: Results, fault: tuple[str, str]) -> None:
    segmentation = deepcopy(results.segmentation)
    SEGMENTATION_FAULTS[fault](segmentation)
    _assert_found(segmentation, results, fault[1])


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
    _assert_found(capture, results, fault[1])


def test_a_reused_instance_uid_is_found(results: Results) -> None:
    capture = deepcopy(results.capture)
    capture.SOPInstanceUID = results.source.sop_instance_uids[0]
    _assert_found(capture, results, "of another object")


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


def _assert_found(result: Dataset, results: Results, message: str) -> None:
    found = check_conformance(result, results.source, related=[results.segmentation])
    assert any(finding.severity == "error" and message in finding.message for finding in found), found
