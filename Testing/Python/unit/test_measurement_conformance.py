"""Faults planted into measurement reports, alone and against what they were made from: each is found."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.segment_description import with_tracking_uids
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from checked_results import Results, assert_found
from pydicom import Dataset
from pydicom.uid import generate_uid
from segmented import PROVENANCE, SEGMENTS, make_labels, phantom_labels
from synthetic import body_phantom, make_series, save_series


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
    ("no evidence", "not among the evidence"): lambda report: delattr(
        report, "CurrentRequestedProcedureEvidenceSequence"
    ),
    ("no units", "no value or no unit"): lambda report: delattr(
        _child(_group(report), "Volume").MeasuredValueSequence[0], "MeasurementUnitsCodeSequence"
    ),
    ("wrong completion flag", "whether it is complete"): lambda report: setattr(report, "CompletionFlag", "DONE"),
    ("no groups", "no measurement group"): lambda report: _drop(report, "Imaging Measurements"),
    ("nonsense code", "12345678 is no code of SCT"): lambda report: setattr(
        _child(_group(report), "Finding").ConceptCodeSequence[0], "CodeValue", "12345678"
    ),
}


@pytest.mark.parametrize("fault", REPORT_FAULTS, ids=lambda fault: fault[0])
def test_faults_of_a_report_are_found(results: Results, fault: tuple[str, str]) -> None:
    report = deepcopy(results.report)
    REPORT_FAULTS[fault](report)
    assert_found(report, results, fault[1])


def _recode(item: Dataset, value: str, meaning: str) -> None:
    item.ConceptCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeMeaning = value, meaning


def _renumber(report: Dataset, value: str) -> None:
    measured = _child(_group(report), "Volume").MeasuredValueSequence[0]
    measured.NumericValue = value
    measured.FloatingPointValue = float(value)


def _set_scheme(codes: Sequence[Dataset]) -> None:
    codes[0].CodingSchemeDesignator = "99OTHER"


def _change_mean(report: Dataset) -> None:
    for item in _group(report).ContentSequence:
        if item.ValueType == "NUM" and "Mean" in str(item):
            item.MeasuredValueSequence[0].NumericValue = "1"
            item.MeasuredValueSequence[0].pop("FloatingPointValue", None)


# What a report says otherwise than the segmentation (of it alone the meaning is known), the labels, the measurements.
DISAGREEMENTS: dict[str, tuple[str, str, Callable[[Dataset], object]]] = {
    "other finding": (
        "segmentation",
        "The finding is not",
        lambda report: _recode(_child(_group(report), "Finding"), "10200004", "Liver"),
    ),
    "other category": (
        "segmentation",
        "The finding category is not",
        lambda report: _recode(_child(_group(report), "Finding category"), "49755003", "Morphologically Altered"),
    ),
    "other site": (
        "segmentation",
        "The finding site is not",
        lambda report: _recode(_child(_group(report), "Finding Site"), "10200004", "Liver"),
    ),
    "other side": (
        "segmentation",
        "The side or part of the finding site is not",
        lambda report: _recode(_child(_child(_group(report), "Finding Site"), "Laterality"), "7771000", "Left"),
    ),
    "no side": (
        "segmentation",
        "The side or part of the finding site is not",
        lambda report: _drop(_child(_group(report), "Finding Site"), "Laterality"),
    ),
    "unit of another scheme": (
        "segmentation",
        "The unit ml of 99OTHER does not fit",
        lambda report: _set_scheme(
            _child(_group(report), "Volume").MeasuredValueSequence[0].MeasurementUnitsCodeSequence
        ),
    ),
    "quantity of another scheme": (
        "segmentation",
        "The quantity 118565006 is not of the scheme 99OTHER",
        lambda report: _set_scheme(_child(_group(report), "Volume").ConceptNameCodeSequence),
    ),
    "other volume": ("labels", "The Volume is not", lambda report: _renumber(report, "999999")),
    "volume in another unit": (
        "labels",
        "The Volume is not",
        lambda report: setattr(
            _child(_group(report), "Volume").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0],
            "CodeValue",
            "mm3",
        ),
    ),
    "no volume": ("labels", "lacks the Volume", lambda report: _drop(_group(report), "Volume")),
    "other mean": ("measurements", "The Mean is not", _change_mean),
}


@pytest.mark.parametrize("fault", DISAGREEMENTS)
def test_a_report_that_contradicts_its_segments_is_found(results: Results, fault: str) -> None:
    known_from, message, damage = DISAGREEMENTS[fault]
    known = {
        "segmentation": {},
        "labels": {"labels": results.labels},
        "measurements": {"labels": results.labels, "measurements": results.measured},
    }[known_from]
    related = [results.segmentation]
    assert check_conformance(results.report, results.source, related=related, **known) == []
    report = deepcopy(results.report)
    damage(report)
    found = check_conformance(report, results.source, related=related, **known)
    assert any(finding.severity == "error" and message in finding.message for finding in found), found


def test_a_report_of_absent_segments_agrees_with_them(tmp_path: Path) -> None:
    labels = with_tracking_uids(make_labels(tmp_path), generate_uid)
    labels = replace(labels, labels=np.zeros_like(labels.labels))
    measured = measure(labels, read_volume(labels.source))
    report = build_measurement_report(labels, measured, segmentation=None)
    for numbers in ([], measured):
        assert check_conformance(report, labels.source, labels=labels, measurements=numbers) == []
    _renumber(report, "12")
    (finding,) = check_conformance(report, labels.source, labels=labels)
    assert "The Volume is not" in finding.message


def test_volumes_of_uneven_slices_and_overlapping_segments_agree(tmp_path: Path) -> None:
    datasets = make_series(body_phantom())
    del datasets[6]
    source = SourceSeries.from_files(save_series(datasets, tmp_path), resample=True)
    assert not source.is_evenly_spaced
    above = np.zeros(source.shape, np.uint8)
    above[3:8, 5:30, 10:60] = 2
    below = phantom_labels(source.shape)
    below[below == 2] = 0
    labels = LabelVolume(below, SEGMENTS, source=source, further_layers=(above,), provenance=PROVENANCE)
    labels = with_tracking_uids(labels, generate_uid)
    segmentation = build_segmentation(labels)
    report = build_measurement_report(labels, measure(labels, read_volume(source)), segmentation=segmentation)
    assert check_conformance(report, source, related=[segmentation], labels=labels) == []
