"""The frames of a segmentation put together on the grid of its source: label arrays, or fractions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, EncodingError
from .frame_places import FramePlace
from .frame_plan import LEAST_FRACTION, MOST_LAYERS

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST_FRACTION_BYTES = 8 * 2**30


@dataclass(frozen=True)
class FrameData:
    """The pixel data of a segmentation, checked against its description, not yet decoded.

    Attributes
    ----------
    shape
        (k, j, i) of the source's grid.
    bits
        Bits Allocated: 1, 8 or 16.
    """

    dataset: "Dataset" = field(repr=False)
    shape: tuple[int, int, int]
    bits: int
    native: np.ndarray | None

    @classmethod
    def of(cls, dataset: "Dataset", shape: tuple[int, int, int]) -> "FrameData":
        """Return the pixel data of a segmentation whose frames have the size of the source's slices.

        Raises
        ------
        BadDicomError
            It is shorter than its frames, or not of 1, 8 or 16 bits.
        """
        bits, count = int(dataset.BitsAllocated), int(dataset.NumberOfFrames)
        if bits not in (1, 8, 16) or int(dataset.get("SamplesPerPixel", 1)) != 1 or count < 1:
            raise BadDicomError("the pixel data is not of 1, 8 or 16 bits")
        if (bits == 1) != (dataset.SegmentationType == "BINARY"):
            raise BadDicomError("the bits of a voxel contradict the segmentation type")
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed or not syntax.is_little_endian:
            return cls(dataset, shape, bits, None)
        native = np.frombuffer(dataset.PixelData, np.uint8)
        if native.size < (shape[1] * shape[2] * count * bits + 7) // 8:
            raise BadDicomError("the pixel data is shorter than its frames")
        return cls(dataset, shape, bits, native)

    def frames(self, places: Sequence[FramePlace]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the part of each frame that holds anything: where it starts in the flattened slice, and its voxels."""
        size = self.shape[1] * self.shape[2]
        if self.native is None:
            for plane in self._decoded(places):
                yield 0, plane.ravel()
        elif self.bits == 1:
            for place in places:
                yield self._unpacked(place.frame * size, size)
        else:
            values = self.native[: self.native.size // (self.bits // 8) * (self.bits // 8)].view(f"<u{self.bits // 8}")
            for place in places:
                yield 0, values[place.frame * size : (place.frame + 1) * size]

    def _unpacked(self, first_bit: int, size: int) -> tuple[int, np.ndarray]:
        """Unpack the bytes from the first to the last that is not zero: most of a segment's frame is empty."""
        assert self.native is not None  # noqa: S101 - asked by the caller
        first, last = first_bit // 8, (first_bit + size + 7) // 8
        whole = first + (last - first) // 8 * 8
        held = np.flatnonzero(self.native[first:whole].view(np.uint64))  # eight bytes at a time
        low = first + 8 * int(held[0]) if held.size else whole
        high = last if self.native[whole:last].any() or not held.size else first + 8 * (int(held[-1]) + 1)
        bits = np.unpackbits(self.native[low:high], bitorder="little")
        start = low * 8 - first_bit  # frames meet within a byte: what belongs to the neighbours is cut off
        return max(start, 0), bits[max(-start, 0) : size - start]

    def _decoded(self, places: Sequence[FramePlace]) -> Iterator[np.ndarray]:
        from pydicom.pixels import iter_pixels

        try:
            yield from iter_pixels(self.dataset, indices=[place.frame for place in places])
        except Exception as error:  # decoders raise nearly anything
            raise BadDicomError("the pixel data cannot be decompressed") from error


def read_label_layers(data: FrameData, places: Iterable[FramePlace], dtype: np.dtype) -> list[np.ndarray]:
    """Return label arrays (k, j, i): one, and more where segments overlap.

    A label's value is its Segment Number. A segment goes, whole, into the first array where it meets no other.

    Raises
    ------
    BadDicomError
        Two frames show the same voxels of one segment, or a label map has two values for a voxel.
    EncodingError
        More than 64 segments share a voxel.
    """
    layers: list[np.ndarray] = []
    ordered = sorted(places, key=attrgetter("segment_number", "k"))
    for number, group in groupby(ordered, key=attrgetter("segment_number")):
        frames = list(group)
        if not any(_written(data, frames, layer, number) for layer in layers):
            if len(layers) == MOST_LAYERS:
                raise EncodingError(f"more than {MOST_LAYERS} segments overlap")
            layers.append(np.zeros(data.shape, dtype))
            if not _written(data, frames, layers[-1], number):
                raise BadDicomError("two frames show the same voxels of one segment")
    return layers or [np.zeros(data.shape, dtype)]


def _written(data: FrameData, frames: Sequence[FramePlace], layer: np.ndarray, number: int) -> bool:
    """Write one segment (0: a whole label map) into a layer; undo it and return False where another is in the way."""
    for order, (place, (start, voxels)) in enumerate(zip(frames, data.frames(frames), strict=True)):
        target = layer[place.k].reshape(-1)[start : start + voxels.size]
        if np.logical_and(target, voxels).any():
            # No more than was written: a look at the whole array for each of thousands of segments would take hours.
            for done, (begin, own) in zip(frames[:order], data.frames(frames[:order]), strict=True):
                layer[done.k].reshape(-1)[begin : begin + own.size][own != 0] = 0
            return False
        # Both are zero where the other is not.
        target += voxels.astype(layer.dtype, copy=False) * layer.dtype.type(number or 1)
    return True


def read_fractions(
    data: FrameData, places: Iterable[FramePlace], numbers: Sequence[int], maximum: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels (k, j, i), and the fractions (segment, k, j, i) float16 in the order of ``numbers``.

    A voxel's label is the segment with the largest fraction, from one half on; the first one of equals.

    Raises
    ------
    BadDicomError
        A fraction is larger than the maximum.
    EncodingError
        The fractions would take more than 8 GiB.
    """
    if 2 * len(numbers) * int(np.prod(data.shape)) > _MOST_FRACTION_BYTES:
        raise EncodingError(
            f"the fractions of {len(numbers)} segments would take more than 8 GiB of memory",
            advice="Split the segmentation.",
        )
    fractions = np.zeros((len(numbers), *data.shape), np.float16)
    labels, largest = np.zeros(data.shape, dtype), np.zeros(data.shape, np.uint8)
    order_of = {number: order for order, number in enumerate(numbers)}
    ordered = sorted(places, key=attrgetter("segment_number", "k"))
    table = (np.arange(maximum + 1) / maximum).astype(np.float16)
    for place, (_, flat) in zip(ordered, data.frames(ordered), strict=True):
        plane = flat.reshape(data.shape[1:])
        if plane.max() > maximum:
            raise BadDicomError("a fraction is larger than the maximum fractional value")
        fractions[order_of[place.segment_number], place.k] = table[plane]
        better = plane > largest[place.k]
        largest[place.k][better] = plane[better]
        labels[place.k][better & (plane >= LEAST_FRACTION * maximum)] = place.segment_number
    return labels, fractions
