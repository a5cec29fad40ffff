"""Stored pixel values to voxel values (PS3.3 C.7.6.3 and C.11.1)."""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import PixelError
from .dicom_file import whole_number

if TYPE_CHECKING:
    from pydicom import Dataset


def decode_slice(dataset: "Dataset", header: "Dataset | None" = None, frame_number: int | None = None) -> np.ndarray:
    """Return the voxels of one slice with its rescale applied.

    Parameters
    ----------
    dataset
        The image with its pixel data.
    header, frame_number
        Of a frame of a multi-frame image: its header as :class:`~.source_slice.SourceSlice` has it, and its number.

    Returns
    -------
    ndarray
        (j, i) = (row, column); int16 where all values are whole and fit, else float32. May be a read-only view of
        the data set's pixel data.

    Raises
    ------
    PixelError
        Not a single-channel image of 8 to 16 bits, pixel data missing, truncated or damaged, or no decoder
        installed for its transfer syntax.
    BadDicomError
        An attribute that describes the pixels is not one whole number.
    """
    uid = str(dataset.SOPInstanceUID)
    frames = whole_number(dataset, "NumberOfFrames", 1)
    if whole_number(dataset, "SamplesPerPixel", 1) != 1 or (frames != 1 and frame_number is None):
        raise PixelError("the image is not a single grey-value frame", uid=uid)
    if whole_number(dataset, "BitsAllocated", 0) not in (8, 16) or not isinstance(dataset.get("PixelData"), bytes):
        raise PixelError("the image has no pixel data of 8 or 16 bits", uid=uid)
    stored = _stored_values(dataset, (frame_number or 1) - 1, frames, uid)
    slope, intercept = _rescale(dataset if header is None else header, uid)
    if slope.is_integer() and intercept.is_integer():
        low, high = (value * slope + intercept for value in (int(stored.min()), int(stored.max())))
        if min(low, high) >= -32768 and max(low, high) <= 32767:
            if (slope, intercept) == (1, 0):
                return stored.astype(np.int16, copy=False)
            return (stored.astype(np.int32) * int(slope) + int(intercept)).astype(np.int16)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _stored_values(dataset: "Dataset", frame: int, frames: int, uid: str) -> np.ndarray:
    from pydicom.pixels import pixel_array

    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    allocated = whole_number(dataset, "BitsAllocated")
    stored = whole_number(dataset, "BitsStored", allocated)
    signed = whole_number(dataset, "PixelRepresentation", 0) != 0
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise PixelError(f"the pixel data has the unknown transfer syntax {syntax}", uid=uid)
    # BitsStored < BitsAllocated may leave overlay bits above: those images go through pydicom, which masks them.
    plain = stored == allocated or (not signed and 0 < stored < allocated)
    if not syntax.is_compressed and syntax.is_little_endian and plain:
        bytes_expected = frames * rows * columns * allocated // 8
        if len(dataset.PixelData) < bytes_expected:
            raise PixelError(
                f"the pixel data is truncated: {len(dataset.PixelData)} of {bytes_expected} bytes",
                uid=uid,
                advice="Retrieve the series again.",
            )
        kind, start = f"<{'i' if signed else 'u'}{allocated // 8}", frame * rows * columns * allocated // 8
        values = np.frombuffer(dataset.PixelData, kind, rows * columns, start)
        if stored == allocated or int(values.max()) < 2**stored:
            return values.reshape(rows, columns)
    try:
        decoded = pixel_array(dataset, index=frame)
    except Exception as error:  # decoders raise nearly anything on damaged input
        raise PixelError(
            f"the pixel data ({syntax.name}) cannot be decoded",
            uid=uid,
            advice="Install the decoders with: pip install pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle,"
            " or retrieve the series again.",
        ) from error
    if decoded.shape != (rows, columns):
        raise PixelError(f"the pixel data has the shape {decoded.shape} instead of {(rows, columns)}", uid=uid)
    return np.asarray(decoded)


def _rescale(dataset: "Dataset", uid: str) -> tuple[float, float]:
    try:
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    except Exception as error:  # empty, or damaged in any way
        raise PixelError("the rescale slope or intercept is not a number", uid=uid) from error
    if not (np.isfinite(slope) and np.isfinite(intercept) and slope):
        raise PixelError("the rescale slope is zero, or not finite", uid=uid)
    return slope, intercept
