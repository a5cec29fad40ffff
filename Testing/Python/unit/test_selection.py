"""The series that a model is meant for is found in a study, and each is told why or why not."""

import pytest
from AIDicomBridgeLib.errors import ConflictError, NotFoundError
from AIDicomBridgeLib.pacs.records import SeriesRecord
from AIDicomBridgeLib.pacs.selection import choose_series, rank_series


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
