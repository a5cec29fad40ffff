"""The stacks of parallel slices that one series holds: orientations, acquisitions, phases, echoes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, GeometryError
from .dicom_file import whole_number
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
class Stack:
    """Slices of one size, orientation and pixel spacing, none at the position of another as far as can be told.

    ``name`` says for people what tells it from the other stacks of its series.
    """

    name: str
    slices: tuple[SourceSlice, ...]

    def ordered(self, *, allow_irregular: bool) -> SliceStack:
        """Return order and affine of the slices; see :func:`~.geometry.stack_slices`."""
        return stack_slices(
            *_geometry(self.slices),
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
    stacks = []
    for group in _parallel(slices):
        name = f"{_orientation_name(group[0].header)}, {group[0].header.Rows} x {group[0].header.Columns}"
        stacks += [Stack(f"{name}{detail}", tuple(part)) for detail, part in _apart(group)]
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


def _parallel(slices: Sequence[SourceSlice]) -> list[list[SourceSlice]]:
    """Return the slices grouped by size, orientation and pixel spacing."""
    _, orientations, spacings = _geometry(slices)
    if (spacings <= 0).any():
        raise GeometryError("the pixel spacing is not positive")
    groups: list[tuple[tuple, list[SourceSlice]]] = []
    for piece, orientation, spacing in zip(slices, orientations, spacings, strict=True):
        size = whole_number(piece.header, "Rows", 0), whole_number(piece.header, "Columns", 0)
        if not all(0 < length <= 65535 for length in size):
            raise BadDicomError("an image has no Rows or Columns", uid=piece.sop_instance_uid)
        for (first_size, first_orientation, first_spacing), group in groups:
            if (
                size == first_size
                and np.abs(orientation - first_orientation).max() <= DIRECTION_TOLERANCE
                and np.abs(spacing - first_spacing).max() <= SPACING_TOLERANCE * np.abs(first_spacing).max()
            ):
                group.append(piece)
                break
        else:
            groups.append(((size, orientation, spacing), [piece]))
    return [group for _, group in groups]


def _apart(group: list[SourceSlice]) -> Iterator[tuple[str, list[SourceSlice]]]:
    """Yield the parts of parallel slices that lie over each other, each with what tells it apart."""
    positions, orientations, _ = _geometry(group)
    depth = slices_at_one_position(positions, orientations[0])
    for count in (1, 2) if depth > 1 else ():
        for keywords in combinations(_DISTINGUISHING, count):
            parts: dict[tuple[str, ...], list[SourceSlice]] = {}
            for piece in group:
                parts.setdefault(tuple(str(piece.header.get(k, "")) for k in keywords), []).append(piece)
            if len(parts) == depth and all(_lie_apart(part) for part in parts.values()):
                for values, part in sorted(parts.items()):
                    texts = (f"{_DISTINGUISHING[k]} {value}" for k, value in zip(keywords, values, strict=True))
                    yield ", " + ", ".join(texts), part
                return
    yield "", group


def _lie_apart(part: list[SourceSlice]) -> bool:
    positions, orientations, _ = _geometry(part)
    return slices_at_one_position(positions, orientations[0]) == 1


def _geometry(slices: Sequence[SourceSlice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n, 3) positions, (n, 6) orientations and (n, 2) pixel spacings."""
    return (
        np.stack([_numbers(piece.header, "ImagePositionPatient", 3) for piece in slices]),
        np.stack([_numbers(piece.header, "ImageOrientationPatient", 6) for piece in slices]),
        np.stack([_numbers(piece.header, "PixelSpacing", 2) for piece in slices]),
    )


def _numbers(header: "Dataset", name: str, count: int) -> np.ndarray:
    """Return a multi-valued number as float64; refuse it if missing, short or not finite."""
    try:
        value = header.get_item(name).value
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


def _orientation_name(header: "Dataset") -> str:
    orientation = _numbers(header, "ImageOrientationPatient", 6)
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
