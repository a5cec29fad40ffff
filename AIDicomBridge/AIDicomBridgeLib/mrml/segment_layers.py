"""The label arrays (layers) behind a segmentation node, without copying a voxel.

Slicer keeps segments that do not overlap in one shared array, opens a further array where they do, and shrinks, grows
and moves these arrays while a person edits. It lays them out as the volume that they are drawn on, which its DICOM
loader may have mirrored.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ConflictError, EncodingError
from ..results.label_layers import LabelLayer
from ..results.labels import Segment
from ..series.source_series import SourceSeries
from .coordinates import ijk_to_lps_affine, ijk_to_ras_matrix
from .grid_place import GridPlace, place_on_grid
from .volume_node import image_array


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


def is_empty(layer: Any) -> bool:
    """Return True if a vtkOrientedImageData holds no voxel: all its segments were emptied."""
    return 0 in layer.GetDimensions() or layer.GetPointData().GetScalars() is None


def refuse_edits_of(node: Any) -> Callable[[], None]:
    """Return a check that refuses what has changed since in the label arrays of a segmentation node.

    For what reads the arrays in steps, between two of which a person may draw: called after each pause, it raises
    before an array is read that is not there any more.

    Raises
    ------
    EncodingError
        A segment has no binary labelmap.
    ConflictError
        By the check: an array was changed.
    """
    segmentation = node.GetSegmentation()
    layers = {layer_of(segmentation.GetNthSegment(number)) for number in range(segmentation.GetNumberOfSegments())}
    seen = [(layer, layer.GetMTime()) for layer in layers]

    def refuse_edits() -> None:
        if any(layer.GetMTime() != when for layer, when in seen):
            raise ConflictError(
                "the segmentation was edited while it was being made ready to send",
                advice="Press Send again: what you see then is what is sent.",
            )

    return refuse_edits


def label_layers(targets: Sequence[Any], segments: Sequence[Segment], source: SourceSeries) -> tuple[LabelLayer, ...]:
    """Return the layers of some vtkSegments; the arrays are views of the node's memory.

    Parameters
    ----------
    segments
        What each of them is, with the label that it gets.

    Raises
    ------
    EncodingError
        A segment has no binary labelmap.
    GeometryError
        A layer is on another grid than the source.
    """
    members: dict[Any, list[tuple[Any, Segment]]] = {}
    for target, segment in zip(targets, segments, strict=True):
        members.setdefault(layer_of(target), []).append((target, segment))
    return tuple(
        LabelLayer(
            *_array_and_offset(layer, source),
            tuple(int(target.GetLabelValue()) for target, _ in found),
            tuple(segment for _, segment in found),
        )
        for layer, found in members.items()
    )


def _array_and_offset(layer: Any, source: SourceSeries) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the layer's voxels with the axes and directions of the source, and where they begin on its grid."""
    if is_empty(layer):
        return np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
    place = place_of_layer(layer, source)
    return place.view(image_array(layer)), place.offset


def place_of_layer(layer: Any, source: SourceSeries) -> GridPlace:
    """Return how the voxels of a vtkOrientedImageData lie on the grid of a source; no voxel is looked at.

    Raises
    ------
    GeometryError
        They are on another grid.
    """
    matrix = ijk_to_ras_matrix(np.eye(4))
    layer.GetImageToWorldMatrix(matrix)
    affine = ijk_to_lps_affine(matrix)
    affine[:, 3] = affine @ [*layer.GetExtent()[0::2], 1]
    return place_on_grid(
        affine,
        tuple(reversed(layer.GetDimensions())),
        source,
        what="the segmentation is not on the grid of its source",
        advice="Set its source geometry to the source volume in the Segment Editor (Specify geometry).",
    )
