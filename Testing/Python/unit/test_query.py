"""Matching of query keys: wildcards as DICOM has them, whatever a stranger sends."""

import pytest
from AIDicomBridgeLib.pacs.query import matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("SYN-1", "SYN-1", True),
        ("SYN", "SYN-1", False),
        ("SYN-?", "SYN-1", True),
        ("SYN-?", "SYN-", False),
        ("?", "", False),
        ("*", "", True),
        ("*?*", "", False),
        ("*1", "1x1", True),
        ("*1", "1x", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*ab?b*", "aab-abxb-", True),
        ("[a-z]+", "b", False),
        ("a.c", "abc", False),
        ("a*", "A", False),
    ],
)
def test_stars_and_question_marks(pattern: str, text: str, expected: bool) -> None:
    assert matches({"PatientID": text}, {"PatientID": pattern}) is expected


def test_names_are_matched_without_regard_to_capitals_and_trailing_carets() -> None:
    assert matches({"PatientName": "MÜLLER^Jörg^^"}, {"PatientName": "müller*^"})
    assert matches({"PatientName": "Yamada^Tarou=山田^太郎"}, {"PatientName": "山田*"})


@pytest.mark.parametrize(
    ("keyword", "value", "wanted", "expected"),
    [
        ("StudyTime", "101500.000000", "101500", True),
        ("StudyTime", "1015", "101500", True),
        ("StudyTime", "1015", "101500-103000", True),
        ("StudyTime", "103000.5", "101500-103000", True),
        ("StudyTime", "103001", "101500-103000", False),
        ("StudyTime", "10:15:00", "-101500", True),
        ("StudyTime", "", "-101500", False),
        ("StudyTime", "101501", "101500", False),
        ("StudyDate", "2026.01.02", "20260102", True),
        ("StudyDate", "2026.01.02", "20260101-20260102", True),
        ("StudyDate", "20260103", "20260102", False),
        ("StudyDate", "", "20260102-", False),
    ],
)
def test_dates_and_times_are_compared_as_such(keyword: str, value: str, wanted: str, expected: bool) -> None:
    assert matches({keyword: value}, {keyword: wanted}) is expected


def test_many_stars_do_not_hold_the_server_up() -> None:
    """A backtracking matcher never comes back from this one."""
    assert not matches({"PatientID": "a" * 64}, {"PatientID": "a*" * 30 + "b"})
    assert matches({"PatientID": "a" * 64}, {"PatientID": "a*" * 30})
