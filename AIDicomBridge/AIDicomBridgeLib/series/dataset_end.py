"""Whether an encoded data set is whole: its elements are walked by their lengths, to the last byte.

A parser takes a data set that was cut off in the middle of its pixel data without complaint, and an image with half of
its pixels would be read, measured, and stand in the way of the good copy.
"""

import struct
from typing import BinaryIO

from ..errors import BadDicomError
from .part10 import LONG_VRS

_UNDEFINED = 0xFFFFFFFF
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 64  # real objects nest fewer than ten sequences
_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_DATASET, _SEQUENCE, _FRAGMENTS = range(3)
_WINDOW_BYTES = 16384


def check_whole(file: BinaryIO, size: int, start: int, *, big_endian: bool, uid: str) -> None:
    """Raise BadDicomError unless the data set ends where its last element ends.

    Parameters
    ----------
    file
        Read here and there; values are stepped over.
    size
        Bytes of the file.
    start
        Where the data set, or an element of its top level, begins.
    big_endian
        Of explicit VR big endian.
    uid
        For the message.
    """
    if not _is_whole(file, size, start, ">" if big_endian else "<"):
        raise BadDicomError(
            "the data set is cut off, or damaged, before its end", uid=uid, advice="Ask for it to be sent again."
        )


def _is_whole(file: BinaryIO, size: int, at: int, byte_order: str) -> bool:
    tag_of, short_of, long_of = (struct.Struct(byte_order + code).unpack_from for code in ("HH", "H", "L"))
    window, first = b"", 0
    # What is open around the element at hand. Only undefined lengths are entered; the others are stepped over.
    around = [_DATASET]
    implicit = [False]  # a sequence of undefined length in a VR of UN is encoded in implicit VR (PS3.5 section 6.2.2)
    while at + 8 <= size:
        if at + 12 > first + len(window):
            file.seek(at)
            window, first = file.read(_WINDOW_BYTES).ljust(12, b"\0"), at
        here = at - first
        group, element = tag_of(window, here)
        tag, vr, kind = group << 16 | element, window[here + 4 : here + 6], around[-1]
        if (kind == _DATASET and tag == _END_OF_ITEM and len(around) > 1) or (
            kind != _DATASET and tag == _END_OF_SEQUENCE
        ):
            at += 8
            around.pop()
            implicit.pop()
            continue
        if kind != _DATASET or implicit[-1] or not (vr.isalpha() and vr.isupper()):
            length, at = long_of(window, here + 4)[0], at + 8
        elif vr in LONG_VRS:
            length, at = long_of(window, here + 8)[0], at + 12
        else:
            length, at = short_of(window, here + 6)[0], at + 8
        if kind != _DATASET and (tag != _ITEM or (kind == _FRAGMENTS and length == _UNDEFINED)):
            return False
        if length != _UNDEFINED:
            at += length
            continue
        if len(around) > _DEEPEST:
            return False
        around.append(_DATASET if kind == _SEQUENCE else _FRAGMENTS if tag in _PIXEL_DATA else _SEQUENCE)
        implicit.append(implicit[-1] or (kind == _DATASET and vr == b"UN"))
    file.seek(min(at, size))
    return len(around) == 1 and at <= size and not any(file.read())  # zeros behind the last element are padding
