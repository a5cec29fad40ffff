"""What the index of the instance store knows about an instance, read from the beginning of its data set."""

from io import BytesIO
from typing import BinaryIO

from ..errors import BadDicomError
from .attribute_text import SPECIFIC_CHARACTER_SET, attribute_texts, tags_of, value_texts
from .dicom_file import is_uid
from .header_scan import is_scannable, scan_elements
from .part10 import DEFLATED

# What a query may ask for (PS3.4 C.6.2); kept in the index, so that answering one opens no file.
PATIENT_ATTRIBUTES = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY_ATTRIBUTES = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription"),
    "ReferringPhysicianName",
)
SERIES_ATTRIBUTES = (
    *("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime"),
    *("BodyPartExamined", "Manufacturer", "FrameOfReferenceUID"),
)
INSTANCE_ATTRIBUTES = (
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "ContentDate",
    "ContentTime",
    "NumberOfFrames",
)
INDEXED_ATTRIBUTES = (*PATIENT_ATTRIBUTES, *STUDY_ATTRIBUTES, *SERIES_ATTRIBUTES, *INSTANCE_ATTRIBUTES)
_LAST_TAG = 0x00280008  # Number of Frames: nothing behind it is indexed, so long functional groups are not parsed


def scan_attributes(
    head: bytes | bytearray, dataset_offset: int, transfer_syntax_uid: str
) -> tuple[dict[str, str], int] | None:
    """Return the indexed attributes of an ordinary file, and where its pixel data begins.

    None where the general parser has to read it; that then names what is wrong.

    Parameters
    ----------
    head
        The first bytes of the file.
    dataset_offset
        Where its data set begins.
    """
    found = scan_elements(head, dataset_offset) if is_scannable(transfer_syntax_uid) else None
    if found is None:
        return None
    wanted = {SPECIFIC_CHARACTER_SET, *tags_of(INDEXED_ATTRIBUTES).values()}
    values = {tag: bytes(head[start : start + length]) for tag, _vr, start, length in found[0] if tag in wanted}
    try:
        return value_texts(values, INDEXED_ATTRIBUTES), found[1]
    except Exception:  # noqa: BLE001 - parsers raise nearly anything; see above
        return None


def read_attributes(dataset: bytes | BinaryIO, transfer_syntax_uid: str, uid: str) -> dict[str, str]:
    """Return the indexed attributes of an encoded data set; whatever a parser raises becomes BadDicomError."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    syntax = UID(transfer_syntax_uid)
    if transfer_syntax_uid == DEFLATED:  # 1 MB can grow to more than 1 GiB
        raise BadDicomError("the Deflated transfer syntax is not accepted", uid=uid)
    if not syntax.is_transfer_syntax:
        # Private syntaxes are explicit little endian wherever they are seen; pydicom knows the public ones.
        implicit, little = False, True
    else:
        implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    try:
        file = BytesIO(dataset) if isinstance(dataset, bytes) else dataset
        parsed = read_dataset(file, implicit, little, stop_when=lambda tag, _vr, _length: tag > _LAST_TAG)
        return attribute_texts(parsed, INDEXED_ATTRIBUTES)
    except Exception as error:  # parsers raise nearly anything on damaged input
        raise BadDicomError(
            "the data set cannot be read", uid=uid, advice="The object is damaged; ask for it to be sent again."
        ) from error


def check_identity(
    attributes: dict[str, str], sop_class_uid: str, sop_instance_uid: str, study_uid: str | None
) -> None:
    """Raise BadDicomError unless the data set says of itself what it was announced as."""
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not is_uid(attributes.get(name, "")):
            raise BadDicomError(f"the data set has no valid {name}", uid=sop_instance_uid)
    if (attributes["SOPClassUID"], attributes["SOPInstanceUID"]) != (sop_class_uid, sop_instance_uid):
        raise BadDicomError(
            "the data set has another SOP Class or SOP Instance UID than it was announced with", uid=sop_instance_uid
        )
    if study_uid is not None and attributes["StudyInstanceUID"] != study_uid:
        raise BadDicomError("the instance belongs to another study than the one asked for", uid=sop_instance_uid)
