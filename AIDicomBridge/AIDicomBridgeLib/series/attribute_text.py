"""Attributes of a data set as plain texts, read and written without pydicom's value validation.

Validation would warn with the value itself, and the values here are names and birth dates.
"""

from collections.abc import Iterable, Mapping, MutableSequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

# VRs whose characters depend on the Specific Character Set (PS3.5 section 6.1.2.2), with the delimiters that reset it.
SPECIFIC_CHARACTER_SET = 0x00080005
_ENCODED_VRS = {"SH": b"\\", "LO": b"\\", "UC": b"\\", "PN": b"\\^=", "ST": b"", "LT": b"", "UT": b""}


def attribute_texts(dataset: "Dataset", keywords: Iterable[str]) -> dict[str, str]:
    r"""Return keyword -> text for those attributes that the data set holds (empty ones as ``""``).

    Several values are joined by a backslash, as DICOM writes them; padding is removed.

    Raises
    ------
    Exception
        Whatever pydicom raises on damaged input; the caller converts it.
    """
    keywords = tuple(keywords)
    tags = (SPECIFIC_CHARACTER_SET, *tags_of(keywords).values())
    values = {tag: dataset.get_item(tag).value for tag in tags if tag in dataset}
    return value_texts(values, keywords)


def value_texts(values: Mapping[int, object], keywords: tuple[str, ...]) -> dict[str, str]:
    """Do the same for tag -> value, as bytes or converted; the Specific Character Set is among them if there is one."""
    from pydicom.datadict import dictionary_VR

    encodings: list[str] = []
    texts = {}
    for keyword, tag in tags_of(keywords).items():
        if tag not in values:
            continue
        value = values[tag]
        # Without escapes, ASCII is itself in every character set of DICOM.
        if isinstance(value, bytes) and value.isascii() and b"\x1b" not in value:
            texts[keyword] = _stripped(value.decode("ascii"))
        else:
            encodings = encodings or _encodings(values.get(SPECIFIC_CHARACTER_SET))
            texts[keyword] = _text(value, dictionary_VR(tag), encodings)
    return texts


@cache
def tags_of(keywords: tuple[str, ...]) -> Mapping[str, int]:
    """Return the tag of each keyword that has one."""
    from pydicom.datadict import tag_for_keyword

    found = ((keyword, tag_for_keyword(keyword)) for keyword in keywords)
    return {keyword: tag for keyword, tag in found if tag is not None}


def text_element(tag: int, text: str) -> "DataElement":
    r"""Return an element that is written as ``text``, whether or not that is a valid value; empty for ``""``.

    Parameters
    ----------
    tag
        A public attribute whose values are texts (numbers as text included, such as IS).
    text
        Several values are joined by a backslash.
    """
    from pydicom import DataElement
    from pydicom.config import IGNORE
    from pydicom.datadict import dictionary_VR
    from pydicom.valuerep import PersonName

    vr = dictionary_VR(tag)
    value: object = text if vr in _ENCODED_VRS else text.encode("ascii", "replace").decode("ascii")
    if vr == "PN":
        value = PersonName(text, validation_mode=IGNORE)
    return DataElement(tag, vr, value if text else None, already_converted=True)


def _encodings(value: Any) -> list[str]:
    from pydicom.charset import convert_encodings

    if isinstance(value, bytes):
        value = [part.strip() for part in value.decode("ascii", "replace").strip("\0 ").split("\\")]
    return convert_encodings(value or None)


def _text(value: object, vr: str, encodings: list[str]) -> str:
    from pydicom.charset import decode_bytes

    if value is None:
        return ""
    if isinstance(value, bytes):
        if vr in _ENCODED_VRS:
            text = decode_bytes(value, encodings, set(_ENCODED_VRS[vr]))
        else:
            text = value.decode("ascii", "replace")
    elif isinstance(value, MutableSequence):
        text = "\\".join(str(item) for item in value)
    else:
        text = str(value)
    return _stripped(text)


def _stripped(text: str) -> str:
    return "\\".join(part.strip("\0 ") for part in text.split("\\")) if "\\" in text else text.strip("\0 ")
