"""Reading DICOM files that nobody vouches for: every parser failure becomes a :class:`BadDicomError`."""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadDicomError
from .header_scan import scan_header, shared_tag
from .part10 import DEFLATED, PREAMBLE_BYTES, parse_part10_header

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement, RawDataElement
    from pydicom.tag import BaseTag

# PS3.5 section 9.1: digits and dots, at most 64 characters. Leading zeros occur in the wild and are read.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # section 6.2, DS and IS
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"  # the DICOMDIR of a CD: a table of contents, no instance
META_BYTES = 65536  # of a file: they hold its file meta information, and an ordinary header too


def is_uid(text: object) -> bool:
    """Return True if ``text`` can be a UID: it is then also safe in a path and in a query."""
    return isinstance(text, str) and len(text) <= 64 and _UID.fullmatch(text) is not None


def has_dicom_prefix(path: Path) -> bool:
    """Return True if the file begins as a Part 10 file does: 128 bytes, then ``DICM``.

    Raises
    ------
    BadDicomError
        The file cannot be opened.
    """
    return _head(path, PREAMBLE_BYTES + 4).endswith(b"DICM")


def is_part10_file(path: Path) -> bool:
    """Return True if the file looks like a DICOM instance; a DICOMDIR does not. Raises as :func:`has_dicom_prefix`."""
    # One whose class cannot be read claims to be an instance: whoever reads it says what is wrong.
    return has_dicom_prefix(path) and sop_class_of_file(path) != _MEDIA_STORAGE_DIRECTORY


def sop_class_of_file(path: Path) -> str:
    """Return the SOP Class UID that the file meta information names, whatever the data set is; empty if damaged."""
    try:
        return parse_part10_header(_head(path, META_BYTES)).sop_class_uid
    except BadDicomError:
        return ""


def looks_like_dataset(path: Path) -> bool:
    """Return True if the file begins as a data set that lost its preamble does: with group 0002 or 0008."""
    head = _head(path, 4)
    return len(head) == 4 and head[0] in (0x02, 0x08) and head[1] == head[3] == 0


def file_state(file: Path | int) -> tuple[int, int] | None:
    """Return size and time of the last change (ns) of a file, by its path or descriptor: what changes when it does.

    None where there is no such file, or it cannot be looked at.
    """
    try:
        found = os.stat(file)  # noqa: PTH116 - of a descriptor too
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _head(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError as error:
        raise BadDicomError(f"the file {path.name} does not exist") from error
    except OSError as error:
        raise BadDicomError(f"the file {path.name} cannot be opened: {error.strerror}") from error


def whole_number(dataset: "Dataset", name: str, default: int | None = None) -> int:
    """Return an attribute that has to be one whole number.

    Parameters
    ----------
    default
        For an attribute that is absent or empty; None refuses that as well.

    Raises
    ------
    BadDicomError
        It is absent, or text, fractional, multi-valued or damaged.
    """
    try:
        raw: Any = element_as_read(dataset, name)
        if raw is not None and raw.VR == "US" and isinstance(raw.value, bytes) and len(raw.value) == 2:
            return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")  # as it was read: quicker
        value: Any = dataset.get(name) if raw is not None else None
        if value is None or value == "":
            value = default
        number = int(value)
        if number != value:  # a fraction, or a text that looks like a number
            raise ValueError(name)
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError(
            f"{name} is not one whole number", uid=str(dataset.get("SOPInstanceUID", "")) or None
        ) from error
    return number


def real_number(dataset: "Dataset", name: str, default: float) -> float:
    """Return an attribute that has to be one decimal number; ``default`` only where it is absent, not where empty.

    Raises
    ------
    Exception
        Whatever a conversion raises on an empty, multi-valued or damaged one; the caller converts it.
    """
    element = element_as_read(dataset, name)
    if element is None:
        return float(default)
    if element.VR in ("DS", None) and isinstance(element.value, bytes):  # as it was read: quicker
        return decimal(element.value.decode("ascii"))
    return float(dataset.get(name))


def decimal(text: str) -> float:
    """Return the number that a text says as DICOM writes numbers; Python alone would also read ``0_8`` and ``inf``.

    Raises
    ------
    ValueError
        It says none.
    """
    text = text.strip("\0 ")
    if not _DECIMAL.fullmatch(text):
        raise ValueError("the text is no decimal number")
    return float(text)


def read_dicom(path: Path | str, *, stop_before_pixels: bool = False) -> "Dataset":
    """Read one DICOM Part 10 file.

    Parameters
    ----------
    path
        The file.
    stop_before_pixels
        Leave the pixel data out (about 0.5 ms per CT header).

    Raises
    ------
    BadDicomError
        The file is no DICOM file, is damaged, or lacks its transfer syntax or a valid SOP Class, SOP Instance, Study
        or Series UID.
    """
    return _read(Path(path), stop_before_pixels)[0]


def read_header(path: Path | str) -> "tuple[Dataset, int]":
    """Return the data set of a file without its pixel data, and where that begins in the file, in bytes.

    Raises as :func:`read_dicom`.
    """
    path = Path(path)
    scanned = scan_header(_head(path, META_BYTES))
    if scanned is None or _invalid_uids(scanned[0]):
        return _read(path, stop_before_pixels=True)
    return scanned


def _invalid_uids(dataset: "Dataset") -> list[str]:
    names = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
    elements = {name: element_as_read(dataset, name) for name in names}
    return [
        name
        for name, element in elements.items()
        if element is None or element.VR not in ("UI", "UN", None) or not is_uid(raw_text(dataset, name))
    ]


def element_as_read(dataset: "Dataset", name: str) -> "DataElement | RawDataElement | None":
    """Return the element of a keyword without a conversion of its value, where pydicom has not made one; or None."""
    return dataset.get_item(tag_of(name))


@lru_cache(maxsize=1024)
def tag_of(name: str) -> "BaseTag":
    """Return the tag of a keyword.

    Raises
    ------
    KeyError
        There is no such attribute.
    """
    from pydicom.datadict import tag_for_keyword

    number = tag_for_keyword(name)
    if number is None:
        raise KeyError(name)
    return shared_tag(number)


def raw_text(dataset: "Dataset", name: str) -> str:
    """Return an attribute as text, quickly where it still is as it was read; pydicom's conversion takes 20 us more.

    Raises
    ------
    Exception
        Whatever pydicom raises on damaged input; the caller converts it.
    """
    element = element_as_read(dataset, name)
    if element is None:
        return ""
    if isinstance(element.value, bytes) and element.value.isascii() and b"\x1b" not in element.value:
        return element.value.decode("ascii").strip("\0 ")
    return str(dataset.get(name, ""))


def _read(path: Path, stop_before_pixels: bool) -> "tuple[Dataset, int]":
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    try:
        with path.open("rb") as file:
            # 1 MB of deflated data can grow to more than 1 GiB: looked at before anything is inflated.
            try:
                syntax = parse_part10_header(file.read(META_BYTES)).transfer_syntax_uid
            except BadDicomError:  # pydicom is more lenient, or says what is wrong
                syntax = str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
            file.seek(0)
            dataset = dcmread(file, stop_before_pixels=stop_before_pixels) if syntax != DEFLATED else None
            end = file.tell()
        if dataset is not None:  # as pydicom understands it: with a wrong group length both may differ
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        missing = _invalid_uids(dataset) if dataset is not None else []
    except FileNotFoundError as error:
        raise BadDicomError(f"the file {path.name} does not exist") from error
    except Exception as error:  # parsers raise nearly anything on damaged input (ValueError, struct.error, ...)
        raise BadDicomError(
            f"the file {path.name} cannot be read as DICOM",
            advice="Retrieve it again; if it stays unreadable, it is damaged in the archive.",
        ) from error
    if dataset is None:
        raise BadDicomError(f"the file {path.name} uses the Deflated transfer syntax, which is not accepted")
    if not is_uid(syntax):
        missing.append("TransferSyntaxUID")
    if missing:
        raise BadDicomError(f"the file {path.name} has no valid {', '.join(missing)}")
    return dataset, end
