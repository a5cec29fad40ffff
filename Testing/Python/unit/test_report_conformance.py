"""Faults planted into good reports of every kind, whatever the SR class: each is found."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from AIDicomBridgeLib.results.classification_report import build_classification_report
from AIDicomBridgeLib.results.codes import PRESENCE
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.detection_report import build_detection_report
from AIDicomBridgeLib.results.labels import Code
from AIDicomBridgeLib.results.observations import Classification, Detection, Evaluation
from AIDicomBridgeLib.results.regions import Region
from AIDicomBridgeLib.series.source_series import SourceSeries
from pydicom import Dataset
from pydicom.uid import generate_uid
from segmented import make_source

NODULE = Code("27925004", "SCT", "Nodule")
PRESENT = Evaluation(PRESENCE, Code("52101004", "SCT", "Present"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return make_source(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def reports(source: SourceSeries) -> dict[str, Dataset]:
    """Good reports, each with two groups."""
    classifications = [
        Classification("series", (PRESENT,), probability=0.9),
        Classification("study", (PRESENT,), level="study"),
    ]
    detections = [
        Detection(name, NODULE, Region.point((10 + n, 20, 3), ijk_to_lps=source.ijk_to_lps), score=0.5)
        for n, name in enumerate(("one", "two"))
    ]
    return {
        "classification": build_classification_report(classifications, source, sr_class="ENHANCED"),
        "detection": build_detection_report(detections, source),
        "detection on slices": build_detection_report(detections, source, sr_class="COMPREHENSIVE"),
    }


def _groups(report: Dataset) -> list[Dataset]:
    return list(report.ContentSequence[-1].ContentSequence)


def _children(report: Dataset, kind: str, group: int = 0) -> list[Dataset]:
    return [item for item in _groups(report)[group].ContentSequence if item.ValueType == kind]


def _drop(report: Dataset, kind: str) -> None:
    group = _groups(report)[0]
    group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != kind]


def _share_tracking(report: Dataset) -> None:
    first, second = (
        next(item for item in _children(report, "UIDREF", group) if "Tracking" in str(item.ConceptNameCodeSequence[0]))
        for group in (0, 1)
    )
    second.UID = first.UID


def _named(report: Dataset, meaning: str, group: int = 0) -> Dataset:
    return next(
        item
        for item in _groups(report)[group].ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning.lower() == meaning.lower()
    )


FAULTS: dict[tuple[str, str], Callable[[Dataset], object]] = {
    ("classification", "not between 0 and 1"): lambda report: setattr(
        _named(report, "Probability").MeasuredValueSequence[0], "NumericValue", "93"
    ),
    ("classification", "does not fit the quantity"): lambda report: setattr(
        _named(report, "Probability").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0], "CodeValue", "%"
    ),
    ("classification", "The source series is not known"): lambda report: setattr(
        _named(report, "Series Instance UID"), "UID", generate_uid()
    ),
    ("classification", "The study is not the source's"): lambda report: setattr(
        _named(report, "Study Instance UID", 1), "UID", generate_uid()
    ),
    ("classification", "no referenced segment, region, image, series or study"): lambda report: _drop(report, "UIDREF"),
    ("classification", "share a tracking UID"): _share_tracking,
    ("classification", "tracking UID is no UID"): lambda report: setattr(
        _named(report, "Tracking Unique Identifier"), "UID", "none"
    ),
    ("classification", "12345678 is no code of SCT"): lambda report: setattr(
        _named(report, "Presence").ConceptCodeSequence[0], "CodeValue", "12345678"
    ),
    ("detection", "frame of reference is not the source's"): lambda report: setattr(
        _children(report, "SCOORD3D")[0], "ReferencedFrameOfReferenceUID", generate_uid()
    ),
    ("detection", "no referenced segment, region"): lambda report: _drop(report, "SCOORD3D"),
    ("detection", "no finding"): lambda report: _drop(report, "CODE"),
    ("detection", "It must be CONTAINS"): lambda report: setattr(
        _children(report, "SCOORD3D")[0], "RelationshipType", "HAS PROPERTIES"
    ),
    ("detection on slices", "neither source nor result"): lambda report: setattr(
        _children(report, "SCOORD")[0].ContentSequence[0].ReferencedSOPSequence[0],
        "ReferencedSOPInstanceUID",
        generate_uid(),
    ),
    ("detection on slices", "not among the evidence"): lambda report: report.CurrentRequestedProcedureEvidenceSequence[
        0
    ].ReferencedSeriesSequence.clear(),
}


@pytest.mark.parametrize("fault", FAULTS, ids=": ".join)
def test_faults_are_found(source: SourceSeries, reports: dict[str, Dataset], fault: tuple[str, str]) -> None:
    assert check_conformance(reports[fault[0]], source) == []
    report = deepcopy(reports[fault[0]])
    FAULTS[fault](report)
    found = check_conformance(report, source)
    assert any(finding.severity == "error" and fault[1] in finding.message for finding in found), found
