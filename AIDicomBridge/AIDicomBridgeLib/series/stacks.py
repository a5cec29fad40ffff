"""The stacks of parallel slices that one series holds: orientations, acquisitions, phases, echoes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadDicomError, GeometryError
from .dicom_file import decimal, element_as_read, whole_number
from .geometry import SliceStack, orientation_name, plane_numbers, stack_slices
from .regular_grid import enclosing_grid
from .source_slice import SourceSlice
from .stack_attributes import StackAttributes, Value

if TYPE_CHECKING:
    from pydicom import Dataset

# Slices that differ in one of these are of two volumes, wherever they lie.
_NEVER_TOGETHER = ("StackID", "ImageKind", "ConvolutionKernel", "EchoTime", "RescaleType", "Units")
# What tells the slices of one place apart, alone or in pairs. Numbers and times of acquisition may count packages of
# slices as well as phases, so they are asked last.
_PHASES = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase", "TriggerTime"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "VelocityEncodingDirection", "ImageType"),
)
_ACQUISITIONS = ("AcquisitionNumber", "AcquisitionTime", "ContentTime")
# Of the pixel spacing: how far apart the far corners of slices may lie that are given one orientation and spacing.
_CORNER_TOLERANCE = 0.05
_MOST_ORIENTATIONS = 256  # of one series; who should choose among more?


@dataclass(frozen=True, eq=False)
class _Geometry:
    """Positions (n, 3), orientations (n, 6), pixel spacings (n, 2) and sizes (n, 2), rows and columns, of slices."""

    positions: np.ndarray
    orientations: np.ndarray
    spacings: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, slices: Sequence[SourceSlice]) -> "_Geometry":
        names = ("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)
        positions, orientations, spacings = (
            np.stack([_numbers(piece.header, *name) for piece in slices]) for name in names
        )
        return cls(positions, orientations, spacings, np.array([_size(piece) for piece in slices]))

    def part(self, indices: Sequence[int]) -> "_Geometry":
        at = list(indices)
        return _Geometry(self.positions[at], self.orientations[at], self.spacings[at], self.sizes[at])

    @property
    def planes(self) -> np.ndarray:
        """The number of each slice's plane along the normal, (n,); phases of one place share it."""
        return plane_numbers(self.positions, self.orientations[0], float(self.spacings.min()))


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one size, orientation and pixel spacing, none at the position of another as far as can be told.

    Attributes
    ----------
    name
        For people: what tells it from the other stacks of its series.
    family
        Which of the series' orientations, sizes and spacings it has.
    values
        What tells it from others of its family.
    is_localizer
        Its header says that the slices only show where others lie.
    problem
        Why its slices are no one volume, as a clause; empty where they may be.
    """

    name: str
    slices: tuple[SourceSlice, ...]
    geometry: _Geometry
    family: int
    values: tuple[Value, ...]
    is_localizer: bool
    problem: str = ""

    def ordered(self, *, allow_irregular: bool) -> SliceStack:
        """Return order and affine of the slices; see :func:`~.geometry.stack_slices`.

        Raises what that does, and :func:`~.regular_grid.enclosing_grid` for irregular slices that it allows.
        """
        if self.problem:
            raise GeometryError(self.problem, advice="Ask for a series that holds one acquisition only.")
        ordered = stack_slices(
            self.geometry.positions,
            self.geometry.orientations,
            self.geometry.spacings,
            single_slice_spacing=_slice_thickness(self.slices[0].header),
            allow_irregular=allow_irregular,
        )
        if ordered.irregularity:
            shape = (len(self.slices), *_size(self.slices[0]))
            enclosing_grid(self.geometry.positions[list(ordered.order)], ordered.ijk_to_lps, shape)
        return ordered


def find_stacks(slices: Sequence[SourceSlice]) -> list[Stack]:
    """Return the stacks, the largest first; their order depends on what the slices hold, not on that of the files.

    Raises
    ------
    BadDicomError
        A slice has no usable position, orientation, spacing or size, or what tells it apart is damaged.
    GeometryError
        A pixel spacing is not positive, or there are hundreds of orientations.
    """
    slices = sorted(slices, key=lambda piece: (piece.sop_instance_uid, piece.frame_number or 0))
    geometry, attributes = _Geometry.of(slices), StackAttributes(slices)
    if (geometry.spacings <= 0).any():
        raise GeometryError("the pixel spacing is not positive")
    stacks = []
    for family, group in enumerate(_parallel(geometry)):
        rows, columns = geometry.sizes[group[0]]
        name = f"{orientation_name(geometry.orientations[group[0]])}, {rows} x {columns}"
        for kind in attributes.parts(group, attributes.differing(group, _NEVER_TOGETHER)):
            for keywords, part, problem in _apart(attributes, geometry, kind):
                told_by = attributes.differing(group, (*_NEVER_TOGETHER, *keywords))
                stacks.append(
                    Stack(
                        ", ".join([name, *(attributes.text(part[0], keyword) for keyword in told_by)]),
                        tuple(slices[index] for index in part),
                        geometry.part(part),
                        family,
                        tuple(attributes.value(part[0], keyword) for keyword in told_by),
                        any(attributes.is_localizer(index) for index in part),
                        problem,
                    )
                )
    return sorted(stacks, key=lambda stack: (-len(stack.slices), stack.name.split(",")[:2], stack.values))


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
    # A localizer among the slices of a volume, and not across them, may be one of them under a wrong name.
    if number is None and len(volumes) == 1 and all(s.family != volumes[0].family for s in stacks if s != volumes[0]):
        return volumes[0]
    listed = "; ".join(
        f"{n}: {stack.name} ({len(stack.slices)} slices)" for n, stack in enumerate(stacks[:20], start=1)
    )
    different = "of different orientations " if len({stack.name.partition(",")[0] for stack in stacks}) > 1 else ""
    what = f"there is no stack {number}" if number is not None else f"the series holds {len(stacks)} stacks {different}"
    raise GeometryError(f"{what.strip()}: {listed}", advice="Choose one by its number (--stack N; in Python stack=N).")


def _parallel(geometry: _Geometry) -> list[list[int]]:
    """Return the slices' indices grouped by size, orientation and pixel spacing."""
    along_row = geometry.orientations[:, :3] * (geometry.spacings[:, 1] * geometry.sizes[:, 1])[:, None]
    along_column = geometry.orientations[:, 3:] * (geometry.spacings[:, 0] * geometry.sizes[:, 0])[:, None]
    groups: list[list[int]] = []
    left = np.arange(len(geometry.positions))
    while left.size:
        if len(groups) == _MOST_ORIENTATIONS:
            raise GeometryError(f"the series holds slices of more than {_MOST_ORIENTATIONS} orientations or sizes")
        first = left[0]
        apart = np.linalg.norm(along_row[left] - along_row[first], axis=1)
        apart += np.linalg.norm(along_column[left] - along_column[first], axis=1)
        same = apart <= _CORNER_TOLERANCE * geometry.spacings[first].min()
        same &= (geometry.sizes[left] == geometry.sizes[first]).all(axis=1)
        same[0] = True
        groups.append(left[same].tolist())
        left = left[~same]
    return groups


def _apart(
    attributes: StackAttributes, geometry: _Geometry, group: list[int]
) -> Iterator[tuple[tuple[str, ...], list[int], str]]:
    """Yield the parts of parallel slices that lie over each other: what tells them apart, which, and the problem."""
    planes = geometry.part(group).planes
    depth = int(np.bincount(planes).max())
    tiers = (
        [(keyword,) for keyword in _PHASES],
        [(keyword,) for keyword in _ACQUISITIONS],
        list(combinations((*_PHASES, *_ACQUISITIONS), 2)),
    )
    for tier in tiers if depth > 1 else ():
        found = []
        for keywords in tier:
            parts = attributes.numbers(group, keywords)
            if parts.max() + 1 == depth and len(np.unique(parts * len(group) + planes)) == len(group):
                found.append((keywords, parts))
        if not found:
            continue
        keywords, parts = found[0]
        other = next((others for others, numbers in found if (numbers != parts).any()), None)
        if other is not None:
            names = " and by ".join(attributes.name(*names) for names in (keywords, other))
            yield (), group, f"the slices of one position are told apart differently by {names}"
            return
        for part in attributes.parts(group, keywords):
            yield keywords, part, ""
        return
    yield (), group, ""


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


def slice_position(header: "Dataset") -> np.ndarray:
    """Return Image Position (Patient) of a slice of a series, (3,) in LPS millimetres."""
    return _numbers(header, "ImagePositionPatient", 3)


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
