"""The stacks of parallel slices that one series holds: orientations, acquisitions, phases, echoes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadDicomError, GeometryError
from .dicom_file import element_as_read, whole_number
from .geometry import DIRECTION_TOLERANCE, SPACING_TOLERANCE, SliceStack, slices_at_one_position, stack_slices
from .source_slice import SourceSlice

if TYPE_CHECKING:
    from pydicom import Dataset

# What tells the slices of one place apart, in the order in which it is tried; alone first, then in pairs.
_DISTINGUISHING = {
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
    "TemporalPositionIdentifier": "temporal position",
    "TemporalPositionIndex": "temporal position",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "TriggerTime": "trigger time",
    "EchoTime": "echo time",
    "DiffusionBValue": "b-value",
    "ImageType": "image type",
    "ConvolutionKernel": "kernel",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}
_AXES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, eq=False)
class _Geometry:
    """Positions (n, 3), orientations (n, 6) and pixel spacings (n, 2) of slices."""

    positions: np.ndarray
    orientations: np.ndarray
    spacings: np.ndarray

    @classmethod
    def of(cls, slices: Sequence[SourceSlice]) -> "_Geometry":
        names = ("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)
        return cls(*(np.stack([_numbers(piece.header, *name) for piece in slices]) for name in names))

    def part(self, indices: Sequence[int]) -> "_Geometry":
        at = list(indices)
        return _Geometry(self.positions[at], self.orientations[at], self.spacings[at])

    @property
    def depth(self) -> int:
        """How many slices lie over each other at most."""
        return slices_at_one_position(self.positions, self.orientations[0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one size, orientation and pixel spacing, none at the position of another as far as can be told.

    ``name`` says for people what tells it from the other stacks of its series.
    """

    name: str
    slices: tuple[SourceSlice, ...]
    geometry: _Geometry

    def ordered(self, *, allow_irregular: bool) -> SliceStack:
        """Return order and affine of the slices; see :func:`~.geometry.stack_slices`."""
        return stack_slices(
            self.geometry.positions,
            self.geometry.orientations,
            self.geometry.spacings,
            single_slice_spacing=_slice_thickness(self.slices[0].header),
            allow_irregular=allow_irregular,
        )

    @property
    def is_localizer(self) -> bool:
        """Return True if the header says that the slices only show where others lie."""
        return "LOCALIZER" in str(self.slices[0].header.get("ImageType", "")).upper()


def find_stacks(slices: Sequence[SourceSlice]) -> list[Stack]:
    """Return the stacks, the largest first.

    Raises
    ------
    BadDicomError
        A slice has no usable position, orientation, spacing or size.
    GeometryError
        A pixel spacing is not positive.
    """
    geometry = _Geometry.of(slices)
    if (geometry.spacings <= 0).any():
        raise GeometryError("the pixel spacing is not positive")
    stacks = []
    for (rows, columns), group in _parallel(slices, geometry):
        name = f"{_orientation_name(geometry.orientations[group[0]])}, {rows} x {columns}"
        for detail, part in _apart(slices, geometry, group):
            stacks.append(Stack(name + detail, tuple(slices[index] for index in part), geometry.part(part)))
    return sorted(stacks, key=lambda stack: -len(stack.slices))


def choose_stack(stacks: Sequence[Stack], number: int | None) -> Stack:
    """Return the stack of that number, from 1 on; without one, the only stack that is no localizer.

    Raises
    ------
    GeometryError
        There are several, or none of that number; the text lists them.
    """
    if number is not None and 1 <= number <= len(stacks):
        return stacks[number - 1]
    volumes = [stack for stack in stacks if not stack.is_localizer] or list(stacks)
    if number is None and len(volumes) == 1:
        return volumes[0]
    listed = "; ".join(
        f"{n}: {stack.name} ({len(stack.slices)} slices)" for n, stack in enumerate(stacks[:20], start=1)
    )
    different = "of different orientations " if len({stack.name.partition(",")[0] for stack in stacks}) > 1 else ""
    what = f"there is no stack {number}" if number is not None else f"the series holds {len(stacks)} stacks {different}"
    raise GeometryError(f"{what.strip()}: {listed}", advice="Choose one by its number (--stack N).")


def _parallel(slices: Sequence[SourceSlice], geometry: _Geometry) -> list[tuple[tuple[int, int], list[int]]]:
    """Return the slices' indices grouped by size, orientation and pixel spacing, each with its (rows, columns)."""
    sizes = [(whole_number(piece.header, "Rows", 0), whole_number(piece.header, "Columns", 0)) for piece in slices]
    for piece, size in zip(slices, sizes, strict=True):
        if not all(0 < length <= 65535 for length in size):
            raise BadDicomError("an image has no Rows or Columns", uid=piece.sop_instance_uid)
    groups: list[tuple[tuple[int, int], list[int]]] = []
    left = np.arange(len(slices))
    while left.size:
        first = left[0]
        turned = np.abs(geometry.orientations[left] - geometry.orientations[first]).max(axis=1)
        scaled = np.abs(geometry.spacings[left] / geometry.spacings[first] - 1).max(axis=1)
        same = (turned <= DIRECTION_TOLERANCE) & (scaled <= SPACING_TOLERANCE)
        same &= np.array([sizes[index] == sizes[first] for index in left])
        groups.append((sizes[first], left[same].tolist()))
        left = left[~same]
    return groups


def _apart(slices: Sequence[SourceSlice], geometry: _Geometry, group: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Yield the parts of parallel slices that lie over each other, each with what tells it apart."""
    depth = geometry.part(group).depth
    for count in (1, 2) if depth > 1 else ():
        for keywords in combinations(_DISTINGUISHING, count):
            parts: dict[tuple[str, ...], list[int]] = {}
            for index in group:
                values = tuple(str(slices[index].header.get(keyword, "")) for keyword in keywords)
                parts.setdefault(values, []).append(index)
            if len(parts) == depth and all(geometry.part(part).depth == 1 for part in parts.values()):
                for values, part in sorted(parts.items()):
                    texts = (f"{_DISTINGUISHING[k]} {value}" for k, value in zip(keywords, values, strict=True))
                    yield ", " + ", ".join(texts), part
                return
    yield "", group


def _numbers(header: "Dataset", name: str, count: int) -> np.ndarray:
    """Return a multi-valued number as float64; refuse it if missing, short or not finite."""
    try:
        value: Any = element_as_read(header, name).value  # type: ignore[union-attr]
        if isinstance(value, bytes):  # as read: pydicom's own conversion takes ten times as long
            value = value.decode("ascii").strip("\0 ").split("\\")
        values = np.asarray([float(item) for item in value], dtype=np.float64)
    except Exception as error:  # absent, or damaged in any way
        raise BadDicomError(f"an image has no usable {name}", uid=str(header.SOPInstanceUID)) from error
    if values.shape != (count,):
        raise BadDicomError(f"{name} has {values.size} values instead of {count}", uid=str(header.SOPInstanceUID))
    if not np.isfinite(values).all():
        raise BadDicomError(f"{name} is not finite", uid=str(header.SOPInstanceUID))
    return values


def slice_position(header: "Dataset") -> np.ndarray:
    """Return Image Position (Patient) of a slice of a series, (3,) in LPS millimetres."""
    return _numbers(header, "ImagePositionPatient", 3)


def _orientation_name(orientation: np.ndarray) -> str:
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    axis = int(normal.argmax())
    return _AXES[axis] if normal[axis] > np.cos(np.radians(1)) else f"oblique {_AXES[axis]}"


def _slice_thickness(header: "Dataset") -> float:
    """Return the spacing to assume for a single slice, millimetres."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = float(header.get(name) or 0)
        except (TypeError, ValueError):
            continue
        if np.isfinite(value) and 0 < value < 1e6:
            return value
    return 1.0
