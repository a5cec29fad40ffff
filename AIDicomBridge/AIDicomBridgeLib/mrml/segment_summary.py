"""What a segmentation node holds now, for a table: name, colour, size and meaning of every segment."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EncodingError, GeometryError
from ..results.measurements import voxel_volumes_ml
from ..series.regular_grid import slice_windows
from ..series.source_series import SourceSeries
from .coordinates import ijk_to_ras_matrix
from .grid_place import GridPlace
from .segment_layers import is_empty, layer_of, place_of_layer
from .segment_tags import color_of
from .terminology import codes_of
from .volume_node import image_array

_LARGEST_LABEL = 65535  # that is counted; a label map of DICOM has no larger ones
# Where some voxels are, on the grid of the source or in an array, and the volume that each of them stands for.
_Part = tuple[tuple[int, slice, slice], float]


@dataclass(frozen=True)
class SegmentSummary:
    """One segment as it is now.

    Attributes
    ----------
    segment_id
        Slicer's own ID of it, within its node.
    color_rgb
        0-255 each.
    volume_ml
        Of its voxels; None where it has none to count, as it is a surface only.
    on_slices
        True if that is the volume on the slices of the source, which a report states; False if it is that on the
        node's own grid.
    meaning
        The type's code in words; empty where the segment has no terminology.
    """

    segment_id: str
    name: str
    color_rgb: tuple[int, int, int]
    volume_ml: float | None
    on_slices: bool
    meaning: str


def summarize_in_steps(node: Any, source: SourceSeries | None = None) -> Iterator[list[SegmentSummary] | None]:
    """Summarize every segment of a segmentation node, in the node's order.

    Parameters
    ----------
    source
        The series that the segmentation belongs to, if it is known. What lies on its slices counts then, by the rule of
        :func:`~..results.measurements.measure`; else, or where a segment is on another grid, all voxels of the node.

    Yields
    ------
    list of SegmentSummary or None
        None after every plane that was counted, 0.5 ms for 512x512; the summaries at the end.
    """
    segmentation = node.GetSegmentation()
    count = segmentation.GetNumberOfSegments()
    targets = [(segmentation.GetNthSegmentID(number), segmentation.GetNthSegment(number)) for number in range(count)]
    slices = list(zip(slice_windows(source), voxel_volumes_ml(source).tolist(), strict=True)) if source else []
    yield None  # 300 headers were looked at: some 20 ms
    found: dict[Any, tuple[np.ndarray, bool]] = {}
    summaries = []
    for segment_id, target in targets:
        volume_ml, on_slices = None, False
        with suppress(EncodingError):  # a surface only
            layer = layer_of(target)
            if layer not in found:
                found[layer] = yield from _volumes_of_layer(layer, source, slices)
            volumes_ml, on_slices = found[layer]
            value = int(target.GetLabelValue())
            volume_ml = float(volumes_ml[value]) if 0 <= value < len(volumes_ml) else 0.0
        color = color_of(target)
        summaries.append(SegmentSummary(segment_id, target.GetName(), color, volume_ml, on_slices, _meaning(target)))
    yield summaries


def _volumes_of_layer(
    layer: Any, source: SourceSeries | None, slices: Sequence[_Part]
) -> Generator[None, None, tuple[np.ndarray, bool]]:
    """Return the volume of each label value, and whether it is that on the slices."""
    if is_empty(layer):
        return np.zeros(1), source is not None
    try:
        place = place_of_layer(layer, source) if source else None
    except GeometryError:
        place = None  # it cannot be sent as it is
    if place is None:
        width, height, depth = layer.GetDimensions()
        voxel_ml = _voxel_volume_ml(layer)
        planes = [((k, slice(0, height), slice(0, width)), voxel_ml) for k in range(depth)]
        return (yield from _volumes_ml(layer, GridPlace((0, 1, 2), (), (0, 0, 0)), planes)), False
    return (yield from _volumes_ml(layer, place, slices)), True


def _volumes_ml(layer: Any, place: GridPlace, parts: Sequence[_Part]) -> Generator[None, None, np.ndarray]:
    """Return the volume of each label value in some parts of a layer, a part a step.

    Between two of them an edit may change the array.
    """
    dimensions, total = layer.GetDimensions(), np.zeros(1)
    for (k, rows, columns), voxel_ml in parts:
        if layer.GetDimensions() != dimensions or is_empty(layer):
            break
        array = place.view(image_array(layer))
        if not 0 <= k - place.offset[0] < len(array):
            continue
        plane = array[k - place.offset[0], _moved(rows, place.offset[1]), _moved(columns, place.offset[2])]
        if plane.dtype not in (np.uint8, np.uint16):  # from elsewhere: read as they are when they are sent
            plane = np.nan_to_num(plane).clip(0, _LARGEST_LABEL + 1).astype(np.int64)
        found = np.bincount(plane.ravel())[: _LARGEST_LABEL + 1]
        total = np.pad(total, (0, max(0, len(found) - len(total))))
        total[: len(found)] += found * voxel_ml
        yield
    return total


def _moved(wanted: slice, offset: int) -> slice:
    """Return a range of the source's grid in an array that begins at ``offset`` there."""
    return slice(max(wanted.start - offset, 0), max(wanted.stop - offset, 0))


def _voxel_volume_ml(layer: Any) -> float:
    matrix = ijk_to_ras_matrix(np.eye(4))
    layer.GetImageToWorldMatrix(matrix)
    return abs(matrix.Determinant()) / 1000


def _meaning(target: Any) -> str:
    try:
        codes = codes_of(target)
    except EncodingError:
        return ""
    roles = ("type_modifier", "type", "region_modifier", "region")  # "Left Kidney", "Cyst Left Kidney"
    return " ".join(codes[role].meaning for role in roles if codes[role] is not None)  # type: ignore[union-attr]
