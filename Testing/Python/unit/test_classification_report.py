"""What a reader of a classification report finds in it."""

from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import EncodingError
from AIDicomBridgeLib.results.classification_report import build_classification_report
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import Code
from AIDicomBridgeLib.results.observations import Classification, Evaluation
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.series.source_series import SourceSeries
from pydicom import Dataset, dcmread
from segmented import LEFT, LUNG, PROVENANCE, make_source

NODULE = Code("27925004", "SCT", "Nodule")
PRESENT = Evaluation(Code("705057003", "SCT", "Presence"), Code("52101004", "SCT", "Present"))


@pytest.fixture
def source(tmp_path: Path) -> SourceSeries:
    return make_source(tmp_path / "ct")


def _saved(report: Dataset, folder: Path) -> Path:
    report.save_as(folder / "sr.dcm", enforce_file_format=True)
    return folder / "sr.dcm"


@pytest.mark.parametrize("sr_class", ["COMPREHENSIVE_3D", "COMPREHENSIVE", "ENHANCED"])
def test_answers_come_back_with_probability_place_and_what_they_are_said_of(
    tmp_path: Path, source: SourceSeries, sr_class: str
) -> None:
    images = source.sop_instance_uids[2:4]
    classifications = [
        Classification(
            "Lung nodule", (PRESENT,), probability=0.93, level="study", finding=NODULE, site=LUNG, site_modifier=LEFT
        ),
        Classification("Series", (PRESENT,), tracking_uid="1.2.3.4"),
        Classification("Slices", (PRESENT,), level="image", sop_instance_uids=images),
    ]
    report = build_classification_report(classifications, source, provenance=PROVENANCE, sr_class=sr_class)
    assert check_conformance(report, source) == []
    study, series, slices = read_measurement_report(_saved(report, tmp_path))
    assert (study.name, study.finding, study.site, study.site_modifier) == ("Lung nodule", NODULE, LUNG, LEFT)
    assert study.evaluations == (PRESENT,)
    assert study.value("Probability") == 0.93
    assert (study.study_uid, study.series_uid) == (source.study_uid, "")
    assert (series.series_uid, series.tracking_uid, series.measurements) == (source.series_uid, "1.2.3.4", ())
    assert slices.image_uids == images


def test_the_series_says_what_it_is_and_who_made_it(tmp_path: Path, source: SourceSeries) -> None:
    report = build_classification_report(
        [Classification("a", (PRESENT,))], source, provenance=PROVENANCE, observer_name="Reader^One"
    )
    read = dcmread(_saved(report, tmp_path))
    assert read.SeriesDescription == "phantomnet classification (not for diagnostic use)"
    assert read.SeriesNumber // 10000 == 15
    assert read.ContributingEquipmentSequence[-1].ManufacturerModelName == "phantomnet"
    assert (read.CompletionFlag, read.PreliminaryFlag, read.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    assert "Reader^One" in str(read)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"evaluations": ()}, "has no evaluation"),
        ({"probability": 1.2}, "not between 0 and 1"),
        ({"probability": float("nan")}, "not between 0 and 1"),
        ({"level": "patient"}, "no level"),
        ({"level": "image"}, "must name its images"),
        ({"sop_instance_uids": ("1.2",)}, "must name its images"),
        ({"site_modifier": LEFT}, "without a site"),
        ({"name": " "}, "no name"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        Classification(**({"name": "a", "evaluations": (PRESENT,)} | arguments))


def test_images_must_be_of_the_source_and_there_must_be_an_answer(source: SourceSeries) -> None:
    with pytest.raises(EncodingError, match="image of no source"):
        build_classification_report(
            [Classification("a", (PRESENT,), level="image", sop_instance_uids=("1.2.3",))], source
        )
    with pytest.raises(EncodingError, match="no classification"):
        build_classification_report([], source)
    with pytest.raises(EncodingError, match="no class of reports"):
        build_classification_report([Classification("a", (PRESENT,))], source, sr_class="BASIC")
