"""Where the slices of a series lie, as their headers say it, and which of them are parallel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadDicomError, GeometryError
from .dicom_file import decimal, element_as_read, raw_text, whole_number
from .geometry import plane_numbers
from .source_slice import SourceSlice

if TYPE_CHECKING:
    from pydicom import Dataset

# Of the pixel spacing: how far from the middle the far corners of slices may lie that are given one orientation.
_CORNER_TOLERANCE = 0.05
_MOST_ORIENTATIONS = 256  # of one series; who should choose among more?


@dataclass(frozen=True, eq=False)
class SliceGeometry:
    """Positions (n, 3), orientations (n, 6), pixel spacings (n, 2), sizes (n, 2) = rows and columns, of slices.

    ``spaces`` has the Frame of Reference UID of each, (n,).
    """

    positions: np.ndarray
    orientations: np.ndarray
    spacings: np.ndarray
    sizes: np.ndarray
    spaces: np.ndarray

    @classmethod
    def of(cls, slices: Sequence[SourceSlice]) -> "SliceGeometry":
        """Read it from the headers.

        Raises
        ------
        BadDicomError
            A slice has no usable position, orientation, spacing or size.
        GeometryError
            A pixel spacing is not positive.
        """
        names = ("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)
        positions, orientations, spacings = (
            np.stack([_numbers(piece.header, *name) for piece in slices]) for name in names
        )
        if (spacings <= 0).any():
            raise GeometryError("the pixel spacing is not positive")
        sizes = np.array([_size(piece) for piece in slices])
        spaces = np.array([raw_text(piece.header, "FrameOfReferenceUID") for piece in slices])
        return cls(positions, orientations, spacings, sizes, spaces)

    def part(self, indices: Sequence[int]) -> "SliceGeometry":
        """Return that of some slices."""
        at = list(indices)
        values = self.positions, self.orientations, self.spacings, self.sizes, self.spaces
        return SliceGeometry(*(value[at] for value in values))

    @property
    def orientation(self) -> np.ndarray:
        """The middle of the orientations of parallel slices, (6,): they differ by rounding."""
        return (self.orientations.min(axis=0) + self.orientations.max(axis=0)) / 2

    @property
    def distances(self) -> np.ndarray:
        """Where parallel slices lie along their normal, (n,) millimetres."""
        return self.positions @ np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def planes(self) -> np.ndarray:
        """The number of each slice's plane along the normal, (n,); phases of one place share it."""
        return plane_numbers(self.positions, self.orientation, float(self.spacings.min()))

    def parallel(self) -> list[list[int]]:
        """Return the slices' indices grouped by size, orientation, pixel spacing and frame of reference.

        Raises
        ------
        GeometryError
            There are hundreds of groups.
        """
        along_row = self.orientations[:, :3] * (self.spacings[:, 1] * self.sizes[:, 1])[:, None]
        along_column = self.orientations[:, 3:] * (self.spacings[:, 0] * self.sizes[:, 0])[:, None]
        corners = np.stack([along_row, along_column, along_row + along_column], axis=1)  # seen from the first voxel
        groups: list[list[int]] = []
        left = np.arange(len(self.positions))
        while left.size:
            if len(groups) == _MOST_ORIENTATIONS:
                raise GeometryError(f"the series holds slices of more than {_MOST_ORIENTATIONS} orientations or sizes")
            first = left[0]
            tolerance = _CORNER_TOLERANCE * self.spacings[first].min()
            alike = (self.sizes[left] == self.sizes[first]).all(axis=1) & (self.spaces[left] == self.spaces[first])
            near = left[alike & (_apart(corners[left], corners[first]) <= 2 * tolerance)]
            # Round their middle, so that it makes no difference which of them came first.
            group = near[_apart(corners[near], np.median(corners[near], axis=0)) <= tolerance]
            if not group.size:
                group = near[_apart(corners[near], corners[first]) <= tolerance]
            groups.append(group.tolist())
            left = np.setdiff1d(left, group)
        return groups


def _apart(corners: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(corners - others, axis=2).max(axis=1)


def slice_position(header: "Dataset") -> np.ndarray:
    """Return Image Position (Patient) of a slice of a series, (3,) in LPS millimetres."""
    return _numbers(header, "ImagePositionPatient", 3)


def _size(piece: SourceSlice) -> tuple[int, int]:
    rows, columns = whole_number(piece.header, "Rows", 0), whole_number(piece.header, "Columns", 0)
    if not (0 < rows <= 65535 and 0 < columns <= 65535):
        raise BadDicomError("an image has no Rows or Columns", uid=piece.sop_instance_uid)
    return rows, columns


def _numbers(header: "Dataset", name: str, count: int) -> np.ndarray:
    """Return a multi-valued number as float64; refuse it if missing, short or not finite."""
    try:
        value: Any = element_as_read(header, name).value  # type: ignore[union-attr]
        if isinstance(value, bytes):  # as read: pydicom's own conversion takes ten times as long
            value = value.decode("ascii").split("\\")
        values = np.array([item if type(item) is float else decimal(str(item)) for item in value])
    except Exception as error:  # absent, or damaged in any way
        raise BadDicomError(f"an image has no usable {name}", uid=str(header.SOPInstanceUID)) from error
    if values.shape != (count,):
        raise BadDicomError(f"{name} has {values.size} values instead of {count}", uid=str(header.SOPInstanceUID))
    if not np.isfinite(values).all():
        raise BadDicomError(f"{name} is not finite", uid=str(header.SOPInstanceUID))
    return values
