"""The image series that a folder holds."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadDicomError, NotFoundError
from .dicom_file import has_dicom_prefix, is_part10_file, looks_like_dataset, raw_text
from .source_slice import VOLUME_SOP_CLASSES, read_image_header

if TYPE_CHECKING:
    from pydicom import Dataset


def series_in_folder(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each image series in a folder and below, by Series Instance UID; others are passed over.

    Raises
    ------
    NotFoundError
        There is no such folder.
    BadDicomError
        A file must have been a slice and cannot be read.
    """
    if not folder.is_dir():
        raise NotFoundError(f"the folder {folder} does not exist")
    by_series: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not is_part10_file(path):
            others.append(path)
            continue
        found = read_image_header(path)
        header = found[0] if found is not None else None
        if header is not None and raw_text(header, "SOPClassUID") in VOLUME_SOP_CLASSES:
            by_series.setdefault(raw_text(header, "SeriesInstanceUID"), []).append(path)
    _check_others(others, slices=[path for paths in by_series.values() for path in paths])
    return by_series


def more_beside(path: Path) -> bool:
    """Return True if another instance of a file's series lies in the same folder."""
    given = read_image_header(path)
    for other in sorted(path.resolve().parent.iterdir()) if given is not None else ():
        try:
            found = read_image_header(other) if other.is_file() and is_part10_file(other) else None
        except BadDicomError:  # nobody asked for this one
            continue
        if found is not None and given is not None and _is_more(found[0], given[0]):
            return True
    return False


def _is_more(header: "Dataset", given: "Dataset") -> bool:
    same = [raw_text(header, name) == raw_text(given, name) for name in ("SeriesInstanceUID", "SOPInstanceUID")]
    return same == [True, False]


def _check_others(others: Iterable[Path], *, slices: Iterable[Path]) -> None:
    """Refuse a file that must have been a slice: left out, it would shorten the volume without a trace."""
    named_like_slices = {(path.parent, _suffix(path)) for path in slices}
    for path in others:
        if path.name.startswith(".") or has_dicom_prefix(path):
            continue
        if ".dcm" in (suffix.lower() for suffix in path.suffixes) or (path.parent, _suffix(path)) in named_like_slices:
            what = "named like a DICOM file and is none: "
            what += "it is empty" if path.stat().st_size == 0 else "the prefix DICM is missing"
        elif looks_like_dataset(path):
            what = "a DICOM data set without the file meta information that says how to read it"
        else:
            continue
        raise BadDicomError(
            f"the file {path.name} is {what}",
            advice="Retrieve it again, or take it out of the folder if it is no part of the series.",
        )


def _suffix(path: Path) -> str:
    """Return the suffix in small letters; what follows the last dot of a UID is none."""
    return "" if path.suffix[1:].isdigit() else path.suffix.lower()
