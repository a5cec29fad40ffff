"""The stacks of parallel slices that one series holds: planes, and in each the volumes that lie in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import GeometryError
from .geometry import SliceStack, orientation_name, stack_slices
from .phases import volumes_of
from .regular_grid import enclosing_grid
from .slice_geometry import SliceGeometry
from .source_slice import SourceSlice
from .stack_attributes import StackAttributes, Value

if TYPE_CHECKING:
    from pydicom import Dataset


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
    geometry: SliceGeometry
    family: int
    values: tuple[Value, ...]
    is_localizer: bool
    problem: str = ""

    def __repr__(self) -> str:
        """Return what a person calls it; its slices hold the patient's data."""
        return f"<Stack {self.name}, {len(self.slices)} slices>"

    def ordered(self, *, allow_irregular: bool) -> SliceStack:
        """Return order and affine of the slices; see :func:`~.geometry.stack_slices`.

        Raises what that does, and :func:`~.regular_grid.enclosing_grid` for irregular slices that it allows.
        """
        if self.problem:
            raise GeometryError(self.problem, advice="Ask for a series that holds one acquisition only.")
        ordered = stack_slices(
            self.geometry.positions,
            np.broadcast_to(self.geometry.orientation, self.geometry.orientations.shape),
            self.geometry.spacings,
            single_slice_spacing=_slice_thickness(self.slices[0].header),
            allow_irregular=allow_irregular,
        )
        if ordered.irregularity:
            shape = (len(self.slices), *self.geometry.sizes[0].tolist())
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
    geometry, attributes = SliceGeometry.of(slices), StackAttributes(slices)
    stacks = []
    for family, group in enumerate(geometry.parallel()):
        rows, columns = geometry.sizes[group[0]]
        name = f"{orientation_name(geometry.orientations[group[0]])}, {rows} x {columns}"
        for part, told_by, problem in volumes_of(attributes, geometry, group):
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


def _slice_thickness(header: "Dataset") -> float | None:
    """Return how far a single slice reaches along its normal, millimetres; None where it does not say so."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = float(header.get(name) or 0)
        except (TypeError, ValueError):
            continue
        if np.isfinite(value) and 0 < value < 1e6:
            return value
    return None
