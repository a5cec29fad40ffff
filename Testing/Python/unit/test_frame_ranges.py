"""Frames of multi-frame instances are named by a short text, and found by it again."""

from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import GeometryError
from AIDicomBridgeLib.series.frame_ranges import frame_ranges, slices_within
from AIDicomBridgeLib.series.source_slice import SourceSlice
from pydicom import Dataset


def slices(*numbers: int | None, uid: str = "1.2") -> list[SourceSlice]:
    header = Dataset()
    header.SOPInstanceUID = uid
    return [SourceSlice(Path("x.dcm"), header, number) for number in numbers]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1, 2, 3), "1.2:1-3"),
        ((3, 2, 1), "1.2:3-1"),
        ((1, 3, 5), "1.2:1,3,5"),
        ((1, 2, 1), "1.2:1-2,1"),
        ((7,), "1.2:7"),
        ((2, 3, 9, 8, 7), "1.2:2-3,9-7"),
        ((None, None), ""),
    ],
)
def test_the_order_of_the_slices_is_in_the_text(numbers, text) -> None:
    assert frame_ranges(slices(*numbers)) == text


def test_frames_are_found_in_all_instances() -> None:
    there = slices(1, 2, 3, 4) + slices(1, 2, 3, uid="1.3")
    wanted = [there[0], there[3], there[5]]
    assert frame_ranges(wanted) == "1.2:1,4 1.3:2"
    assert slices_within(there, "1.2:1,4 1.3:2") == wanted


@pytest.mark.parametrize("text", ["1.2:5", "1.2:1-5", "1.4:1", "1.2:1,1", "1.2", "1.2:a", "1.2:1--2"])
def test_what_is_not_there_or_no_text_of_frames_is_refused(text: str) -> None:
    with pytest.raises(GeometryError):
        slices_within(slices(1, 2, 3, 4), text)
