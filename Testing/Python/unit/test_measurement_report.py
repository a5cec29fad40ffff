"""The measurement report: what a reader of the report finds in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError
from AIDicomBridgeLib.results.labels import Code, LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import SegmentMeasurements, measure
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from highdicom.sr import Comprehensive3DSR
from pydicom import Dataset, dcmread
from segmented import BONE, LEFT, LUNG, make_labels

MASS = Code("4147007", "SCT", "Mass")
UPPER = Code("261183002", "SCT", "Upper")


@pytest.fixture
def labels(tmp_path: Path) -> LabelVolume:
    return make_labels(tmp_path / "ct")


@pytest.fixture
def measurements(labels: LabelVolume) -> list[SegmentMeasurements]:
    return measure(labels, read_volume(labels.source))


def _read_back(report: Dataset, folder: Path) -> Comprehensive3DSR:
    report.save_as(folder / "sr.dcm", enforce_file_format=True)
    return Comprehensive3DSR.from_dataset(dcmread(folder / "sr.dcm"))


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_each_segment_has_a_group_that_shares_its_tracking_uid(
    tmp_path: Path, labels: LabelVolume, measurements: list[SegmentMeasurements], encoding: str
) -> None:
    segmentation = build_segmentation(labels, encoding=encoding)
    report = build_measurement_report(labels, measurements, segmentation=segmentation)
    groups = _read_back(report, tmp_path).content.get_volumetric_roi_measurement_groups()
    items = [item for item in segmentation.SegmentSequence if item.SegmentNumber != 0]
    assert len(groups) == len(measurements) == 3
    for group, item, measured in zip(groups, items, measurements, strict=True):
        assert group.tracking_uid == item.TrackingUID
        assert group.tracking_identifier == item.TrackingID
        assert group.finding_type.value == measured.segment.type.value
        reference = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == item.SegmentNumber
        values = {
            (m.name.meaning, m.derivation.meaning if m.derivation else ""): (float(m.value), m.unit.value)
            for m in group.get_measurements()
        }
        assert values["Volume", ""] == (pytest.approx(measured.volume_ml), "ml")
        assert values["Attenuation Coefficient", "Mean"] == (pytest.approx(measured.mean), "[hnsf'U]")
        assert values["Maximum 3D Diameter of a Mesh", ""] == (pytest.approx(measured.longest_diameter_mm), "mm")
        assert values["Surface Area of Mesh", ""] == (pytest.approx(measured.surface_area_mm2), "mm2")
        assert len(values) == len(measured.coded()) == 11


def test_sides_reach_the_finding_site(
    tmp_path: Path, labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    report = build_measurement_report(labels, measurements, segmentation=build_segmentation(labels))
    groups = _read_back(report, tmp_path).content.get_volumetric_roi_measurement_groups()
    sites = [group.finding_sites[0] for group in groups]
    assert [(site.value.value, site.laterality.meaning) for site in sites] == [
        (LUNG.value, "Right"),
        (LUNG.value, "Left"),
        ("51185008", "Left"),
    ]
    assert groups[2].finding_type.value == BONE.value


@pytest.mark.parametrize("found", [True, False])
def test_the_side_of_a_finding_in_a_region_is_that_of_the_region(
    tmp_path: Path, labels: LabelVolume, found: bool
) -> None:
    array = np.where(labels.labels == 1, labels.labels, 0) if found else np.zeros_like(labels.labels)
    for region_modifier in (None, LEFT, UPPER):
        mass = replace(labels.segments[0], type=MASS, type_modifier=LEFT, region=LUNG, region_modifier=region_modifier)
        one = replace(labels, segments=(mass,), labels=array)
        segmentation = build_segmentation(one) if found else None
        report = build_measurement_report(one, measure(one, read_volume(one.source)), segmentation=segmentation)
        content = _read_back(report, tmp_path).content
        (group,) = content.get_volumetric_roi_measurement_groups() if found else content.get_image_measurement_groups()
        (site,) = group.finding_sites
        assert (site.value.value, site.laterality.meaning) == (LUNG.value, "Left")
        if found:
            assert (site.topographical_modifier is not None) == (region_modifier is UPPER)


def test_the_report_is_complete_but_claims_no_persons_approval(
    labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    report = build_measurement_report(labels, measurements, segmentation=build_segmentation(labels))
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    assert report.SeriesNumber // 10000 == 12
    assert "not for diagnostic use" in report.SeriesDescription


def test_evidence_holds_every_source_and_the_segmentation(
    labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    segmentation = build_segmentation(labels)
    report = build_measurement_report(labels, measurements, segmentation=segmentation)
    listed = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert listed == {*labels.source.sop_instance_uids, segmentation.SOPInstanceUID}


def test_the_image_library_names_every_slice(
    tmp_path: Path, labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    report = build_measurement_report(labels, measurements, segmentation=build_segmentation(labels))
    library = next(
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Image Library"
    )
    images = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in library.ContentSequence[0].ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert images == list(labels.source.sop_instance_uids)


def test_the_observers_are_the_device_and_the_person_if_given(
    tmp_path: Path, labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    segmentation = build_segmentation(labels)
    report = build_measurement_report(labels, measurements, segmentation=segmentation, observer_name="Reader^One")
    contexts = _read_back(report, tmp_path).content.get_observer_contexts()
    kinds = {context.observer_type.meaning: context.observer_identifying_attributes for context in contexts}
    assert str(kinds["Person"].name) == "Reader^One"
    assert kinds["Device"].uid == segmentation.ContributingEquipmentSequence[-1].DeviceUID


def test_the_procedure_is_the_imaging_not_the_algorithm(
    tmp_path: Path, labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    segmentation = build_segmentation(labels)
    report = build_measurement_report(labels, measurements, segmentation=segmentation)
    assert _procedures(report) == ["CT unspecified body region"]
    code, broken = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "169069000", "SCT", "CT of chest"
    broken.CodeValue, broken.CodingSchemeDesignator = "1", "99LOCAL"
    for header in labels.source.headers:
        header.ProcedureCodeSequence = [broken, code]
    assert _procedures(build_measurement_report(labels, measurements, segmentation=segmentation)) == ["CT of chest"]


def _procedures(report: Dataset) -> list[str]:
    return [
        item.ConceptCodeSequence[0].CodeMeaning
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Procedure reported"
    ]


def test_measurements_and_segmentation_must_belong_to_the_labels(
    tmp_path: Path, labels: LabelVolume, measurements: list[SegmentMeasurements]
) -> None:
    segmentation = build_segmentation(labels)
    with pytest.raises(EncodingError, match="not those of the labels"):
        build_measurement_report(labels, measurements[:2], segmentation=segmentation)
    renamed = replace(labels, segments=(replace(labels.segments[0], name="Other"), *labels.segments[1:]))
    with pytest.raises(EncodingError, match="does not describe the segments"):
        build_measurement_report(renamed, measurements, segmentation=segmentation)
