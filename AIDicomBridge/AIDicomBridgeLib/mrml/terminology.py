"""Coded concepts of a segment to Slicer's terminology entry and back.

The entry is a text of seven parts joined by ``~``: context, category, type, type modifier, region context, region,
region modifier. A code in it is ``scheme^value^meaning``, an absent one ``^^``.
"""

from ..errors import EncodingError
from ..results.labels import Code, Segment

_CATEGORY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"
_SEPARATORS = "~^|"  # "|" parts the tags of a segment in .seg.nrrd files


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


def codes_of_entry(entry: str, segment_name: str) -> dict[str, Code | None]:
    """Return category, type, type_modifier, region and region_modifier of a terminology entry, ready for Segment.

    Raises
    ------
    EncodingError
        The entry is empty or damaged, or has no category or no type.
    """
    parts = entry.split("~")
    parts += [""] * (7 - len(parts))
    texts = {"category": parts[1], "type": parts[2], "type_modifier": parts[3]}
    texts |= {"region": parts[5], "region_modifier": parts[6]}
    codes = {role: _code_from(text, segment_name) for role, text in texts.items()}
    if codes["category"] is None or codes["type"] is None:
        raise EncodingError(
            f"the segment {segment_name!r} has no terminology",
            advice="Double-click its colour in the segments table and choose what it is; a name is not a code.",
        )
    return codes


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
