"""A series as the later steps may rely on it: one patient, one study, one grid, slices in order."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, ConflictError, GeometryError, NotFoundError
from .dicom_file import read_dicom, whole_number
from .geometry import spacing_mm, stack_slices
from .source_slice import VOLUME_SOP_CLASS_NAMES, VOLUME_SOP_CLASSES, SourceSlice, slices_of

if TYPE_CHECKING:
    from pydicom import Dataset

_SAME_IN_A_SERIES = ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The slices of one series in order, with their checked grid.

    Attributes
    ----------
    slices
        Where each slice is stored, in slice order (k): instances of their own, or frames of Enhanced instances.
    ijk_to_lps
        4x4 affine of the grid, (i, j, k, 1) to LPS millimetres.
    ignored_paths
        Files of the same series that are no slices of the volume (localizer reports, presentation states, ...).
    """

    slices: tuple[SourceSlice, ...]
    ijk_to_lps: np.ndarray
    ignored_paths: tuple[Path, ...] = ()

    @classmethod
    def from_files(cls, paths: Iterable[Path | str]) -> "SourceSeries":
        """Read, filter, sort and check the files of one series.

        Raises
        ------
        BadDicomError
            A file is unreadable, or an image lacks its position, orientation, spacing or size.
        ConflictError
            The files mix patients, studies, series or frames of reference, or two share a SOP Instance UID.
        GeometryError
            The slices do not form a regular grid.
        NotFoundError
            No file is a slice of a volume.
        """
        found = [(Path(path), read_dicom(path, stop_before_pixels=True)) for path in paths]
        images = [(path, header) for path, header in found if header.SOPClassUID in VOLUME_SOP_CLASSES]
        ignored = tuple(path for path, header in found if header.SOPClassUID not in VOLUME_SOP_CLASSES)
        if not images:
            raise NotFoundError(
                "there is no image series",
                uid=str(found[0][1].SeriesInstanceUID) if found else None,
                advice=VOLUME_SOP_CLASS_NAMES,
            )
        _check_one_series([header for _, header in images])
        series_uid = str(images[0][1].SeriesInstanceUID)
        slices = [piece for path, header in images for piece in slices_of(path, header)]
        headers = [piece.header for piece in slices]
        try:
            stack = stack_slices(
                np.stack([_numbers(header, "ImagePositionPatient", 3) for header in headers]),
                np.stack([_numbers(header, "ImageOrientationPatient", 6) for header in headers]),
                np.stack([_numbers(header, "PixelSpacing", 2) for header in headers]),
                single_slice_spacing=_slice_thickness(headers[0]),
            )
        except GeometryError as error:
            raise GeometryError(error.what, uid=series_uid, advice=error.advice) from error
        return cls(tuple(slices[index] for index in stack.order), stack.ijk_to_lps, ignored)

    @property
    def headers(self) -> "tuple[Dataset, ...]":
        """The slices' headers, in slice order."""
        return tuple(piece.header for piece in self.slices)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, each once, in the order of their first slices."""
        return tuple(dict.fromkeys(piece.path for piece in self.slices))

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs, each once, in the order of their first slices."""
        return tuple(dict.fromkeys(piece.sop_instance_uid for piece in self.slices))

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.slices[0].header.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.slices[0].header.SeriesInstanceUID)

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID; empty where the source has none."""
        return str(self.slices[0].header.get("FrameOfReferenceUID", "") or "")

    @property
    def modality(self) -> str:
        """Modality, e.g. ``CT``."""
        return str(self.slices[0].header.get("Modality", "") or "")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Grid size (k, j, i) = (slices, rows, columns)."""
        first = self.slices[0].header
        return len(self.slices), whole_number(first, "Rows"), whole_number(first, "Columns")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing (k, j, i), millimetres."""
        return spacing_mm(self.ijk_to_lps)


def _check_one_series(headers: "list[Dataset]") -> None:
    first = headers[0]
    series_uid = str(first.SeriesInstanceUID)
    sizes = [(whole_number(header, "Rows", 0), whole_number(header, "Columns", 0)) for header in headers]
    for name in (*_SAME_IN_A_SERIES, "FrameOfReferenceUID", "Rows", "Columns"):
        if len({_text(header, name) for header in headers}) > 1:
            raise ConflictError(
                f"the files differ in {name}", uid=series_uid, advice="Give the files of exactly one series."
            )
    if len({str(header.SOPInstanceUID) for header in headers}) < len(headers):
        raise ConflictError("two files share one SOP Instance UID", uid=series_uid)
    if not all(0 < size <= 65535 for size in sizes[0]):
        raise BadDicomError("an image has no Rows or Columns", uid=str(first.SOPInstanceUID))


def _text(header: "Dataset", name: str) -> str:
    try:
        return str(header.get(name, ""))
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError(f"{name} cannot be read", uid=str(header.SOPInstanceUID)) from error


def _numbers(header: "Dataset", name: str, count: int) -> np.ndarray:
    """Return a multi-valued number as float64; refuse it if missing, short or not numeric."""
    try:
        values = np.asarray([float(value) for value in header[name].value], dtype=np.float64)
    except Exception as error:  # absent, or damaged in any way
        raise BadDicomError(f"an image has no usable {name}", uid=str(header.SOPInstanceUID)) from error
    if values.shape != (count,):
        raise BadDicomError(f"{name} has {values.size} values instead of {count}", uid=str(header.SOPInstanceUID))
    return values


def _slice_thickness(header: "Dataset") -> float:
    """Return the spacing to assume for a single slice, millimetres."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = float(header.get(name) or 0)
        except (TypeError, ValueError):
            continue
        if np.isfinite(value) and value > 0:
            return value
    return 1.0
