"""Which frames a segmentation will have, and how large it will be, before any is made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import EncodingError
from .labels import LabelVolume, Segment

FRACTIONAL_MAXIMUM = 255
LEAST_FRACTION = 0.5  # from here on, written and read, a voxel belongs to the segment with the largest fraction
MOST_LAYERS = 64  # of segments that overlap, written and read: each takes a volume of memory


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: a slice of the source, for one segment or, in a label map, for all.

    Attributes
    ----------
    k
        The slice.
    segment
        Position among the plan's segments; 0 in a label map.
    layer
        Position of the label array in :attr:`LabelVolume.layers`.
    start, stop
        The part of the slice, flattened, outside of which the segment has no voxel.
    """

    k: int
    segment: int = 0
    layer: int = 0
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class FramePlan:
    """The frames of a segmentation, in the order in which they are written.

    Attributes
    ----------
    encoding
        ``BINARY``, ``LABELMAP`` or ``FRACTIONAL``.
    segments
        What is described: the segments that have voxels; all of them where none has.
    numbers
        Segment Number of each: 1, 2, 3 ... in label order, in a label map the label itself.
    slices
        The slices that have a frame, last slice first: the order of highdicom's frames.
    overlap
        Segments Overlap: ``YES`` where two segments share a voxel, ``NO``, or ``UNDEFINED`` for fractions.
    """

    encoding: str
    segments: tuple[Segment, ...]
    frames: tuple[Frame, ...]
    slices: tuple[int, ...]
    frame_shape: tuple[int, int]
    overlap: str = "NO"

    @property
    def numbers(self) -> tuple[int, ...]:
        """Segment Number of each segment: 1, 2, 3 ... in label order, in a label map the label itself."""
        if self.encoding == "LABELMAP":
            return tuple(segment.label for segment in self.segments)
        return tuple(range(1, len(self.segments) + 1))

    @property
    def bits(self) -> int:
        """Bits of a voxel."""
        if self.encoding == "BINARY":
            return 1
        return 16 if self.encoding == "LABELMAP" and max(self.numbers) > 255 else 8

    @property
    def pixel_bytes(self) -> int:
        """Size of the pixel data, uncompressed and padded."""
        rows, columns = self.frame_shape
        return -(-len(self.frames) * rows * columns * self.bits // 16) * 2

    @property
    def is_empty(self) -> bool:
        """True where no segment has a voxel: the frames, one for each segment, say just that."""
        return all(frame.start == frame.stop for frame in self.frames)


def plan_frames(labels: LabelVolume, encoding: str) -> FramePlan:
    """Return the frames that labels need: none for a slice, or for a segment in a slice, without a voxel.

    Segments without voxels are not described, because readers count: Slicer names those after a described but empty
    segment wrongly. Where none has a voxel all are described, with an empty frame each on the first slice: an object
    must have a frame.

    Raises
    ------
    EncodingError
        A label map cannot hold segments that overlap, and nothing more than 64 layers of them; FRACTIONAL needs
        probabilities, all from 0 to 1.
    """
    frames = _fractions(labels) if encoding == "FRACTIONAL" else _runs(labels)
    if encoding == "LABELMAP" and labels.further_layers:
        raise EncodingError(
            "a label map cannot hold segments that overlap",
            uid=labels.source.series_uid,
            advice="Use BINARY, or the default profile.",
        )
    if len(labels.layers) > MOST_LAYERS:
        raise EncodingError(
            f"the labels have {len(labels.layers)} layers that overlap; {MOST_LAYERS} can be read back",
            uid=labels.source.series_uid,
            advice="Encode the segments in several results.",
        )
    present = sorted({frame.segment for frame in frames})
    if not present:
        frames, present = [Frame(0, segment) for segment in range(len(labels.segments))], [*range(len(labels.segments))]
    slices = tuple(sorted({frame.k for frame in frames}, reverse=True))
    if encoding == "LABELMAP":
        size = int(np.prod(labels.labels.shape[1:])) if any(frame.stop for frame in frames) else 0
        frames = [Frame(k, stop=size) for k in slices]
    else:
        place = {segment: order for order, segment in enumerate(present)}
        frames = [replace(frame, segment=place[frame.segment]) for frame in frames]
        frames.sort(key=lambda frame: (frame.segment, -frame.k))
    described = tuple(labels.segments[segment] for segment in present)
    rows, columns = labels.labels.shape[1:]
    overlap = "UNDEFINED" if encoding == "FRACTIONAL" else "YES" if labels.further_layers else "NO"
    return FramePlan(encoding, described, tuple(frames), slices, (rows, columns), overlap)


def has_content(labels: LabelVolume, encoding: str) -> bool:
    """Return True if a segmentation of that encoding has a voxel that is not 0."""
    if encoding != "FRACTIONAL" or labels.probabilities is None:
        return not labels.is_empty
    return any(_is_written(plane) for volume in labels.probabilities for plane in volume)


def _is_written(fractions: np.ndarray) -> bool:
    """Return True if a fraction does not round to 0."""
    return bool(fractions.max() * FRACTIONAL_MAXIMUM > 0.5)


def present_segments(labels: LabelVolume) -> tuple[Segment, ...]:
    """Return the segments that have voxels in the label arrays, in label order."""
    present = {frame.segment for frame in _runs(labels)}
    return tuple(segment for order, segment in enumerate(labels.segments) if order in present)


def split_labels(labels: LabelVolume, encoding: str, largest_bytes: int) -> list[LabelVolume]:
    """Return the labels in parts, by segments, whose segmentations keep within a size each; mostly the labels alone.

    Label maps are not split: fewer segments do not make them smaller, compression does.

    Raises
    ------
    EncodingError
        One segment alone is larger, or as :func:`plan_frames`.
    """
    plan = plan_frames(labels, encoding)
    if encoding == "LABELMAP" or plan.pixel_bytes <= largest_bytes:
        return [labels]
    rows, columns = plan.frame_shape
    counts = np.bincount([frame.segment for frame in plan.frames])
    sizes = [-(-int(count) * rows * columns * plan.bits // 16) * 2 for count in counts]
    groups: list[list[Segment]] = []
    room = 0
    for segment, size in zip(plan.segments, sizes, strict=True):
        if size > largest_bytes:
            raise EncodingError(
                f"the segment {segment.label} alone would take {size} bytes of pixel data, more than {largest_bytes}",
                uid=labels.source.series_uid,
                advice="Use LABELMAP with RLE compression.",
            )
        if not groups or size > room:
            groups.append([])
            room = largest_bytes
        groups[-1].append(segment)
        room -= size
    groups[0] += [segment for segment in labels.segments if segment not in plan.segments]  # without voxels
    return [_part(labels, group) for group in groups]


def _part(labels: LabelVolume, segments: Sequence[Segment]) -> LabelVolume:
    kept = {segment.label for segment in segments}
    table = np.arange(int(np.iinfo(labels.labels.dtype).max) + 1, dtype=labels.labels.dtype)
    table[[value for value in range(len(table)) if value not in kept]] = 0
    first, *others = (table[layer] for layer in labels.layers)
    fractions = labels.probabilities
    if fractions is not None:
        fractions = fractions[[segment.label in kept for segment in labels.segments]]
    return replace(
        labels, labels=first, further_layers=tuple(others), segments=tuple(segments), probabilities=fractions
    )


def _runs(labels: LabelVolume) -> list[Frame]:
    """Return a frame for every segment in every slice, found where runs of equal labels begin: one look at a voxel."""
    order_of = {segment.label: order for order, segment in enumerate(labels.segments)}
    layer_of: dict[int, int] = {}
    frames = []
    for layer, array in enumerate(labels.layers):
        for k, plane in enumerate(array):
            flat = plane.ravel()
            starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
            values, stops = flat[starts], np.append(starts[1:], flat.size)
            for label in np.flatnonzero(np.bincount(values))[int(not values.all()) :]:  # without the background
                own = np.flatnonzero(values == label)
                frames.append(Frame(k, order_of[int(label)], layer, int(starts[own[0]]), int(stops[own[-1]])))
                if layer_of.setdefault(int(label), layer) != layer:
                    raise EncodingError(f"the label {label} is in two layers", uid=labels.source.series_uid)
    return frames


def _fractions(labels: LabelVolume) -> list[Frame]:
    """Return a frame for every segment in every slice where a fraction does not round to 0."""
    fractions, uid = labels.probabilities, labels.source.series_uid
    if fractions is None:
        raise EncodingError(
            "the labels have no probabilities, which FRACTIONAL holds",
            uid=uid,
            advice="Use BINARY or LABELMAP, or a model that gives probabilities.",
        )
    frames = []
    size = int(np.prod(labels.labels.shape[1:]))
    for segment, volume in enumerate(fractions):
        for k, plane in enumerate(volume):
            if not (plane.min() >= 0 and plane.max() <= 1):  # also where one is not a number
                raise EncodingError(f"a probability of the segment {segment + 1} is not from 0 to 1", uid=uid)
            if _is_written(plane):
                frames.append(Frame(k, segment, 0, 0, size))
    return frames


def quantised(fractions: np.ndarray) -> np.ndarray:
    """Return fractions 0..1 as the 8-bit numbers that stand for them."""
    return np.rint(fractions * np.float32(FRACTIONAL_MAXIMUM)).astype(np.uint8)
