"""The image series that a folder holds, and what their headers say that tells for which model one is meant."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadDicomError, BridgeError, NotFoundError
from .dicom_file import has_dicom_prefix, is_part10_file, looks_like_dataset, raw_text, read_header
from .geometry import orientation_name
from .source_series import SourceSeries
from .source_slice import VOLUME_SOP_CLASSES


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
        header, _ = read_header(path)
        if raw_text(header, "SOPClassUID") in VOLUME_SOP_CLASSES:
            by_series.setdefault(raw_text(header, "SeriesInstanceUID"), []).append(path)
    _check_others(others, slices=[path for paths in by_series.values() for path in paths])
    return by_series


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


@dataclass(frozen=True)
class SeriesTraits:
    """What the headers of one series on disk say.

    Attributes
    ----------
    series_uid, modality, body_part, description
        As the headers have them.
    slice_count
        Slices of its volume, or files where it forms none.
    problem
        Why it forms no volume, as a clause; empty where it does.
    orientation
        ``"axial"``, ``"oblique coronal"``, ...; empty where it forms no volume.
    slice_spacing_mm
        Between its slices; 0 where it forms no volume.
    image_type
        Image Type in capitals: ``("ORIGINAL", "PRIMARY", "AXIAL")``.
    contrast
        The header names a contrast agent.
    """

    series_uid: str
    modality: str
    body_part: str
    description: str
    slice_count: int
    problem: str
    orientation: str
    slice_spacing_mm: float
    image_type: tuple[str, ...]
    contrast: bool

    @classmethod
    def of(cls, paths: Iterable[Path], *, stack: int | None = None, resample: bool = False) -> "SeriesTraits":
        """Return the traits of a series from its files; ``stack`` and ``resample`` as they will be read.

        Raises
        ------
        BadDicomError
            A file is unreadable.
        """
        files = list(paths)
        header, _ = read_header(files[0])
        source, problem = None, ""
        try:
            source = SourceSeries.from_files(files, stack=stack, resample=resample)
            header = source.headers[0]
        except BridgeError as error:
            problem = error.what
        try:
            modality, body_part, description = (
                str(header.get(name) or "") for name in ("Modality", "BodyPartExamined", "SeriesDescription")
            )
            kind = header.get("ImageType") or ()
            image_type = tuple(str(part).upper() for part in ([kind] if isinstance(kind, str) else kind))
            contrast = bool(header.get("ContrastBolusAgent") or header.get("ContrastBolusAgentSequence"))
        except Exception as error:  # converters raise nearly anything on damaged input
            raise BadDicomError("the header is damaged", uid=raw_text(header, "SOPInstanceUID")) from error
        return cls(
            raw_text(header, "SeriesInstanceUID"),
            modality,
            body_part,
            description,
            len(source.slices) if source else len(files),
            problem,
            orientation_name(source.ijk_to_lps) if source else "",
            source.spacing_mm[0] if source else 0.0,
            image_type,
            contrast,
        )
