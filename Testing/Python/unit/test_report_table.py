"""Reading reports: our own in full, others' by their concepts, and what is no report."""

from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import BadDicomError
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from segmented import LUNG, RIGHT, make_labels


@pytest.fixture
def labels(tmp_path: Path) -> LabelVolume:
    return make_labels(tmp_path / "ct")


def _report(labels: LabelVolume, segmentation: Dataset, **options: str) -> Dataset:
    return build_measurement_report(
        labels, measure(labels, read_volume(labels.source)), segmentation=segmentation, **options
    )


@pytest.mark.parametrize("sr_class", ["COMPREHENSIVE_3D", "COMPREHENSIVE", "ENHANCED"])
def test_the_table_holds_what_was_measured(tmp_path: Path, labels: LabelVolume, sr_class: str) -> None:
    segmentation = build_segmentation(labels, encoding="LABELMAP")
    report = _report(labels, segmentation, sr_class=sr_class)
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    rows = read_measurement_report(str(tmp_path / "sr.dcm"))
    measured = measure(labels, read_volume(labels.source))
    for row, expected in zip(rows, measured, strict=True):
        assert row.finding == expected.segment.type
        assert row.category == expected.segment.category
        assert (row.segmentation_uid, row.segment_number) == (segmentation.SOPInstanceUID, expected.segment.label)
        assert row.series_uid == labels.source.series_uid
        numbers = [(item.quantity, item.unit, item.method, item.derivation) for item in row.measurements]
        assert numbers == [(item.quantity, item.unit, item.method, item.derivation) for item in expected.coded()]
        assert row.value("Volume") == pytest.approx(expected.volume_ml)
        assert row.value("Attenuation Coefficient", "Median") == pytest.approx(expected.median)
    assert (rows[0].site, rows[0].site_modifier) == (LUNG, RIGHT)
    assert rows[2].tracking_uid == "1.2.3.4"
    with pytest.raises(KeyError, match="Weight"):
        rows[0].value("Weight")


def test_what_is_no_report_is_refused_and_damage_is_named(labels: LabelVolume) -> None:
    segmentation = build_segmentation(labels)
    with pytest.raises(BadDicomError, match="no measurement report"):
        read_measurement_report(segmentation)
    report = _report(labels, segmentation)
    group = report.ContentSequence[-1].ContentSequence[0]
    number = next(item for item in group.ContentSequence if item.ValueType == "NUM")
    number.MeasuredValueSequence = []
    assert (
        len(read_measurement_report(report)[0].measurements) == len(read_measurement_report(report)[1].measurements) - 1
    )
    reference = next(item for item in group.ContentSequence if item.ValueType == "IMAGE")
    del reference.ReferencedSOPSequence
    with pytest.raises(BadDicomError, match="lacks what DICOM requires") as caught:
        read_measurement_report(report)
    assert caught.value.uid == report.SOPInstanceUID
