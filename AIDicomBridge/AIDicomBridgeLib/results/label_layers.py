"""A segmentation as an editor keeps it, in label arrays that each cover some of the source's grid."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.regular_grid import labels_off_slices, labels_on_slices, regular_grid
from ..series.source_series import SourceSeries
from .labels import LabelVolume, Provenance, Segment


@dataclass(frozen=True, eq=False)
class LabelLayer:
    """One label array, where it lies on the grid of the source, and what its values mean.

    Of an irregular source that is the regular grid, on which it is shown: :func:`~..series.regular_grid.regular_grid`.

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
        Layers that share a voxel with those before them come as ``further_layers``.

    Raises
    ------
    EncodingError
        There is no segment.
    GeometryError
        A segment reaches outside of the source, or was edited between its slices only.
    """
    segments = tuple(segment for layer in layers for segment in layer.segments)
    if _is_whole_grid(layers, source):
        # Each look at all voxels takes 10 ms for 512x512x300, and the labels look for unknown values themselves: those
        # of segments that were removed.
        with suppress(EncodingError):
            return LabelVolume(layers[0].array, segments, source=source, provenance=provenance)
    first, *others = _filled_grids(layers, source)
    return LabelVolume(first, segments, source=source, provenance=provenance, further_layers=tuple(others))


def _is_whole_grid(layers: Sequence[LabelLayer], source: SourceSeries) -> bool:
    """Return True if the one layer's array may be what is wanted already."""
    return (
        len(layers) == 1
        and not source.irregularity
        and layers[0].offset == (0, 0, 0)
        and layers[0].array.shape == source.shape
        and layers[0].array.dtype in (np.uint8, np.uint16)
        and layers[0].array.flags.c_contiguous  # not a turned view
        and all(value == segment.label for value, segment in zip(layers[0].values, layers[0].segments, strict=True))
    )


def _filled_grids(layers: Sequence[LabelLayer], source: SourceSeries) -> list[np.ndarray]:
    """Return label arrays of the source that hold all layers, as few as go without two segments in one voxel."""
    shape = regular_grid(source).shape
    segments = [segment for layer in layers for segment in layer.segments]
    largest = max((segment.label for segment in segments), default=0)
    dtype = np.dtype(np.uint8 if largest < 256 else np.uint16)
    grids = [np.zeros(shape, dtype)]
    for layer in layers:
        found = _with_labels(layer, dtype)
        of_layer, of_grid = _overlap(found.shape, layer.offset, shape)
        inside = found[of_layer]
        if np.count_nonzero(inside) < np.count_nonzero(found):
            found[of_layer] = 0
            raise GeometryError(
                f"the segment {_name_of(found, layer.segments)} reaches outside of its source",
                uid=source.series_uid,
                advice="Erase what lies outside of the source volume; there is no frame for it.",
            )
        for grid in grids:
            if not ((grid[of_grid] != 0) & (inside != 0)).any():
                grid[of_grid] += inside
                break
        else:
            grids.append(np.zeros(shape, dtype))
            grids[-1][of_grid] = inside
    for grid in grids:
        _refuse_lost_edits(grid, segments, source)
    return [labels_on_slices(grid, source) for grid in grids]


def _refuse_lost_edits(labels: np.ndarray, segments: Sequence[Segment], source: SourceSeries) -> None:
    lost = labels_off_slices(labels, source) if source.irregularity else None
    if lost is None or not lost.any():
        return
    planes = np.flatnonzero(lost.any(axis=(1, 2)))
    raise GeometryError(
        f"the segment {_name_of(lost, segments)} was edited where the series has no slice: {np.count_nonzero(lost)} "
        f"voxels, in planes {planes[0]} to {planes[-1]} of the volume as it is shown (K, from 0 on)",
        uid=source.series_uid,
        advice="Make these voxels as they are in the next plane that is a slice, or edit that slice too.",
    )


def _with_labels(layer: LabelLayer, dtype: np.dtype) -> np.ndarray:
    """Return a layer's array, new, with the segments' labels in the place of its own values."""
    if len(set(layer.values)) < len(layer.values) or min(layer.values) < 1:
        raise EncodingError(f"segments of one label array need distinct values from 1 on, not {sorted(layer.values)}")
    of_value = np.zeros(max(layer.values) + 2, dtype)  # the last one stands for all larger values
    for value, segment in zip(layer.values, layer.segments, strict=True):
        of_value[value] = segment.label
    array = layer.array if layer.array.dtype.kind in "iu" else np.nan_to_num(layer.array)
    if array.dtype.kind != "u" or np.iinfo(array.dtype).max >= len(of_value):
        array = np.clip(array, 0, len(of_value) - 1)
    return of_value[array if array.dtype.kind in "iu" else array.astype(np.int64)]


def _name_of(labels: np.ndarray, segments: Sequence[Segment]) -> str:
    """Return the name of a segment that is in an array of labels."""
    found = int(labels.max())
    return next(repr(segment.name) for segment in segments if segment.label == found)


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
