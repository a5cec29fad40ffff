"""How a header says that pixel data is stored (PS3.3 C.7.6.3), and what the stored values mean (C.11.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, PixelError
from .dicom_file import element_as_read, raw_text, real_number, whole_number

if TYPE_CHECKING:
    from pydicom import Dataset

# HU_MOD: values of another origin on the scale of Hounsfield units, such as virtual monoenergetic images.
_HOUNSFIELD_UNITS = ("", "HU", "HU_MOD")
_GREY_VALUES = ("MONOCHROME1", "MONOCHROME2", "")  # the first is shown inverted; its values mean the same
_WITH_RESCALE = ("CT", "PT")  # type 1 there: PS3.3 C.8.2.1, C.8.9.4; C.7.6.16.2.9 in their Enhanced kin
_LARGEST_VALUE = 3e38  # of float32
_LARGEST_SIDE = 8192  # of a slice; scanners make 1024 at most, and 65535 x 65535 would be 8 GiB


@dataclass(frozen=True)
class PixelFormat:
    """Size and cells of one slice's pixel data.

    Attributes
    ----------
    bits_allocated, bits_stored, high_bit
        8 or 16 bits a cell; those that hold the value, the uppermost of them being ``high_bit``.
    signed
        The stored values are two's complements.
    overlay_bits
        The bits beside the value in which old overlays lie, as a mask.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    overlay_bits: int = 0

    @classmethod
    def of(cls, header: "Dataset") -> "PixelFormat":
        """Return the format that a slice's header describes.

        Raises
        ------
        PixelError
            It is no single-channel image of 8 or 16 bits, or too large to be a slice.
        BadDicomError
            An attribute that describes the pixels is not one whole number.
        """
        uid = raw_text(header, "SOPInstanceUID")
        rows, columns = whole_number(header, "Rows"), whole_number(header, "Columns")
        allocated = whole_number(header, "BitsAllocated", 0)
        stored = whole_number(header, "BitsStored", allocated)
        high = whole_number(header, "HighBit", stored - 1)
        photometric = _photometric(header, uid)
        if whole_number(header, "SamplesPerPixel", 1) != 1 or photometric not in _GREY_VALUES:
            raise PixelError(f"the image is not a grey-value image (photometric interpretation {photometric})", uid=uid)
        if allocated not in (8, 16):
            raise PixelError(f"the image has {allocated} bits a pixel; 8 and 16 can be read", uid=uid)
        if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
            raise PixelError(f"{stored} bits up to bit {high} do not fit into {allocated} allocated ones", uid=uid)
        if not (0 < rows <= _LARGEST_SIDE and 0 < columns <= _LARGEST_SIDE):
            raise PixelError(f"a slice of {rows} x {columns} is not accepted", uid=uid)
        signed = whole_number(header, "PixelRepresentation", 0) != 0
        return cls(rows, columns, allocated, stored, high, signed, _overlay_bits(header) if stored < allocated else 0)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed slice."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def value_range(self) -> tuple[int, int]:
        """Least and largest value that can be stored."""
        span = 1 << self.bits_stored
        return (-span // 2, span // 2 - 1) if self.signed else (0, span - 1)

    def has_foreign_bits(self, cells: np.ndarray, *, low_bits: bool = False) -> bool:
        """Return True if cells hold more than their values, sign extensions and announced overlays.

        The header then says less than the image has: to cut its values would change them without a word. ``cells`` and
        ``low_bits`` are as in :meth:`stored_values`.
        """
        shift, width = 0 if low_bits else self.high_bit + 1 - self.bits_stored, cells.dtype.itemsize * 8
        if self.bits_stored >= width:
            return False
        if shift == 0 and not self.overlay_bits:  # two quick passes
            if not self.signed:
                return int(cells.max()) >> self.bits_stored > 0
            values = cells.view(f"i{cells.dtype.itemsize}")
            return int(values.min()) < -(1 << self.bits_stored - 1) or int(values.max()) >> self.bits_stored > 0
        value_bits = (1 << self.bits_stored) - 1 << shift
        cells = cells.view(f"u{cells.dtype.itemsize}")  # decoders give signed ones as well
        others = np.array(~value_bits & ~self.overlay_bits & (1 << width) - 1, cells.dtype)
        found = cells & others
        if self.signed:
            sign_bit = shift + self.bits_stored - 1
            is_negative = (cells >> sign_bit & 1).astype(bool)
            extension = others & np.array((-1 << sign_bit + 1) & (1 << width) - 1, cells.dtype)
            found[is_negative & (found == extension)] = 0
        return bool(found.any())

    def beyond_bits(self, uid: str) -> PixelError:
        """Return the error of an image that holds more than its header has bits for."""
        return PixelError(
            f"the image holds values beyond the {self.bits_stored} bits that its header states",
            uid=uid,
            advice="They would be cut. Retrieve the series again, or tell whoever looks after its scanner.",
        )

    def stored_values(self, cells: np.ndarray, *, low_bits: bool = False) -> np.ndarray:
        """Return what native cells hold, with the sign bit at its place and other bits (old overlays) masked out.

        Parameters
        ----------
        cells
            uint8 or uint16, as they lie in uncompressed pixel data; or integers of any kind from a decoder.
        low_bits
            The value is in the lowest bits, as decoders give it, wherever ``high_bit`` is.

        Returns
        -------
        ndarray
            Changed in place and returned as a signed view where that is possible.
        """
        if cells.dtype.itemsize * 8 < self.bits_stored:
            cells = cells.astype(f"{cells.dtype.kind}2")
        width = cells.dtype.itemsize * 8
        shift = 0 if low_bits else self.high_bit + 1 - self.bits_stored
        if self.signed:
            values = cells.view(f"i{cells.dtype.itemsize}")
            if self.bits_stored + shift < width:
                values <<= width - self.bits_stored - shift
            if self.bits_stored < width:
                values >>= width - self.bits_stored
            return values
        values = cells.view(f"u{cells.dtype.itemsize}")
        if shift:
            values >>= shift
        if self.bits_stored < width:
            values &= (1 << self.bits_stored) - 1
        return values


def rescale_type(header: "Dataset") -> str:
    """Return the unit that a header states for its values (Rescale Type, Modality LUT Type; C.11.1.1.2), in capitals.

    Empty where it states none: those of CT are then Hounsfield units.

    Raises
    ------
    PixelError
        It cannot be read.
    """
    try:
        tables = header.get("ModalityLUTSequence") or [header]
        stated = tables[0].get("ModalityLUTType" if tables[0] is not header else "RescaleType")
        return str(stated or "").strip().upper()
    except Exception as error:  # converters raise nearly anything on damaged input
        raise PixelError("the unit of the values cannot be read", uid=raw_text(header, "SOPInstanceUID")) from error


def is_hounsfield(header: "Dataset") -> bool:
    """Return True if the values of a CT image are in Hounsfield units, as those of one that states no unit are.

    Raises
    ------
    PixelError
        The unit cannot be read.
    """
    return rescale_type(header) in _HOUNSFIELD_UNITS


def _photometric(header: "Dataset", uid: str) -> str:
    try:
        return raw_text(header, "PhotometricInterpretation").upper()
    except Exception as error:  # converters raise nearly anything on damaged input
        raise BadDicomError("PhotometricInterpretation cannot be read", uid=uid) from error


def _overlay_bits(header: "Dataset") -> int:
    """Return where old overlays lie beside the values (PS3.3 of 2004, C.9.2: those without data of their own)."""
    bits = 0
    for tag in [tag for tag in header.keys() if 0x6000 <= tag >> 16 < 0x6020 and tag & 0xFFFF == 0x0102]:  # noqa: SIM118
        position = header[tag].value
        if not isinstance(position, int) or not 0 <= position < 16:
            raise PixelError("the bit position of an overlay is damaged", uid=raw_text(header, "SOPInstanceUID"))
        if (tag >> 16, 0x3000) not in header:
            bits |= 1 << position
    return bits


@dataclass(frozen=True, eq=False)
class ValueRule:
    """The modality transformation of a slice: ``stored * slope + intercept``, or a table.

    Attributes
    ----------
    table
        Values of the Modality LUT, int32; None where slope and intercept apply.
    first
        Stored value of the table's first entry.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: np.ndarray | None = None
    first: int = 0

    @classmethod
    def of(cls, header: "Dataset") -> "ValueRule":
        """Return the rule that a slice's header states.

        Raises
        ------
        PixelError
            Slope, intercept or table are damaged, or the slope is zero.
        """
        uid = raw_text(header, "SOPInstanceUID")
        try:
            if element_as_read(header, "ModalityLUTSequence") is not None and header.ModalityLUTSequence:
                signed = whole_number(header, "PixelRepresentation", 0) != 0
                words = "<u2" if header.original_encoding[1] else ">u2"
                return cls._of_table(header.ModalityLUTSequence[0], words, signed=signed)
            slope, intercept = real_number(header, "RescaleSlope", 1), real_number(header, "RescaleIntercept", 0)
        except Exception as error:  # empty, or damaged in any way
            raise PixelError("the rescale slope, intercept or modality LUT cannot be used", uid=uid) from error
        if not (slope and abs(slope) * 65536 + abs(intercept) < _LARGEST_VALUE):  # also for what is no number
            raise PixelError("the rescale slope is zero, or a value would be beyond all numbers", uid=uid)
        absent = [n for n in ("RescaleSlope", "RescaleIntercept") if element_as_read(header, n) is None]
        if absent and raw_text(header, "Modality") in _WITH_RESCALE:
            raise PixelError(
                f"the image has no {' and no '.join(absent)}: what its values mean is not known",
                uid=uid,
                advice="Retrieve the series again, from where it is complete; CT and PET images always state it.",
            )
        return cls(slope, intercept)

    @classmethod
    def _of_table(cls, item: "Dataset", words: str, *, signed: bool) -> "ValueRule":
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        if signed and first >= 1 << 15:  # the first value has the sign of the pixels, whatever its VR (C.11.1.1.1)
            first -= 1 << 16
        data = item.LUTData
        table = np.frombuffer(data, words) if isinstance(data, bytes) else np.asarray(data)
        if bits not in range(8, 17) or len(table) < (count or 65536):
            raise ValueError("the table is shorter than it says")
        return cls(table=table[: count or 65536].astype(np.int32), first=first)

    @property
    def is_whole(self) -> bool:
        """Return True if whole stored values give whole values."""
        return self.table is not None or (self.slope.is_integer() and self.intercept.is_integer())

    def fits_int16(self, low: int, high: int) -> bool:
        """Return True if stored values from ``low`` to ``high`` become values within int16."""
        if self.table is not None:
            return bool(self.table.min() >= -32768 and self.table.max() <= 32767)
        ends = (low * self.slope + self.intercept, high * self.slope + self.intercept)
        return min(ends) >= -32768 and max(ends) <= 32767

    def write(self, stored: np.ndarray, voxels: np.ndarray) -> None:
        """Write the values of stored values into a plane of int16, where they fit, or float32."""
        if self.table is not None:
            voxels[...] = self.table[np.clip(stored.astype(np.int32) - self.first, 0, len(self.table) - 1)]
        elif voxels.dtype == np.int16:
            # Whole and within int16 at the end: what runs over on the way comes back, modulo 65536.
            if not np.may_share_memory(stored, voxels):  # else the cells were read into the volume
                np.copyto(voxels, stored, casting="unsafe")
            if self.slope != 1:
                voxels *= np.array(int(self.slope) & 0xFFFF, np.uint16).view(np.int16)
            if self.intercept != 0:
                voxels += np.array(int(self.intercept) & 0xFFFF, np.uint16).view(np.int16)
        else:
            np.multiply(stored, np.float32(self.slope), out=voxels, casting="unsafe")
            voxels += np.float32(self.intercept)
