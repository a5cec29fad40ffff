"""A segmentation node as DICOM files in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..results.edited_segments import mark_edited
from ..results.measurements import measure
from ..results.result_series import fresh_uid
from ..results.result_set import check_results, encode_results, write_results
from ..results.segment_description import with_tracking_uids
from ..series.volume import ImageVolume
from .segmentation_node import label_volume_from


def write_segmentation_files(
    node: Any,
    volume: ImageVolume,
    folder: Path | str,
    *,
    outputs: Sequence[str] | None = None,
    encoding: str | None = None,
    profile: str | None = None,
) -> list[Path]:
    """Write the node's segments, edits included, as DICOM files and return their paths, SEG first.

    Parameters
    ----------
    volume
        The segmentation's source, with its voxels.
    folder, outputs, encoding, profile
        As :func:`~..results.result_set.encode_results` and :func:`~..results.result_set.write_results` take them.

    Raises
    ------
    EncodingError, GeometryError
        As :func:`~.segmentation_node.label_volume_from`; or an object cannot be made.
    ConformanceError, DiskSpaceError
        An object failed its own checks, or cannot be written. No file is left.
    """
    labels = label_volume_from(node, volume.source)
    labels = with_tracking_uids(mark_edited(labels), fresh_uid)  # what is written is compared with them
    measured = measure(labels, volume)
    results = encode_results(
        labels,
        volume,
        measured,
        profile=profile,
        outputs=outputs,
        encodings=(encoding,) if encoding else None,
    )
    check_results(results, volume.source, labels, measured)
    return [result.path for result in write_results(results, Path(folder)) if result.path is not None]
