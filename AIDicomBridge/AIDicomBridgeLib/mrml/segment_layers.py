"""The label arrays (layers) behind a segmentation node, brought together on the grid of the source.

Slicer keeps segments that do not overlap in one shared array, opens a further array where they do, and shrinks, grows
and moves these arrays while a person edits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EncodingError, GeometryError
from ..results.labels import Segment, label_values
from ..series.source_series import SourceSeries
from .coordinates import GRID_TOLERANCE_MM, ijk_to_lps_affine, ijk_to_ras_matrix
from .volume_node import image_array


@dataclass(frozen=True, eq=False)
class Piece:
    """Where the voxels of one segment are: those of ``layer`` (a vtkOrientedImageData) that equal ``value``."""

    layer: Any
    value: int
    segment: Segment


def layer_of(target: Any) -> Any:
    """Return the vtkOrientedImageData that holds a vtkSegment's labelmap."""
    import slicer

    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    layer = target.GetRepresentation(name)
    if layer is None:
        raise EncodingError(
            f"the segment {target.GetName()!r} has no binary labelmap",
            advice="Create it in the Segmentations module, under Representations.",
        )
    return layer


def whole_grid_view(pieces: Sequence[Piece], source: SourceSeries) -> np.ndarray | None:
    """Return the one layer's (k, j, i) array, a view, if it is a label array of the source as it stands, else None."""
    layer = pieces[0].layer
    if any(piece.layer is not layer for piece in pieces) or 0 in layer.GetDimensions():
        return None
    offset, array = _offset_in_grid(layer, source), image_array(layer)
    if offset != (0, 0, 0) or array.shape != source.shape or array.dtype not in (np.uint8, np.uint16):
        return None
    return array if set(label_values(array)) <= {0, *(piece.value for piece in pieces)} else None


def put_together(pieces: Sequence[Piece], source: SourceSeries) -> np.ndarray:
    """Return a new (k, j, i) label array on the source's grid; each segment has its ``label`` there.

    Raises
    ------
    EncodingError
        Two segments share a voxel.
    GeometryError
        A layer is on another grid, or a segment reaches outside of the source.
    """
    largest = max(piece.segment.label for piece in pieces)
    labels = np.zeros(source.shape, np.uint8 if largest < 256 else np.uint16)
    for piece in pieces:
        if 0 in piece.layer.GetDimensions():  # an emptied segment
            continue
        voxels = image_array(piece.layer) == piece.value
        of_layer, of_grid = _overlap(voxels.shape, _offset_in_grid(piece.layer, source), source.shape)
        inside, target = voxels[of_layer], labels[of_grid]
        if np.count_nonzero(inside) < np.count_nonzero(voxels):
            raise GeometryError(
                f"the segment {piece.segment.name!r} reaches outside of its source",
                uid=source.series_uid,
                advice="Erase what lies outside of the source volume; there is no frame for it.",
            )
        if target[inside].any():
            raise EncodingError(
                f"the segment {piece.segment.name!r} overlaps another one",
                uid=source.series_uid,
                advice="Edit them so that each voxel belongs to one segment; overlaps cannot be written yet.",
            )
        target[inside] = piece.segment.label
    return labels


def _offset_in_grid(layer: Any, source: SourceSeries) -> tuple[int, int, int]:
    """Return the (k, j, i) of the layer's first voxel on the source's grid; refuse a layer on any other grid."""
    matrix = ijk_to_ras_matrix(np.eye(4))
    layer.GetImageToWorldMatrix(matrix)
    affine = ijk_to_lps_affine(matrix)
    affine[:, 3] = affine @ [*layer.GetExtent()[0::2], 1]
    offset = np.round(np.linalg.solve(source.ijk_to_lps, affine[:, 3])[:3])
    expected = source.ijk_to_lps.copy()
    expected[:, 3] = expected @ [*offset, 1]
    if not np.allclose(affine, expected, atol=GRID_TOLERANCE_MM):
        raise GeometryError(
            "the segmentation is not on the grid of its source",
            uid=source.series_uid,
            advice="Set its source geometry to the source volume in the Segment Editor (Specify geometry).",
        )
    i, j, k = (int(value) for value in offset)
    return k, j, i


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
