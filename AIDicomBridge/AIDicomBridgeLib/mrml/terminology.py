"""Coded concepts of a segment to Slicer's terminology entry and back.

The entry is a text of seven parts joined by ``~``: context, category, type, type modifier, region context, region,
region modifier. A code in it is ``scheme^value^meaning``, an absent one ``^^``.

Slicer gives every new segment the entry "Tissue". Nobody has said so: it counts as no terminology, until a person
chooses it with :func:`choose_terminology`.
"""

from typing import Any

from ..errors import EncodingError
from ..results.labels import Code, Segment
from .segment_tags import ALGORITHM_TYPE, TERMINOLOGY_CHOSEN, read_tag

_CATEGORY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"
_SEPARATORS = "~^|"  # "|" parts the tags of a segment in .seg.nrrd files
_TISSUE = {("SCT", "85756007"), ("SRT", "T-D0050")}  # the second one in scenes and files of older Slicers


def terminology_entry(segment: Segment) -> str:
    """Return the segment's codes as a terminology entry.

    Raises
    ------
    EncodingError
        A code holds one of the characters ``~ ^ |``, which the entry cannot carry.
    """
    parts = [
        _CATEGORY_CONTEXT,
        _code_text(segment.category, segment),
        _code_text(segment.type, segment),
        _code_text(segment.type_modifier, segment),
        _REGION_CONTEXT,
        _code_text(segment.region, segment),
        _code_text(segment.region_modifier, segment),
    ]
    return "~".join(parts)


def choose_terminology(target: Any, entry: str) -> None:
    """Give a vtkSegment the entry that a person has chosen for it."""
    target.SetTag(TERMINOLOGY_CHOSEN, "1")
    target.SetTag(target.GetTerminologyEntryTagName(), entry)


def codes_of(target: Any) -> dict[str, Code | None]:
    """Return category, type, type_modifier, region and region_modifier of a vtkSegment, ready for Segment.

    Raises
    ------
    EncodingError
        The segment's entry is empty or damaged, has no category or no type, or is the one that Slicer gives to every
        new segment.
    """
    name = target.GetName()
    codes = _codes_of_entry(read_tag(target, target.GetTerminologyEntryTagName()), name)
    untouched = not read_tag(target, TERMINOLOGY_CHOSEN) and not read_tag(target, ALGORITHM_TYPE)
    if codes["category"] is None or codes["type"] is None or (untouched and _is_default(codes)):
        raise EncodingError(
            f"the segment {name!r} has no terminology that a person chose, and a name is not a code",
            advice="Choose what it is in the panel's list of segments, or by a double-click on its colour in the "
            "Segment Editor.",
        )
    return codes


def _is_default(codes: dict[str, Code | None]) -> bool:
    given = {role: (code.scheme, code.value) for role, code in codes.items() if code is not None}
    return given.keys() == {"category", "type"} and _TISSUE.issuperset(given.values())


def _codes_of_entry(entry: str, segment_name: str) -> dict[str, Code | None]:
    parts = entry.split("~")
    parts += [""] * (7 - len(parts))
    texts = {"category": parts[1], "type": parts[2], "type_modifier": parts[3]}
    texts |= {"region": parts[5], "region_modifier": parts[6]}
    return {role: _code_from(text, segment_name) for role, text in texts.items()}


def _code_text(code: Code | None, segment: Segment) -> str:
    if code is None:
        return "^^"
    fields = (code.scheme, code.value, code.meaning)
    if any(separator in field for field in fields for separator in _SEPARATORS):
        raise EncodingError(f"a code of the segment {segment.name!r} holds one of ~ ^ |, which Slicer cannot keep")
    return "^".join(fields)


def _code_from(text: str, segment_name: str) -> Code | None:
    fields = text.split("^")
    if not any(fields):
        return None
    if len(fields) != 3 or not all(fields):
        raise EncodingError(f"the terminology of the segment {segment_name!r} is damaged at {text[:80]!r}")
    scheme, value, meaning = fields
    return Code(value, scheme, meaning)
