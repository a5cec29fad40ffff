"""Good results of one series, to plant faults into."""

from dataclasses import dataclass
from pathlib import Path

from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import SegmentMeasurements, measure
from AIDicomBridgeLib.results.secondary_capture import build_secondary_captures
from AIDicomBridgeLib.results.segment_description import with_tracking_uids
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from pydicom.uid import generate_uid
from segmented import make_labels


@dataclass
class Results:
    source: SourceSeries
    labels: LabelVolume
    measured: list[SegmentMeasurements]
    segmentation: Dataset
    report: Dataset
    capture: Dataset


def make_results(folder: Path) -> Results:
    """Return good results of a synthetic CT that is written to a folder."""
    labels = with_tracking_uids(make_labels(folder), generate_uid)
    volume = read_volume(labels.source)
    segmentation = build_segmentation(labels)
    measured = measure(labels, volume)
    report = build_measurement_report(labels, measured, segmentation=segmentation)
    capture = build_secondary_captures(labels, volume, segmentation=segmentation, slices=[5])[0]
    return Results(labels.source, labels, measured, segmentation, report, capture)


def assert_found(result: Dataset, results: Results, message: str) -> None:
    """Fail if a result's own checks have no error that says the message."""
    found = check_conformance(result, results.source, related=[results.segmentation])
    assert any(finding.severity == "error" and message in finding.message for finding in found), found
