"""Where the frames of a segmentation lie on the grid of a source, and which segment each belongs to."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, GeometryError
from ..series.source_series import SourceSeries

if TYPE_CHECKING:
    from pydicom import Dataset

_PER_FRAME = 0x52009230
_POSITION, _ORIENTATION, _MEASURES, _IDENTIFICATION = 0x00209113, 0x00209116, 0x00289110, 0x0062000A
_TOLERANCE = 0.1  # of a voxel: positions and directions are written with few decimals
_UNDEFINED = 0xFFFFFFFF
_LONG_FORM = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


@dataclass(frozen=True, slots=True)
class FrameGroups:
    """The functional groups of one frame.

    Attributes
    ----------
    encoded
        The sequence of each group by its tag: its bytes where pydicom has not decoded it, else its items.
    """

    encoded: "dict[int, bytes | list[Dataset]]"

    def decoded(self, tag: int) -> "list[Dataset]":
        """Return the items of one group."""
        return _decoded(self.encoded[tag])


@dataclass(frozen=True, slots=True)
class FramePlace:
    """What one frame shows.

    Attributes
    ----------
    frame
        Its position in the pixel data, from 0 on.
    k
        The slice of the source that it lies on.
    segment_number
        Referenced Segment Number; 0 in a label map.
    """

    frame: int
    k: int
    segment_number: int


def frame_places(dataset: "Dataset", source: SourceSeries) -> list[FramePlace]:
    """Return the place of every frame, in the order of the pixel data.

    Raises
    ------
    BadDicomError
        The functional groups are not one for each frame, or a frame of BINARY or FRACTIONAL names no segment.
    GeometryError
        A frame does not lie on a slice of the source.
    """
    per_frame = [groups.encoded for groups in frame_groups(dataset)]
    if len(per_frame) != int(dataset.NumberOfFrames):
        raise BadDicomError("the number of frames contradicts the functional groups")
    shared_items = dataset.get("SharedFunctionalGroupsSequence") or []
    shared = {int(element.tag): element.value for item in shared_items[:1] for element in item if element.VR == "SQ"}
    grid = _Grid(source)
    labelmap = dataset.SegmentationType == "LABELMAP"
    slices: dict[object, int] = {}
    numbers: dict[object, int] = {}
    places = []
    for frame, own in enumerate(per_frame):
        geometry = [own.get(tag, shared.get(tag)) for tag in (_POSITION, _ORIENTATION, _MEASURES)]
        # Frames of one slice repeat its bytes: each is decoded once.
        key = tuple(value if isinstance(value, bytes) else id(value) for value in geometry)
        if key not in slices:
            position, orientation, measures = (_first_item(value) for value in geometry)
            slices[key] = grid.slice_of(
                position.ImagePositionPatient, orientation.ImageOrientationPatient, measures.PixelSpacing
            )
        number = 0
        if not labelmap:
            named = own.get(_IDENTIFICATION, shared.get(_IDENTIFICATION))
            named_key = named if isinstance(named, bytes) else id(named)
            if named_key not in numbers:
                numbers[named_key] = int(_first_item(named).ReferencedSegmentNumber)
            number = numbers[named_key]
        places.append(FramePlace(frame, slices[key], number))
    return places


class _Grid:
    """The slices of a source, to be found by a frame's position."""

    def __init__(self, source: SourceSeries) -> None:
        self._in_plane = source.ijk_to_lps[:3, :2]
        self._lps_to_ijk = np.linalg.inv(source.ijk_to_lps[:3, :3])
        self._positions = source.positions_mm  # of each slice: the affine alone does not hold in an irregular series
        self._size = max(source.shape[1:])

    def slice_of(self, position: object, orientation: object, spacing: object) -> int:
        directions, (rows_mm, columns_mm) = np.asarray(orientation, float), np.asarray(spacing, float)
        row, column = directions[:3] * columns_mm, directions[3:] * rows_mm
        distances = self._positions - np.asarray(position, float)
        k = int(np.argmin((distances**2).sum(axis=1)))
        # A small difference of direction or spacing counts by how far it moves the last voxel of the frame.
        drift = self._lps_to_ijk @ (np.stack([row, column], axis=1) - self._in_plane) * self._size
        off_grid = max(np.abs(self._lps_to_ijk @ distances[k]).max(), np.abs(drift).max())
        if not off_grid <= _TOLERANCE:
            raise GeometryError(
                "a frame of the segmentation does not lie on a slice of the series",
                advice="The segmentation was made on another grid; resample it in Slicer.",
            )
        return k


def _decoded(value: "bytes | list[Dataset]") -> "list[Dataset]":
    from pydicom.values import convert_SQ

    return list(convert_SQ(value, False, True)) if isinstance(value, bytes) else value


def _first_item(value: "bytes | list[Dataset] | None") -> "Dataset":
    """Return the first item of a functional group's sequence."""
    items = _decoded(value) if value is not None else []
    if not items:
        raise BadDicomError("a frame has no position, orientation, spacing or segment")
    return items[0]


def frame_groups(dataset: "Dataset") -> Iterator[FrameGroups]:
    """Yield the functional groups of each frame, without decoding what pydicom has not: 2000 frames would take 1 s.

    Raises
    ------
    BadDicomError
        They are absent or damaged.
    """
    from pydicom.dataelem import RawDataElement

    element = dataset.get_item(_PER_FRAME)
    if element is None:
        raise BadDicomError("the segmentation has no functional groups for its frames")
    if isinstance(element, RawDataElement) and not element.is_implicit_VR and element.is_little_endian:
        try:
            yield from [FrameGroups(dict(_elements(item))) for item in _items(element.value or b"")]
            return
        except _UndefinedLengthError:
            pass
    for item in dataset.PerFrameFunctionalGroupsSequence:
        yield FrameGroups({int(group.tag): group.value for group in item if group.VR == "SQ"})


class _UndefinedLengthError(Exception):
    """A sequence or item ends with a delimiter: it has to be decoded to find its end."""


def _items(value: bytes) -> Iterator[bytes]:
    """Yield the items of an encoded sequence (PS3.5 7.5)."""
    place = 0
    while place < len(value):
        group, element, length = struct.unpack_from("<HHI", value, place)
        if length == _UNDEFINED:
            raise _UndefinedLengthError
        place += 8
        if (group, element) != (0xFFFE, 0xE000) or place + length > len(value):
            raise BadDicomError("the functional groups are damaged")
        yield value[place : place + length]
        place += length


def _elements(item: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of each element of an item in Explicit VR Little Endian."""
    place = 0
    while place < len(item):
        group, element, vr, length = struct.unpack_from("<HH2sH", item, place)
        place += 8
        if vr in _LONG_FORM:
            (length,) = struct.unpack_from("<I", item, place)
            place += 4
            if length == _UNDEFINED:
                raise _UndefinedLengthError
        if place + length > len(item):
            raise BadDicomError("the functional groups are damaged")
        yield group << 16 | element, item[place : place + length]
        place += length
