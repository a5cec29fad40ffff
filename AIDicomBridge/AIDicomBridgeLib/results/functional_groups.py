"""References and functional groups of a segmentation, written as the bytes that go into the file.

A segmentation of 60 segments has 2000 frames with 5 nested data sets each. Made and encoded one by one with pydicom
they take 2 s; here a frame's bytes are put together from those of its slice and of its segment.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .codes import SEGMENTATION_DERIVATION, SOURCE_IMAGE
from .frame_plan import FramePlan
from .labels import Code


@dataclass(frozen=True)
class SourceReference:
    """Where one slice of the source is stored, and where it lies.

    Attributes
    ----------
    position
        Image Position (Patient) as in the source's header.
    frame_number
        Referenced Frame Number; None in a single-frame instance.
    """

    sop_class_uid: str
    sop_instance_uid: str
    position: tuple[str, ...]
    frame_number: int | None = None

    def encoded(self) -> bytes:
        """Return the reference to the instance (PS3.3 table 10-11) without its frame number."""
        return _text(0x00081150, "UI", self.sop_class_uid) + _text(0x00081155, "UI", self.sop_instance_uid)


def encode_source_images(references: Iterable[SourceReference]) -> bytes:
    """Return the value of a sequence of instances, each named once."""
    return _items(*dict.fromkeys(reference.encoded() for reference in references))


def encode_referenced_series(series_uid: str, references: Iterable[SourceReference]) -> bytes:
    """Return the value of the Referenced Series Sequence for one series (PS3.3 C.12.2)."""
    instances = _element(0x0008114A, "SQ", encode_source_images(references))
    return _items(instances + _text(0x0020000E, "UI", series_uid))


def encode_frame_groups(plan: FramePlan, references: Sequence[SourceReference]) -> bytes:
    """Return the value of the Per-frame Functional Groups Sequence.

    Parameters
    ----------
    references
        One per slice of the source.
    """
    derivations = {k: _derivation(references[k]) for k in plan.slices}
    positions = {
        k: _sequence(0x00209113, _text(0x00200032, "DS", "\\".join(references[k].position))) for k in plan.slices
    }
    dimension = {k: order for order, k in enumerate(plan.slices, start=1)}
    segments = [_sequence(0x0062000A, _element(0x0062000B, "US", struct.pack("<H", n))) for n in plan.numbers]
    items = []
    for frame in plan.frames:
        k = frame.k
        indices, segment = [dimension[k]], b""
        if plan.encoding != "LABELMAP":
            indices, segment = [plan.numbers[frame.segment], dimension[k]], segments[frame.segment]
        content = _element(0x00209157, "UL", struct.pack(f"<{len(indices)}I", *indices))
        items.append(derivations[k] + _sequence(0x00209111, content) + positions[k] + segment)
    return _items(*items)


def _derivation(reference: SourceReference) -> bytes:
    frame = b"" if reference.frame_number is None else _text(0x00081160, "IS", str(reference.frame_number))
    image = (
        reference.encoded()
        + frame
        + _text(0x0028135A, "CS", "YES")  # Spatial Locations Preserved
        + _sequence(0x0040A170, _code(SOURCE_IMAGE))
    )
    return _sequence(0x00089124, _sequence(0x00082112, image) + _sequence(0x00089215, _code(SEGMENTATION_DERIVATION)))


def _code(code: Code) -> bytes:
    return (
        _text(0x00080100, "SH", code.value)
        + _text(0x00080102, "SH", code.scheme)
        + _text(0x00080104, "LO", code.meaning)
    )


def _sequence(tag: int, *items: bytes) -> bytes:
    return _element(tag, "SQ", _items(*items))


def _items(*items: bytes) -> bytes:
    return b"".join(part for item in items for part in (struct.pack("<HHI", 0xFFFE, 0xE000, len(item)), item))


def _text(tag: int, vr: str, text: str) -> bytes:
    value = text.encode("ascii")
    return _element(tag, vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2))


def _element(tag: int, vr: str, value: bytes) -> bytes:
    """Return an element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    form, reserved = ("<HH2sHI", (0,)) if vr == "SQ" else ("<HH2sH", ())
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr.encode(), *reserved, len(value)) + value
