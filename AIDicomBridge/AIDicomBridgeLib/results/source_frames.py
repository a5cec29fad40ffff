"""References to the slices of a source: to an instance, or to frames of an Enhanced multi-frame instance.

highdicom takes either single-frame instances or exactly one multi-frame instance with all its frames. Our slices may be
some frames of several instances, so it is given single-frame stand-ins; we write the references ourselves.
"""

from typing import TYPE_CHECKING

from ..series.source_series import SourceSeries
from ..series.source_slice import MULTI_FRAME_CLASSES

if TYPE_CHECKING:
    from pydicom import Dataset

_STAND_IN_ROOT = "2.25.4129"  # never reaches a result: its references are written by us


def source_instances(source: SourceSeries, headers: "list[Dataset]") -> "list[tuple[Dataset, list[int]]]":
    """Return each instance of the source once: a header of it, and the frame numbers where it is multi-frame.

    Parameters
    ----------
    headers
        One per slice, as :func:`~.source_headers.normalised_headers` gives them.
    """
    instances: dict[str, tuple[Dataset, list[int]]] = {}
    for piece, header in zip(source.slices, headers, strict=True):
        _, frames = instances.setdefault(piece.sop_instance_uid, (header, []))
        if piece.frame_number is not None:
            frames.append(piece.frame_number)
    return list(instances.values())


def single_frame_stand_ins(source: SourceSeries, headers: "list[Dataset]") -> "list[Dataset]":
    """Return the headers, and for frames single-frame stand-ins: a class and a UID of their own, all else shared."""
    from pydicom import Dataset

    stand_ins = []
    for k, (piece, header) in enumerate(zip(source.slices, headers, strict=True)):
        if piece.frame_number is None:
            stand_ins.append(header)
            continue
        copy = Dataset(dict(header.items()))
        # New elements: the header's own, which the copy shares, stay as they are.
        copy.add_new("SOPClassUID", "UI", MULTI_FRAME_CLASSES[str(header.SOPClassUID)])
        copy.add_new("SOPInstanceUID", "UI", f"{_STAND_IN_ROOT}.{k}")
        stand_ins.append(copy)
    return stand_ins
