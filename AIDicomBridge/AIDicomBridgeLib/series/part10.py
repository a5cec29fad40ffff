"""The wrapping of a data set as a DICOM file (PS3.10 section 7), without touching the data set's bytes."""

import struct
from dataclasses import dataclass

from ..errors import BadDicomError

PREAMBLE_BYTES = 128
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLEMENTATION_CLASS_UID = "2.25.83814878398562297139704753647522511366"
_IMPLEMENTATION_VERSION = "AIDICOMBRIDGE"
# PS3.5 section 7.1.2: those whose length takes four bytes, after two reserved ones, and those with one of two.
LONG_VRS = {vr.encode(): vr for vr in ("OB", "OW", "OF", "OD", "OL", "OV", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")}
SHORT_VRS = {
    vr.encode(): vr
    for vr in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
}


@dataclass(frozen=True)
class Part10Header:
    """File meta information of one DICOM file; ``dataset_offset`` is where its data set begins, in bytes."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int


def parse_part10_header(data: bytes | bytearray | memoryview) -> Part10Header:
    """Return the file meta information of a Part 10 file from its first bytes (64 KiB always suffice).

    Raises
    ------
    BadDicomError
        No ``DICM`` prefix, or damaged or incomplete file meta information.
    """
    view = memoryview(data)
    if len(view) < PREAMBLE_BYTES + 4 or bytes(view[PREAMBLE_BYTES : PREAMBLE_BYTES + 4]) != b"DICM":
        raise BadDicomError("the data is no DICOM file: the prefix DICM is missing")
    # The group length (0002,0000) is often wrong in the wild, so the elements are walked up to the next group.
    offset, values = PREAMBLE_BYTES + 4, {}
    while len(view) - offset >= 8:
        group, element = struct.unpack_from("<HH", view, offset)
        if group != 0x0002:
            break
        vr = bytes(view[offset + 4 : offset + 6])
        if vr not in LONG_VRS and vr not in SHORT_VRS:
            raise BadDicomError("the file meta information is damaged")
        if vr in LONG_VRS:
            if len(view) - offset < 12:
                raise BadDicomError("the file meta information is cut off")
            start, length = offset + 12, struct.unpack_from("<L", view, offset + 8)[0]
        else:
            start, length = offset + 8, struct.unpack_from("<H", view, offset + 6)[0]
        offset = start + length
        if offset > len(view):
            raise BadDicomError("the file meta information is cut off")
        values[element] = view[start:offset]
    texts = [bytes(values.get(element, b"")).rstrip(b"\0 ").decode("ascii", "replace") for element in (2, 3, 0x10)]
    if not texts[2]:
        raise BadDicomError("the file meta information names no transfer syntax")
    return Part10Header(texts[0], texts[1], texts[2], offset)


def build_part10_header(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble, prefix and file meta information to write before an encoded data set.

    The preamble is zero: what a sender put there could make the file executable as another format as well.
    """
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, b"UI", sop_class_uid.encode("ascii")),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii")),
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
            _element(0x0012, b"UI", _IMPLEMENTATION_CLASS_UID.encode("ascii")),
            _element(0x0013, b"SH", _IMPLEMENTATION_VERSION.encode("ascii")),
        )
    )
    return bytes(PREAMBLE_BYTES) + b"DICM" + _element(0x0000, b"UL", struct.pack("<L", len(elements))) + elements


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    tag = struct.pack("<HH", 0x0002, element)
    if vr in LONG_VRS:
        return tag + vr + b"\0\0" + struct.pack("<L", len(value)) + value
    return tag + vr + struct.pack("<H", len(value)) + value
