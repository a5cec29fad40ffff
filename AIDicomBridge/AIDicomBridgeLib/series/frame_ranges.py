"""Which frames of multi-frame instances a series consists of, as one short text.

Two stacks of one instance (echoes, phases) share its SOP Instance UID: only their frames tell them apart.
"""

import re
from collections.abc import Iterable

from ..errors import GeometryError
from .source_slice import SourceSlice

_PART = re.compile(r"([0-9.]{1,64}):([0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*)")


def frame_ranges(slices: Iterable[SourceSlice]) -> str:
    """Return the frames of slices in their order, as ``"1.2.3:1-6,9 1.2.4:3-1"``; empty if all are single-frame."""
    parts: list[tuple[str, list[list[int]]]] = []
    for piece in slices:
        number = piece.frame_number
        if number is None:
            continue
        if not parts or parts[-1][0] != piece.sop_instance_uid:
            parts.append((piece.sop_instance_uid, [[number]]))
            continue
        ranges = parts[-1][1]
        last = ranges[-1]
        step = number - last[-1]
        if abs(step) == 1 and (len(last) == 1 or step * (last[1] - last[0]) > 0):
            ranges[-1] = [last[0], number]
        else:
            ranges.append([number])
    return " ".join(
        f"{uid}:" + ",".join("-".join(str(number) for number in ends) for ends in ranges) for uid, ranges in parts
    )


def slices_within(slices: Iterable[SourceSlice], frames: str) -> list[SourceSlice]:
    """Return those of the slices that a text of :func:`frame_ranges` names.

    Raises
    ------
    GeometryError
        The text is none, or names frames that are not there.
    """
    wanted: dict[str, list[range]] = {}
    for part in frames.split():
        found = _PART.fullmatch(part)
        if found is None:
            raise GeometryError("the frames of the series are not named as they should be", advice="Load it again.")
        for ends in found[2].split(","):
            numbers = [int(number) for number in ends.split("-")]
            wanted.setdefault(found[1], []).append(range(min(numbers), max(numbers) + 1))
    kept = [
        piece
        for piece in slices
        if any(piece.frame_number in numbers for numbers in wanted.get(piece.sop_instance_uid, ()))
    ]
    if len(kept) != sum(len(found) for ranges in wanted.values() for found in ranges):
        raise GeometryError("the files do not hold the frames that the volume shows", advice="Load the series again.")
    return kept
