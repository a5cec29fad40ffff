"""What a person can choose from where a series is no one regular volume."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import GeometryError
from .source_series import read_slices
from .stacks import find_stacks


@dataclass(frozen=True)
class OfferedStack:
    """One stack of a series.

    Attributes
    ----------
    number
        By which :meth:`~.source_series.SourceSeries.from_files` takes it.
    name
        What tells it from the others, for people.
    irregularity
        What keeps its slices from being a regular grid, as a clause; it is taken with ``resample`` then.
    problem
        Why it is no volume at all, as a clause; empty where it is one.
    """

    number: int
    name: str
    slice_count: int
    irregularity: str = ""
    problem: str = ""


def offered_stacks(paths: Iterable[Path | str]) -> list[OfferedStack]:
    """Return the stacks of the series in some files, in the order of their numbers.

    Raises
    ------
    BridgeError
        As :meth:`~.source_series.SourceSeries.from_files`, for what no choice can mend.
    """
    offered = []
    for number, stack in enumerate(find_stacks(read_slices(dict.fromkeys(Path(path) for path in paths))), start=1):
        irregularity = problem = ""
        try:
            irregularity = stack.ordered(allow_irregular=True).irregularity
        except GeometryError as error:
            problem = error.what
        offered.append(OfferedStack(number, stack.name, len(stack.slices), irregularity, problem))
    return offered
