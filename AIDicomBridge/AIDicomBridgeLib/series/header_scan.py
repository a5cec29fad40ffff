"""The header of an ordinary file in one pass: 0.1 ms for a CT slice, where pydicom's general parser takes 0.6 ms.

Only Explicit VR Little Endian with known VRs and defined lengths up to the pixel data is taken; for all else pydicom
reads the file. Values stay bytes, as pydicom keeps them too, until they are asked for.
"""

from typing import TYPE_CHECKING

from ..errors import BadDicomError
from .part10 import DEFLATED, parse_part10_header

if TYPE_CHECKING:
    from pydicom import Dataset

_LONG_VRS = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # PS3.5 section 7.1.2
)
_BIG_ENDIAN, _IMPLICIT = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
_PIXEL_GROUP, _PIXEL_ELEMENTS = 0x7FE0, (0x0008, 0x0009, 0x0010)  # float, double float and integer pixel data
_UNDEFINED_LENGTH = 0xFFFFFFFF


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
    from pydicom.tag import BaseTag

    try:
        meta = parse_part10_header(content)
    except BadDicomError:
        return None
    syntax = meta.transfer_syntax_uid
    damaged = not f"{syntax}{meta.sop_class_uid}{meta.sop_instance_uid}".isascii()
    if damaged or syntax in (DEFLATED, _BIG_ENDIAN, _IMPLICIT):
        return None
    elements: dict[BaseTag, RawDataElement] = {}
    offset, end, previous = meta.dataset_offset, len(content), -1
    while offset + 12 <= end:
        group = content[offset] | content[offset + 1] << 8
        element = content[offset + 2] | content[offset + 3] << 8
        if group == _PIXEL_GROUP and element in _PIXEL_ELEMENTS:
            break
        vr = content[offset + 4 : offset + 6]
        if vr in _SHORT_VRS:
            start, length = offset + 8, content[offset + 6] | content[offset + 7] << 8
        elif vr in _LONG_VRS:
            start, length = offset + 12, int.from_bytes(content[offset + 8 : offset + 12], "little")
        else:
            return None
        tag = group << 16 | element
        offset = start + length
        if length == _UNDEFINED_LENGTH or offset > end or tag <= previous:
            return None
        name = vr.decode()
        value = content[start:offset] if length else empty_value_for_VR(name, raw=True)  # b"" or None
        elements[BaseTag(tag)] = RawDataElement(BaseTag(tag), name, length, value, start, False, True, True)  # type: ignore[arg-type]
        previous = tag
    else:
        return None
    dataset = Dataset(elements)  # type: ignore[arg-type]
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    dataset.file_meta = FileMetaDataset(
        {
            BaseTag(tag): RawDataElement(BaseTag(tag), "UI", len(uid), uid.encode("ascii"), 0, False, True, True)
            for tag, uid in (
                (0x00020002, meta.sop_class_uid),
                (0x00020003, meta.sop_instance_uid),
                (0x00020010, syntax),
            )
        }
    )
    return dataset, offset
