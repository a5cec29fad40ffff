"""Who made a result, as IHE AI Results asks, in every kind of object; and series that can be told apart."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError
from AIDicomBridgeLib.results.classification_report import build_classification_report
from AIDicomBridgeLib.results.codes import PRESENCE
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.detection_report import build_detection_report
from AIDicomBridgeLib.results.labels import Code, LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.observations import Classification, Evaluation
from AIDicomBridgeLib.results.parametric_map import build_parametric_map
from AIDicomBridgeLib.results.profiles import DestinationProfile
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.results.result_set import encode_results
from AIDicomBridgeLib.results.secondary_capture import (
    build_picture_captures,
    build_secondary_captures,
    build_summary_capture,
)
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from segmented import LUNG, PROVENANCE, make_labels

NOW = datetime(2026, 5, 4, 3, 2, 1)
PRESENT = Evaluation(PRESENCE, Code("52101004", "SCT", "Present"))


@pytest.fixture
def labels(tmp_path: Path) -> LabelVolume:
    return make_labels(tmp_path / "ct")


def _every_kind(labels: LabelVolume) -> list[Dataset]:
    source, made_by, volume = labels.source, labels.provenance, read_volume(labels.source)
    measured, segmentation = measure(labels, volume), build_segmentation(labels, now=NOW)
    picture = np.zeros((8, 9, 3), np.uint8)
    return [
        segmentation,
        build_measurement_report(labels, measured, segmentation=segmentation, now=NOW),
        build_classification_report([Classification("a", (PRESENT,))], source, provenance=made_by, now=NOW),
        build_detection_report([], source, looked_for=LUNG, provenance=made_by, now=NOW),
        build_secondary_captures(labels, volume, slices=[5], now=NOW)[0],
        build_summary_capture(labels, volume, measured, now=NOW),
        build_picture_captures(picture, source, description="x", provenance=made_by, now=NOW)[0],
        build_parametric_map(np.zeros(source.shape), source, provenance=made_by, now=NOW),
    ]


def test_every_object_says_who_made_it(labels: LabelVolume) -> None:
    results = _every_kind(labels)
    uids = set()
    for result in results:
        algorithm = result.ContributingEquipmentSequence[-1]
        purpose = algorithm.PurposeOfReferenceCodeSequence[0]
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("1630", "99IHE")
        assert (algorithm.ManufacturerModelName, algorithm.SoftwareVersions) == ("phantomnet", "2.1")
        assert algorithm.DeviceSerialNumber == PROVENANCE.weights_sha256[:16]
        assert algorithm.ContributionDateTime == "20260504030201"
        assert "not for diagnostic use" in algorithm.ContributionDescription
        assert "not for diagnostic use" in result.SeriesDescription
        assert result.SoftwareVersions.startswith("AIDicomBridge ")
        assert (result.SeriesDate, result.ContentDate, result.InstanceCreationDate) == ("20260504",) * 3
        if "ContentCreatorName" in result:
            assert result.ContentCreatorName == "AIDicomBridge^"
        uids.add(algorithm.DeviceUID)
    assert len(uids) == 1, "one model, one device, in whatever object"


@pytest.mark.parametrize(("stated", "written", "source"), [("Acme AI", "Acme AI", "Acme AI"), ("", "Unknown", None)])
def test_the_maker_of_the_algorithm_is_not_this_software(
    labels: LabelVolume, stated: str, written: str, source: str | None
) -> None:
    made_by = replace(PROVENANCE, manufacturer=stated)
    for result in _every_kind(replace(labels, provenance=made_by)):
        assert result.ContributingEquipmentSequence[-1].Manufacturer == written
        assert result.Manufacturer == "AIDicomBridge"
        for segment in result.get("SegmentSequence", []):
            assert segment.SegmentationAlgorithmIdentificationSequence[0].get("AlgorithmSource") == source
    assert (
        read_segmentation(build_segmentation(replace(labels, provenance=made_by)), labels.source).provenance == made_by
    )


@pytest.mark.parametrize(
    "change",
    [{"weights_sha256": "f" * 64}, {"card_sha256": "f" * 64}, {"version": "2.2"}, {"model": "othernet"}],
)
def test_every_change_of_the_model_is_another_device(labels: LabelVolume, change: dict[str, str]) -> None:
    other = replace(labels, provenance=replace(PROVENANCE, **change))
    first, second = (build_segmentation(item).ContributingEquipmentSequence[-1].DeviceUID for item in (labels, other))
    assert first != second
    assert read_segmentation(build_segmentation(other), labels.source).provenance == other.provenance


def test_no_two_kinds_share_a_series_number_or_description(labels: LabelVolume) -> None:
    results = _every_kind(labels)
    assert len({result.SeriesNumber for result in results}) == len(results)
    assert len({result.SeriesDescription for result in results}) == len(results)


@pytest.mark.parametrize("description", [None, "Lungs"])
def test_two_segmentations_of_one_job_are_told_apart(labels: LabelVolume, description: str | None) -> None:
    volume = read_volume(labels.source)
    results = encode_results(
        labels,
        volume,
        measure(labels, volume),
        outputs=("seg",),
        encodings=("BINARY", "LABELMAP"),
        series_description=description,
    )
    name = description or "phantomnet segmentation"
    assert [item.dataset.SeriesDescription for item in results] == [
        f"{name} (not for diagnostic use)",
        f"{name} labelmap (not for diagnostic use)",
    ]
    assert results[0].dataset.SeriesNumber != results[1].dataset.SeriesNumber


def test_one_description_for_all_still_tells_the_kinds_apart(labels: LabelVolume) -> None:
    volume = read_volume(labels.source)
    options = {"outputs": ("seg", "sr", "sc"), "profile": "plain-pacs", "series_description": "Lungs"}
    results = encode_results(labels, volume, measure(labels, volume), **options)
    names = {item.dataset.SeriesDescription.partition(" (")[0] for item in results}
    assert names == {"Lungs", "Lungs measurements", "Lungs overlay", "Lungs summary"}


def test_results_of_other_models_encodings_and_kinds_are_told_apart_across_jobs(labels: LabelVolume) -> None:
    volume = read_volume(labels.source)
    measured = measure(labels, volume)
    probable = replace(labels, probabilities=np.full((3, *labels.labels.shape), 0.5, np.float32))
    other = replace(labels, provenance=replace(PROVENANCE, model="othernet", weights_sha256="f" * 64))
    everything = ("seg", "sr", "sc")
    results = [
        item.dataset
        for item in (
            *encode_results(labels, volume, measured, outputs=everything, profile="plain-pacs"),
            *encode_results(probable, volume, measured, outputs=("seg",), encodings=("FRACTIONAL",)),
            *encode_results(other, volume, measured, outputs=everything, profile="plain-pacs"),
        )
    ]
    series = {result.SeriesInstanceUID: result for result in results}
    assert len(series) == 9
    assert len({result.SeriesNumber for result in series.values()}) == 9
    assert len({result.SeriesDescription for result in series.values()}) == 9


def _results(labels: LabelVolume, profile: DestinationProfile) -> list[tuple[str, Dataset]]:
    volume = read_volume(labels.source)
    return [
        (item.kind, item.dataset) for item in encode_results(labels, volume, measure(labels, volume), profile=profile)
    ]


def test_nothing_found_is_encoded_reported_or_refused_as_the_profile_says(labels: LabelVolume) -> None:
    empty = replace(labels, labels=np.zeros_like(labels.labels))
    assert [kind for kind, _ in _results(empty, DestinationProfile("a"))] == ["seg", "sr"]
    ((kind, report),) = _results(empty, DestinationProfile("b", empty="report", outputs=("seg", "sc")))
    assert kind == "sr"
    assert check_conformance(report, labels.source) == []
    rows = read_measurement_report(report)
    assert [row.finding for row in rows] == [segment.type for segment in labels.segments]
    assert {row.evaluations[0].answer.meaning for row in rows} == {"Absent"}
    assert {row.value("Volume") for row in rows} == {0.0}
    with pytest.raises(EncodingError, match="nothing to send"):
        _results(empty, DestinationProfile("c", empty="refuse"))


@pytest.mark.parametrize(
    ("report_class", "uid"), [("COMPREHENSIVE_3D", "88.34"), ("COMPREHENSIVE", "88.33"), ("ENHANCED", "88.22")]
)
def test_the_report_is_of_the_class_that_the_profile_says(labels: LabelVolume, report_class: str, uid: str) -> None:
    results = _results(labels, DestinationProfile("a", outputs=("sr",), report_class=report_class))
    assert dict(results)["sr"].SOPClassUID == f"1.2.840.10008.5.1.4.1.1.{uid}"


def test_a_report_of_something_needs_its_segmentation(labels: LabelVolume) -> None:
    with pytest.raises(EncodingError, match="no segmentation"):
        build_measurement_report(labels, measure(labels, read_volume(labels.source)), segmentation=None)
