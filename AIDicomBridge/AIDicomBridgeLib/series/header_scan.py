"""The header of an ordinary file in one pass: 0.1 ms for a CT slice, where pydicom's general parser takes 0.6 ms.

Only Explicit VR Little Endian with known VRs and defined lengths up to the pixel data is taken; for all else pydicom
reads the file. Values stay bytes, as pydicom keeps them too, until they are asked for.
"""

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import BadDicomError
from .part10 import BIG_ENDIAN, DEFLATED, LONG_VRS, SHORT_VRS, parse_part10_header

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

_ELEMENT, _LONG_LENGTH = struct.Struct("<HH2sH"), struct.Struct("<L")
_IMPLICIT = "1.2.840.10008.1.2"
_PIXEL_GROUP, _PIXEL_ELEMENTS = 0x7FE0, (0x0008, 0x0009, 0x0010)  # float, double float and integer pixel data
_UNDEFINED_LENGTH = 0xFFFFFFFF


@lru_cache(maxsize=4096)
def shared_tag(number: int) -> "BaseTag":
    """Return pydicom's tag of a number, always the same object: a lookup then need not compare, which takes 1 us."""
    from pydicom.tag import BaseTag

    return BaseTag(number)


Element = tuple[int, str, int, int]  # tag, VR, where the value begins, its length


def scan_elements(content: bytes | bytearray, start: int) -> tuple[list[Element], int] | None:
    """Return the elements from ``start`` up to the pixel data and the offset of that; None where pydicom has to read.

    Parameters
    ----------
    content
        The first bytes of a file in explicit VR little endian.
    start
        Where its data set begins.
    """
    elements: list[Element] = []
    offset, end, previous = start, len(content), -1
    while offset + 12 <= end:
        group, element, code, length = _ELEMENT.unpack_from(content, offset)
        if group == _PIXEL_GROUP and element in _PIXEL_ELEMENTS:
            return elements, offset
        vr, value = SHORT_VRS.get(code), offset + 8
        if vr is None:
            vr, value = LONG_VRS.get(code), offset + 12
            if vr is None:
                return None
            (length,) = _LONG_LENGTH.unpack_from(content, offset + 8)
        tag = group << 16 | element
        offset = value + length
        if length == _UNDEFINED_LENGTH or offset > end or tag <= previous:
            return None
        elements.append((tag, vr, value, length))
        previous = tag
    return None


def is_scannable(transfer_syntax_uid: str) -> bool:
    """Return True if data sets of a transfer syntax are in explicit VR little endian, compressed pixels or not."""
    return transfer_syntax_uid not in (DEFLATED, BIG_ENDIAN, _IMPLICIT)


def scan_header(content: bytes) -> "tuple[Dataset, int] | None":
    """Return the data set up to the pixel data and the offset of that, or None where pydicom has to read the file.

    Parameters
    ----------
    content
        The first bytes of a file; None is returned where the pixel data does not begin within them.
    """
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement, empty_value_for_VR
    from pydicom.dataset import FileMetaDataset

    try:
        meta = parse_part10_header(content)
    except BadDicomError:
        return None
    syntax = meta.transfer_syntax_uid
    damaged = not f"{syntax}{meta.sop_class_uid}{meta.sop_instance_uid}".isascii()
    if damaged or not is_scannable(syntax):
        return None
    scanned = scan_elements(content, meta.dataset_offset)
    if scanned is None:
        return None
    elements: dict[BaseTag, RawDataElement] = {}
    for number, vr, start, length in scanned[0]:
        value = content[start : start + length] if length else empty_value_for_VR(vr, raw=True)  # b"" or None
        tag = shared_tag(number)
        elements[tag] = RawDataElement(tag, vr, length, value, start, False, True, True)  # type: ignore[arg-type]
    dataset = Dataset(elements)  # type: ignore[arg-type]
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    dataset.file_meta = FileMetaDataset(
        {
            shared_tag(number): RawDataElement(
                shared_tag(number), "UI", len(uid), uid.encode("ascii"), 0, False, True, True
            )
            for number, uid in (
                (0x00020002, meta.sop_class_uid),
                (0x00020003, meta.sop_instance_uid),
                (0x00020010, syntax),
            )
        }
    )
    return dataset, scanned[1]
