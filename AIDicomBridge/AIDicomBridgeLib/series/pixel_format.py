"""How a header says that pixel data is stored (PS3.3 C.7.6.3), and what the stored values mean (C.11.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PixelError
from .dicom_file import element_as_read, raw_text, real_number, whole_number

if TYPE_CHECKING:
    from pydicom import Dataset

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
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

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
        if whole_number(header, "SamplesPerPixel", 1) != 1:
            raise PixelError("the image is not a grey-value image", uid=uid)
        if allocated not in (8, 16):
            raise PixelError(f"the image has {allocated} bits a pixel; 8 and 16 can be read", uid=uid)
        if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
            raise PixelError(f"{stored} bits up to bit {high} do not fit into {allocated} allocated ones", uid=uid)
        if not (0 < rows <= _LARGEST_SIDE and 0 < columns <= _LARGEST_SIDE):
            raise PixelError(f"a slice of {rows} x {columns} is not accepted", uid=uid)
        return cls(rows, columns, allocated, stored, high, whole_number(header, "PixelRepresentation", 0) != 0)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed slice."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def value_range(self) -> tuple[int, int]:
        """Least and largest value that can be stored."""
        span = 1 << self.bits_stored
        return (-span // 2, span // 2 - 1) if self.signed else (0, span - 1)

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
                return cls._of_table(header.ModalityLUTSequence[0])
            slope, intercept = real_number(header, "RescaleSlope", 1), real_number(header, "RescaleIntercept", 0)
        except Exception as error:  # empty, or damaged in any way
            raise PixelError("the rescale slope, intercept or modality LUT cannot be used", uid=uid) from error
        if not (np.isfinite(slope) and np.isfinite(intercept) and slope):
            raise PixelError("the rescale slope is zero, or not finite", uid=uid)
        return cls(slope, intercept)

    @classmethod
    def _of_table(cls, item: "Dataset") -> "ValueRule":
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        data = item.LUTData
        table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
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
