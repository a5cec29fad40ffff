"""The attributes that tell the slices of one place apart, each read once, as values that can be compared and sorted."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import BadDicomError
from .dicom_file import decimal, element_as_read
from .source_slice import SourceSlice

Value = tuple[tuple[float, str], ...]  # of an attribute, each as a number or else as a text
TRIGGER_RANK = "TriggerRank"  # no attribute: how many images of a slice's place were triggered before it, and itself
_NAMES = {
    "StackID": "stack",
    "ImageKind": "image type",
    "ImageType": "image type",
    "ConvolutionKernel": "kernel",
    "EchoTime": "echo time",
    "RescaleType": "values in",
    "Units": "units",
    "SUVType": "SUV by",
    "ComplexImageComponent": "image component",
    "TemporalPositionIdentifier": "temporal position",
    "TemporalPositionIndex": "temporal position",
    "TemporalPositionTimeOffset": "time offset",
    "FrameReferenceTime": "frame time",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "NominalPercentageOfRespiratoryPhase": "respiratory phase",
    "TriggerTime": "trigger time",
    TRIGGER_RANK: "cardiac phase",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "EchoNumbers": "echo",
    "KVP": "kVp",
    "SequenceName": "sequence",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "VelocityEncodingDirection": "velocity direction",
    "AcquisitionNumber": "acquisition",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}
# Values that jitter within a volume, and by how much or by which share of them.
_JITTER = {
    "EchoTime": (0.0, 0.01),
    "DiffusionBValue": (5.0, 0.01),
    "NominalPercentageOfCardiacPhase": (0.5, 0.01),
    "NominalPercentageOfRespiratoryPhase": (0.5, 0.01),
}
_MOST = 0.75  # of slices
_TEXT_VRS = {"CS", "SH", "LO", "DS", "IS", "TM"}


class StackAttributes:
    """Values of slices by their index. Besides DICOM's keywords there is ``ImageKind``: Image Type's values 1 and 3.

    Those say if an image is derived, and from what kind of reading (AXIAL, LOCALIZER, ADC, M, P, ...); the others
    differ between the images of one volume as well.
    """

    def __init__(self, slices: Sequence[SourceSlice]) -> None:
        self._slices = slices
        self._columns: dict[str, list[Value]] = {}
        self._rough_columns: dict[str, list[Value]] = {}

    def value(self, index: int, keyword: str) -> Value:
        """Return a slice's value; empty if it has none.

        Raises
        ------
        BadDicomError
            It is damaged.
        """
        return self._column(keyword)[index]

    def text(self, index: int, keyword: str) -> str:
        """Return name and value for people: ``echo time 4.5``."""
        values = [text or _shown(number) for number, text in self.value(index, keyword)]
        return f"{_NAMES[keyword]} {' '.join(values)}".strip()

    @staticmethod
    def name(*keywords: str) -> str:
        """Return what people call some attributes."""
        return ", ".join(_NAMES[keyword] for keyword in keywords)

    def differing(self, indices: Sequence[int], keywords: Iterable[str], *, roughly: bool = False) -> tuple[str, ...]:
        """Return those attributes in which the slices differ, each once; ``roughly``: by more than they jitter."""
        columns = {keyword: self._column(keyword, roughly) for keyword in keywords}
        return tuple(k for k, column in columns.items() if len({column[index] for index in indices}) > 1)

    def parts(self, indices: Sequence[int], keywords: Sequence[str], *, roughly: bool = False) -> list[list[int]]:
        """Return the slices grouped by their values, in the order of these; ``roughly``: with what jitters as one."""
        columns = [self._column(keyword, roughly) for keyword in keywords]
        found: dict[tuple[Value, ...], list[int]] = {}
        for index in indices:
            found.setdefault(tuple(column[index] for column in columns), []).append(index)
        return [found[values] for values in sorted(found)]

    def numbers(self, indices: Sequence[int], keywords: Sequence[str]) -> np.ndarray:
        """Return the number of each slice's group, (n,), counted from 0 in the order in which they occur."""
        known: dict[tuple[Value, ...], int] = {}
        values = (tuple(self._column(keyword)[index] for keyword in keywords) for index in indices)
        return np.array([known.setdefault(value, len(known)) for value in values])

    def counts(self, indices: Sequence[int], keyword: str) -> bool:
        """Return True if most slices have a value of their own: it counts the slices."""
        return len({self._column(keyword)[index] for index in indices}) > max(1, _MOST * len(indices))

    def rank(self, indices: Sequence[int], planes: np.ndarray, keyword: str) -> bool:
        """Give each slice as ``TRIGGER_RANK`` the rank of its value among those of its plane, from 1 on.

        False, and nothing is given, where the planes hold different numbers of slices or a plane has a value twice.
        """
        by_plane: dict[int, list[int]] = {}
        for index, plane in zip(indices, planes.tolist(), strict=True):
            by_plane.setdefault(plane, []).append(index)
        column = self._column(keyword)
        values = [{column[index] for index in plane} for plane in by_plane.values()]
        if {len(plane) for plane in by_plane.values()} != {len(found) for found in values} or len(
            {len(found) for found in values}
        ) > 1:
            return False
        ranks = self._columns.setdefault(TRIGGER_RANK, [()] * len(self._slices))
        for plane in by_plane.values():
            for rank, index in enumerate(sorted(plane, key=lambda index: column[index]), start=1):
                ranks[index] = ((float(rank), ""),)
        return True

    def is_localizer(self, index: int) -> bool:
        """Return True if the header says that the slice only shows where others lie."""
        return any("LOCALIZER" in text for _, text in self.value(index, "ImageType"))

    def _column(self, keyword: str, roughly: bool = False) -> list[Value]:
        if roughly and keyword in _JITTER:
            if keyword not in self._rough_columns:
                self._rough_columns[keyword] = _without_jitter(self._column(keyword), *_JITTER[keyword])
            return self._rough_columns[keyword]
        if keyword not in self._columns:
            if keyword == "ImageKind":
                self._columns[keyword] = [value[0:3:2] for value in self._column("ImageType")]
            else:
                self._columns[keyword] = [_value(piece, keyword) for piece in self._slices]
        return self._columns[keyword]


def _value(piece: SourceSlice, keyword: str) -> Value:
    try:
        element: Any = element_as_read(piece.header, keyword)
        if element is None:
            return ()
        if isinstance(element.value, bytes) and element.VR in _TEXT_VRS:  # as it was read: quicker
            items: Any = element.value.decode("ascii", "replace").split("\\")
        else:
            items = piece.header[keyword].value
            items = items if isinstance(items, Sequence) and not isinstance(items, str) else [items]
        return tuple(_comparable(str(item)) for item in items if item is not None)
    except Exception as error:  # converters raise nearly anything on damaged input
        raise BadDicomError(f"{keyword} cannot be read", uid=piece.sop_instance_uid) from error


def _without_jitter(column: list[Value], least: float, share: float) -> list[Value]:
    """Return the values, and of numbers that lie so close to the next one the least."""
    known: dict[Value, Value] = {}
    last: Value = ()
    for value in sorted(set(column)):
        is_near = len(value) == len(last) == 1 and value[0][0] - last[0][0] <= max(least, share * abs(last[0][0]))
        known[value] = known[last] if is_near else value
        last = value
    return [known[value] for value in column]


def _shown(number: float) -> str:
    """Return a number for people; large ones, times among them, with all their digits."""
    return f"{float(f'{number:.4g}') if abs(number) < 1e4 else number:.10g}"


def _comparable(text: str) -> tuple[float, str]:
    """Return a number, so that 4 and 4.00 are one, or a text in capitals, behind all numbers."""
    try:
        return round(decimal(text), 6), ""
    except ValueError:
        return float("inf"), text.strip("\0 ").upper()
