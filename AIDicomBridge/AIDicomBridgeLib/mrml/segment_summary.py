"""What a segmentation node holds now, for a table: name, colour, size and meaning of every segment."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EncodingError
from .coordinates import ijk_to_ras_matrix
from .segment_layers import layer_of
from .terminology import codes_of
from .volume_node import image_array


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
        Voxels times voxel volume.
    meaning
        The type's code in words; empty where the segment has no terminology.
    """

    segment_id: str
    name: str
    color_rgb: tuple[int, int, int]
    volume_ml: float
    meaning: str


def summarize_in_steps(node: Any) -> Iterator[list[SegmentSummary] | None]:
    """Summarize every segment of a segmentation node that has a binary labelmap, in the node's order.

    Yields
    ------
    list of SegmentSummary or None
        None after every plane that was counted, 1 ms for 512x512; the summaries at the end.
    """
    segmentation = node.GetSegmentation()
    count = segmentation.GetNumberOfSegments()
    targets = [(segmentation.GetNthSegmentID(number), segmentation.GetNthSegment(number)) for number in range(count)]
    counts: dict[Any, np.ndarray] = {}
    summaries = []
    for segment_id, target in targets:
        try:
            layer = layer_of(target)
        except EncodingError:
            continue  # a surface only: it has no voxels to count
        if layer not in counts:
            counts[layer] = yield from _voxel_counts(layer)
        value = int(target.GetLabelValue())
        voxels = int(counts[layer][value]) if 0 <= value < len(counts[layer]) else 0
        summaries.append(
            SegmentSummary(
                segment_id,
                target.GetName(),
                tuple(round(part * 255) for part in target.GetColor()),
                voxels * _voxel_volume_ml(layer),
                _meaning(target),
            )
        )
    yield summaries


def _voxel_counts(layer: Any) -> Generator[None, None, np.ndarray]:
    """Return how often each label value occurs, a plane a step: between two of them an edit may change the array."""
    total = np.zeros(1, np.int64)
    for k in range(layer.GetDimensions()[2]):
        if 0 in layer.GetDimensions() or layer.GetPointData().GetScalars() is None or k >= layer.GetDimensions()[2]:
            break
        found = np.bincount(image_array(layer)[k].ravel())
        total = np.pad(total, (0, max(0, len(found) - len(total))))
        total[: len(found)] += found
        yield
    return total


def _voxel_volume_ml(layer: Any) -> float:
    matrix = ijk_to_ras_matrix(np.eye(4))
    layer.GetImageToWorldMatrix(matrix)
    return abs(matrix.Determinant()) / 1000


def _meaning(target: Any) -> str:
    try:
        codes = codes_of(target)
    except EncodingError:
        return ""
    words = [codes[role].meaning for role in ("type_modifier", "type") if codes[role] is not None]  # type: ignore[union-attr]
    return " ".join(words)
