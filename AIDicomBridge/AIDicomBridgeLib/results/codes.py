"""Coded concepts between :class:`Code` and DICOM, and the few codes that every result needs."""

from functools import cache
from typing import TYPE_CHECKING

from ..errors import BadDicomError, EncodingError
from .labels import Code

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept
    from pydicom import Dataset

# Who made it
PROCESSING_ALGORITHM = Code("1630", "99IHE", "Processing Algorithm")  # IHE AI Results, Contributing Equipment
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
MORPHOLOGICAL_OPERATIONS = Code("123104", "DCM", "Morphological Operations")  # CID 7162: thresholds and components

# What it was made from (CID 7202, CID 7203)
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
SOURCE = Code("260753009", "SCT", "Source")  # image library entry
SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")

# Whether something that was looked for is there
PRESENCE = Code("705057003", "SCT", "Presence")
ABSENT = Code("2667000", "SCT", "Absent")

# Segmented Property Category of organs. CID 7150 lists 91723000 for it; Slicer's terminologies, dcmqi and the archives
# filled with them use 123037004 (SNOMED CT: body structure), and Slicer finds a type only under the category that it
# knows. CID 7150 is a baseline, so the standard allows either: we write the one that readers know and take both.
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
_SAME_CONCEPTS = {("91723000", "SCT"): (ANATOMICAL_STRUCTURE.value, ANATOMICAL_STRUCTURE.scheme)}

# Laterality (CID 244)
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
BILATERAL = Code("51440002", "SCT", "Bilateral")
UNILATERAL = Code("66459002", "SCT", "Unilateral")
LATERALITIES = (LEFT, RIGHT, BILATERAL, UNILATERAL)

# Procedure Reported (CID 100), by Modality: what was done to the patient, not the algorithm
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


def coded_concept(code: Code) -> "CodedConcept":
    """Return the code as a highdicom concept, which is also an item for a pydicom code sequence."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def read_code(item: "Dataset") -> Code:
    """Return the code of one item of a code sequence.

    Raises
    ------
    BadDicomError
        The item lacks its value, scheme or meaning, or its scheme is none.
    """
    if not is_complete_code(item):
        raise BadDicomError("a code sequence item lacks its value, scheme or meaning")
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    meaning = "".join(" " if ord(letter) < 32 or letter == "\\" else letter for letter in str(item.CodeMeaning))
    try:  # what others wrote too long is cut where it is only shown
        return Code(str(value), str(item.get("CodingSchemeDesignator") or "URN"), meaning.strip()[:64].rstrip())
    except EncodingError as error:
        raise BadDicomError(f"a code sequence item is damaged: {error.what}") from error


def is_complete_code(item: "Dataset") -> bool:
    """Return True if a code sequence item has its value, scheme (or is a URN) and meaning."""
    value = item.get("CodeValue") or item.get("LongCodeValue")
    named = (value and item.get("CodingSchemeDesignator")) or item.get("URNCodeValue")
    return bool(named and item.get("CodeMeaning"))


def same_concept(first: Code | None, second: Code | None) -> bool:
    """Return True if both mean the same concept; the meaning text may differ."""
    return first is not None and second is not None and _concept(first) == _concept(second)


def is_side(code: Code) -> bool:
    """Return True for a laterality."""
    return any(same_concept(code, side) for side in LATERALITIES)


def _concept(code: Code) -> tuple[str, str]:
    concept = (code.value, code.scheme)
    return _SAME_CONCEPTS.get(concept, concept)


def why_no_code(code: Code) -> str:
    """Return as a clause why its coding scheme cannot have a value; empty where it may.

    DICOM's own scheme is listed whole. SNOMED CT is not, but its check digit tells most values that are none.
    """
    if code.scheme == "DCM":
        known = code.value in _dicom_codes()
    elif code.scheme == "FMA":
        known = code.value.isascii() and code.value.isdigit()
    else:
        known = code.scheme != "SCT" or is_snomed_ct_id(code.value)
    return "" if known else f"{code.value} is no code of {code.scheme}"


@cache
def _dicom_codes() -> frozenset[str]:
    """Return the values of the coding scheme DCM (PS3.16 Annex D), as pydicom lists them."""
    from pydicom.sr.codedict import codes

    return frozenset(code.value for code in codes.DCM.concepts.values())


def is_snomed_ct_id(text: str) -> bool:
    """Return True if the text can be a SNOMED CT identifier: 6 to 18 digits, the last a Verhoeff check digit."""
    if not (text.isascii() and text.isdigit() and 6 <= len(text) <= 18):
        return False
    check = 0
    for place, digit in enumerate(reversed(text)):
        check = _dihedral_product(check, _permuted(int(digit), place % 8))
    return check == 0


def _dihedral_product(a: int, b: int) -> int:
    """Multiply in the dihedral group of order 10: rotations 0 to 4, reflections 5 to 9."""
    if a < 5:
        return (a + b) % 5 + (5 if b >= 5 else 0)
    return (a - b) % 5 + (0 if b >= 5 else 5)


def _permuted(digit: int, times: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit
