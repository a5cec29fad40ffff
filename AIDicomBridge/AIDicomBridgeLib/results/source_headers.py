"""The source's headers as the result builders can use them, with the patient's identity untouched or refused.

Headers in the wild lack required attributes, hold values that break their value representation, or use character sets
that highdicom cannot encode. Everything but the identity may be repaired by emptying it; the identity may not.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EncodingError
from ..series.dicom_file import is_uid
from ..series.source_series import SourceSeries
from .codes import is_complete_code

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

# Type 2 in every image (PS3.3 C.7); highdicom fails with an AttributeError where one of them is absent.
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "PositionReferenceIndicator",
)
# What tells whose result this is: carried exactly, or the result is refused.
_IDENTITY = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "AccessionNumber")
_IDENTITY_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_ASCII_ONLY = {"", "ISO_IR 6", "ISO 2022 IR 6"}
_WITH_LATIN_LETTERS = ("100", "101", "109", "110", "148", "192", "203", "GB18030", "GBK")
_LENGTHS = {"SH": 16, "LO": 64, "PN": 64, "CS": 16, "AS": 4, "UI": 64, "ST": 1024, "LT": 10240}


def normalised_headers(source: SourceSeries, *, first: int | None = None) -> "list[Dataset]":
    """Return copies of the source's headers, in slice order, that the result builders can rely on.

    ``first``: only those of so many slices; a copy takes 4 ms, and the slices of a series agree on the identity.

    Text is decoded and marked as UTF-8; absent attributes of type 2 are added empty; dates, times, code strings and
    texts that break their rules are emptied, incomplete codes left out; Slice Thickness is the slice spacing where it
    is absent. Private attributes, overlays and pixel data are left out. Position, orientation, spacing and UIDs are as
    they were.

    Raises
    ------
    EncodingError
        A patient name, patient ID, birth date, accession number or UID cannot be carried exactly: it does not decode
        in the declared character set, or breaks its value representation. The text names the attribute, never its
        value.
    """
    return [_normalised(header, thickness_mm=source.spacing_mm[0]) for header in source.headers[:first]]


def _normalised(header: "Dataset", *, thickness_mm: float) -> "Dataset":
    uid = str(header.SOPInstanceUID)
    for name in _IDENTITY_UIDS:
        if header.get(name) and not is_uid(str(header[name].value)):
            raise EncodingError(f"{name} is no valid UID", uid=uid, advice="Have it corrected in the archive.")
    copy = _copied(header, _charsets(header), uid)
    for name in _REQUIRED:
        if name not in copy:
            setattr(copy, name, None)
    if copy.PatientSex not in ("M", "F", "O"):
        copy.PatientSex = None
    if not copy.get("SliceThickness"):
        copy.SliceThickness = f"{thickness_mm:.8g}"
    copy.SpecificCharacterSet = "ISO_IR 192"
    return copy


def _copied(dataset: "Dataset", charsets: list[str], uid: str) -> "Dataset":
    from pydicom import DataElement, Dataset

    copy = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset converts every element, also the ones left out
        if tag.is_private or tag.group in (0x0002, 0x5400, 0x7FE0) or 0x6000 <= tag.group <= 0x60FF:
            continue
        try:
            element = dataset[tag]
        except (ValueError, TypeError, LookupError, OverflowError, AttributeError, NotImplementedError) as error:
            if _keyword(tag) in _IDENTITY:
                raise _not_carried(_keyword(tag), uid) from error
            continue
        if element.VR == "SQ":
            items = [_copied(item, _charsets(item) or charsets, uid) for item in element.value]
            if element.keyword.endswith("CodeSequence"):
                items = [item for item in items if is_complete_code(item)]
            if items:
                copy.add(DataElement(tag, "SQ", items))
        else:
            copy.add(DataElement(tag, element.VR, _carried_value(element, charsets, uid), already_converted=True))
    return copy


def _carried_value(element: "DataElement", charsets: list[str], uid: str) -> Any:
    """Return the value as a result may hold it; None where it breaks its rules and is no identity."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VM
    from pydicom.valuerep import DSfloat, PersonName, format_number_as_ds

    value = element.value
    rule = _RULES.get(element.VR)
    if rule is None or value is None or value == "":
        return value
    identity = element.keyword in _IDENTITY
    single = identity or (element.VM > 1 and dictionary_has_tag(element.tag) and dictionary_VM(element.tag) == "1")
    values = [str(item) for item in value] if element.VM > 1 else [str(value)]
    if (single and len(values) > 1) or not all(rule(text, charsets) and _fits(element.VR, text) for text in values):
        if identity:
            raise _not_carried(element.keyword, uid)
        return None
    if element.VR == "PN":  # a new name, because the old one remembers the bytes of its old character set
        names = [PersonName(text) for text in values]
        return names if element.VM > 1 else names[0]
    if element.VR == "DS" and max(len(text) for text in values) > 16:  # more digits than DICOM takes: 1e-14 is lost
        numbers = [DSfloat(format_number_as_ds(float(text))) for text in values]
        return numbers if element.VM > 1 else numbers[0]
    return value


def _not_carried(keyword: str, uid: str) -> EncodingError:
    return EncodingError(
        f"{keyword} cannot be carried into a result without altering it: it does not decode in the declared "
        "character set, or breaks the rules of its value representation",
        uid=uid,
        advice="Have the attribute or the Specific Character Set corrected in the archive.",
    )


def _keyword(tag: Any) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)


def _charsets(dataset: "Dataset") -> list[str]:
    """Return the declared character sets; unknown ones count as undeclared."""
    from pydicom.charset import python_encoding

    declared = dataset.get("SpecificCharacterSet") or []
    terms = [declared] if isinstance(declared, str) else list(declared)
    return [str(term or "") for term in terms if str(term or "") in python_encoding]


def _decodes(text: str, charsets: list[str]) -> bool:
    """Return True if the decoded text is what its author meant, as far as can be told from the declared sets.

    Bytes that no declared set covers come out of pydicom as U+FFFD, as control characters (Shift-JIS and Windows
    bytes read as Latin-1), or as Latin letters where no Latin set is declared (Korean bytes without their escape).
    """
    if any(character == "\ufffd" or (ord(character) < 32 and character not in "\t\n\f\r") for character in text):
        return False
    if text.isascii():
        return True
    if any(0x7F <= ord(character) < 0xA0 for character in text) or set(charsets) <= _ASCII_ONLY:
        return False
    latin = any(term.endswith(_WITH_LATIN_LETTERS) for term in charsets)
    return latin or charsets[0] not in _ASCII_ONLY or not any(0xA0 <= ord(character) <= 0xFF for character in text)


def _fits(vr: str, text: str) -> bool:
    parts = text.split("=") if vr == "PN" else [text]
    return max(len(part) for part in parts) <= _LENGTHS.get(vr, 2**32)


def _one_line(text: str, charsets: list[str]) -> bool:
    return _decodes(text, charsets) and "\\" not in text and not re.search(r"[\t\n\f\r]", text)


def _is_date(text: str, _: list[str]) -> bool:
    try:
        return len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def _matching(pattern: str) -> Callable[[str, list[str]], bool]:
    compiled = re.compile(pattern)
    return lambda text, _: compiled.fullmatch(text.rstrip(" ")) is not None


def _is_number(text: str, _: list[str]) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


_RULES: dict[str, Callable[[str, list[str]], bool]] = {
    "PN": _one_line,
    "LO": _one_line,
    "SH": _one_line,
    "UC": _one_line,
    "ST": _decodes,
    "LT": _decodes,
    "UT": _decodes,
    "DA": _is_date,
    "TM": _matching(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?|([01]\d|2[0-3])[0-5]\d([0-5]\d|60)\.\d{1,6}"),
    "CS": _matching(r"[A-Z0-9 _]*"),
    "AS": _matching(r"\d{3}[DWMY]"),
    "UI": lambda text, _: is_uid(text),
    "DS": _is_number,
    "IS": _is_number,
}
