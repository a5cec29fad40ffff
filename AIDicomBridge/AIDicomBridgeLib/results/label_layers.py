"""A segmentation as an editor keeps it, in label arrays that each cover some of the source's grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.source_series import SourceSeries
from .labels import LabelVolume, Provenance, Segment, label_values


@dataclass(frozen=True, eq=False)
class LabelLayer:
    """One label array, where it lies on the grid of the source, and what its values mean.

    Attributes
    ----------
    array
        (k, j, i) whole numbers, of any size and type. Held, not copied; empty where nothing was drawn.
    offset
        (k, j, i) of the array's first voxel on the source's grid; it may lie outside.
    values
        The array's value of each segment, from 1 on; any other value is background.
    segments
        One per value; its ``label`` is the value it gets in the LabelVolume.
    """

    array: np.ndarray
    offset: tuple[int, int, int]
    values: tuple[int, ...]
    segments: tuple[Segment, ...]


def put_layers_together(
    layers: Sequence[LabelLayer], source: SourceSeries, *, provenance: Provenance | None = None
) -> LabelVolume:
    """Return all layers as one LabelVolume on the grid of their source.

    Returns
    -------
    LabelVolume
        ``labels`` is the one layer's own array where that is a label array of the source as it stands, else new.

    Raises
    ------
    EncodingError
        Two segments share a voxel, or there is no segment.
    GeometryError
        A segment reaches outside of the source.
    """
    array = _whole_grid(layers, source)
    if array is None:
        array = _filled_grid(layers, source)
    segments = tuple(segment for layer in layers for segment in layer.segments)
    return LabelVolume(array, segments, source=source, provenance=provenance)


def _whole_grid(layers: Sequence[LabelLayer], source: SourceSeries) -> np.ndarray | None:
    """Return the one layer's array if it is what is wanted already, else None."""
    if len(layers) != 1:
        return None
    (layer,) = layers
    as_it_stands = (
        layer.offset == (0, 0, 0)
        and layer.array.shape == source.shape
        and layer.array.dtype in (np.uint8, np.uint16)
        and all(value == segment.label for value, segment in zip(layer.values, layer.segments, strict=True))
    )
    return layer.array if as_it_stands and set(label_values(layer.array)) <= {0, *layer.values} else None


def _filled_grid(layers: Sequence[LabelLayer], source: SourceSeries) -> np.ndarray:
    largest = max((segment.label for layer in layers for segment in layer.segments), default=0)
    labels = np.zeros(source.shape, np.uint8 if largest < 256 else np.uint16)
    for layer in layers:
        found = _with_labels(layer, labels.dtype)
        of_layer, of_grid = _overlap(found.shape, layer.offset, source.shape)
        inside, target = found[of_layer], labels[of_grid]
        if np.count_nonzero(inside) < np.count_nonzero(found):
            found[of_layer] = 0
            raise GeometryError(
                f"the segment {_name_of(found, layer)} reaches outside of its source",
                uid=source.series_uid,
                advice="Erase what lies outside of the source volume; there is no frame for it.",
            )
        shared = (target != 0) & (inside != 0)
        if shared.any():
            raise EncodingError(
                f"the segment {_name_of(inside[shared], layer)} overlaps another one",
                uid=source.series_uid,
                advice="Edit them so that each voxel belongs to one segment; overlaps cannot be written yet.",
            )
        target += inside
    return labels


def _with_labels(layer: LabelLayer, dtype: np.dtype) -> np.ndarray:
    """Return a layer's array, new, with the segments' labels in the place of its own values."""
    if len(set(layer.values)) < len(layer.values) or min(layer.values) < 1:
        raise EncodingError(f"segments of one label array need distinct values from 1 on, not {sorted(layer.values)}")
    of_value = np.zeros(max(layer.values) + 2, dtype)  # the last one stands for all larger values
    for value, segment in zip(layer.values, layer.segments, strict=True):
        of_value[value] = segment.label
    array = layer.array
    if array.dtype.kind != "u" or np.iinfo(array.dtype).max >= len(of_value):
        array = np.clip(array, 0, len(of_value) - 1)
    return of_value[array if array.dtype.kind in "iu" else array.astype(np.int64)]


def _name_of(labels: np.ndarray, layer: LabelLayer) -> str:
    """Return the name of a segment that is in an array of labels."""
    found = int(labels.max())
    return next(repr(segment.name) for segment in layer.segments if segment.label == found)


def _overlap(
    shape: tuple[int, ...], offset: tuple[int, int, int], grid: tuple[int, int, int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a layer and the grid meet, as slices of each; empty slices where they do not meet."""
    of_layer, of_grid = [], []
    for length, start, size in zip(shape, offset, grid, strict=True):
        low = min(max(0, start), size)
        high = max(low, min(size, start + length))
        of_grid.append(slice(low, high))
        of_layer.append(slice(low - start, high - start) if high > low else slice(0, 0))
    return tuple(of_layer), tuple(of_grid)
