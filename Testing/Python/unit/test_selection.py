"""The series that a model is meant for is found in a study, and each is told why or why not."""

from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import ConflictError, NotFoundError
from AIDicomBridgeLib.job import Job, run_job
from AIDicomBridgeLib.pacs.records import SeriesRecord
from AIDicomBridgeLib.pacs.selection import choose_series, rank_series
from synthetic import CORONAL, body_phantom, make_series, save_series


def record(uid: str, description: str, count: int | None, modality: str = "CT", body_part: str = "") -> SeriesRecord:
    return SeriesRecord("1", uid, modality, "1", description, "", body_part, count)


STUDY = [
    record("1.1", "Topogram 0.6", 600),
    record("1.2", "Abdomen MIP cor", 500),
    record("1.3", "Abdomen 5 mm", 60, body_part="ABDOMEN"),
    record("1.4", "Abdomen 1 mm", 300, body_part="ABDOMEN"),
    record("1.5", "Head", 400, body_part="HEAD"),
    record("1.6", "T1", 900, modality="MR"),
]


def test_the_thinnest_original_series_of_the_right_part_is_first() -> None:
    ranked = rank_series(STUDY, ["CT"], ["ABDOMEN"])
    assert [item.record.series_uid for item in ranked if item.fits] == ["1.4", "1.3", "1.2"]
    why = {item.record.series_uid: " ".join(item.reasons) for item in ranked}
    assert "localizer" in why["1.1"]
    assert "derived" in why["1.2"]
    assert "HEAD, not ABDOMEN" in why["1.5"]
    assert "MR, not CT" in why["1.6"]
    assert choose_series(STUDY, ["CT"], study_uid="1", body_parts=["ABDOMEN"]).series_uid == "1.4"


def test_no_choice_is_guessed() -> None:
    with pytest.raises(NotFoundError, match=r"1\.6: it is MR, not PT"):
        choose_series(STUDY, ["PT"], study_uid="1")
    with pytest.raises(ConflictError, match=r"1\.7.*1\.8"):
        choose_series([record("1.7", "a", None), record("1.8", "b", None)], ["CT"], study_uid="1")


@pytest.fixture
def study_on_disk(tmp_path: Path) -> Path:
    """Return a folder with the series of a study: thick, thin, thin and derived, coronal, a scout, one with a gap."""

    def write(name: str, slices: int, image_type: str = "ORIGINAL\\PRIMARY\\AXIAL", **keywords: object) -> None:
        datasets = make_series(body_phantom((slices, 40, 48)), study_uid="1.2", series_uid=f"1.2.{name}", **keywords)
        for ds in datasets:
            ds.ImageType, ds.SeriesDescription = image_type.split("\\"), ""
            ds.ContrastBolusAgent = "X"
        if name == "6":
            del datasets[3]
        save_series(datasets, tmp_path / name)

    write("1", 6, spacing_mm=(6.0, 0.8, 0.6))
    write("2", 12)
    write("3", 24, "DERIVED\\SECONDARY\\MPR")
    write("4", 30, orientation=CORONAL)
    write("5", 40, "ORIGINAL\\PRIMARY\\LOCALIZER", orientation=CORONAL)
    write("6", 50)
    return tmp_path


def test_the_model_chooses_among_the_series_of_a_folder_and_says_why(study_on_disk: Path) -> None:
    with pytest.raises(ConflictError, match=r"6 image series.*--series auto"):
        run_job(Job(study_on_disk, "ct-tissues", outputs=("seg",), any_body_part=True))
    done = run_job(Job(study_on_disk, "ct-tissues", outputs=("seg",), any_body_part=True, series_uid="auto"))
    assert done.to_dict()["series_uid"] == "1.2.2"
    ranking = done.to_dict()["series_ranking"]
    assert [item["series_uid"] for item in ranking if item["fits"]] == ["1.2.2", "1.2.1", "1.2.4", "1.2.3"]
    why = {item["series_uid"]: " ".join(item["reasons"]) for item in ranking}
    assert "axial slices, 3 mm apart with contrast agent" in why["1.2.2"]
    assert "derived" in why["1.2.3"]
    assert "coronal slices" in why["1.2.4"]
    assert "localizer" in why["1.2.5"]
    assert "no volume: slices are missing" in why["1.2.6"]
