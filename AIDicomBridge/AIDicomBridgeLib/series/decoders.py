"""The fastest decoder that is installed for each compressed transfer syntax.

Measured for 512 x 512 CT slices on two cores, milliseconds a slice: JPEG-LS 2.1 with imagecodecs in threads against 4.1
with pyjpegls, JPEG 2000 12.6 against 22.8 with pylibjpeg-openjpeg, RLE 0.3 with imagecodecs against 2.6 with pydicom.
pylibjpeg-rle is as quick, but damaged data makes it panic, which is no Python exception.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PixelError
from .lossless_jpeg import refuse_other_length
from .pixel_format import PixelFormat

if TYPE_CHECKING:
    from pydicom import Dataset

_RLE = "1.2.840.10008.1.2.5"
_JPEG_BASELINE, _JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
_JPEG = (_JPEG_BASELINE, _JPEG_EXTENDED, *_JPEG_LOSSLESS, *_JPEG_LS)
# What these hold may be exact or not; nothing but the syntax tells it of every stream.
_LOSSY = (_JPEG_BASELINE, _JPEG_EXTENDED, _JPEG_LS[1], _JPEG_2000[1], _HTJ2K[2])
_IMAGECODECS = {
    _JPEG_BASELINE: "jpeg8_decode",
    _JPEG_EXTENDED: "jpeg8_decode",
    # ljpeg_decode knows neither restart intervals nor point transforms (T.81 B.2.4.4, H.1.2) and gives wrong values.
    **dict.fromkeys(_JPEG_LOSSLESS, "jpeg8_decode"),
    **dict.fromkeys(_JPEG_LS, "jpegls_decode"),
    **dict.fromkeys((*_JPEG_2000, *_HTJ2K), "jpeg2k_decode"),
}
_ADVICE = "Install the decoders with: pip install imagecodecs pylibjpeg-rle."
_END_OF_IMAGE = b"\xff\xd9"
_LARGEST_RLE_RATIO = 64  # two bytes stand for 128 at most


@dataclass(frozen=True)
class Decoder:
    """What turns one encoded frame into cells.

    Attributes
    ----------
    name
        For people: ``"imagecodecs (jpegls_decode)"``.
    decode
        Takes the encoded frame and its format; gives (rows, columns) integers.
    low_bits
        It gives values in the lowest bits; else native cells, with ``high_bit`` where the header has it.
    """

    name: str
    decode: Callable[[bytes, PixelFormat], np.ndarray]
    low_bits: bool = True

    def cells(self, encoded: bytes, syntax: str, form: PixelFormat, uid: str) -> np.ndarray:
        """Return the cells of one frame, (rows, columns).

        Values of a lossy transfer syntax that lie beyond the bits that the header states are clipped to its range. They
        ring about the values that were compressed, beside sharp edges also about the largest ones; those lay within the
        range, so its end is the nearest that can have been meant. Those of a lossless one are what was compressed: the
        header is wrong then, and they are refused, here or by :meth:`.PixelFormat.has_foreign_bits`.

        Raises
        ------
        PixelError
            The frame is of another size than its header says, known before memory is taken, its values have another
            sign, or it is seen to be damaged. Or it is lossy and has old overlays in the bits beside its values.
        """
        from pydicom.uid import UID

        _check_size(encoded, syntax, form, uid)
        try:
            cells = np.asarray(self.decode(encoded, form))
        except Exception as error:  # decoders raise nearly anything on damaged input
            raise PixelError(
                f"the pixel data ({UID(syntax).name}) cannot be decoded by {self.name}",
                uid=uid,
                advice="Retrieve the series again; if it stays so, the archive holds damaged pixel data.",
            ) from error
        if cells.shape != (form.rows, form.columns) or cells.dtype.kind not in "iu":
            raise PixelError(
                f"the pixel data has the shape {cells.shape} instead of {(form.rows, form.columns)}", uid=uid
            )
        if syntax in _JPEG_LOSSLESS and cells.dtype.kind == "u":  # samples as they are coded, without a sign
            try:
                refuse_other_length(encoded, cells)
            except (ValueError, struct.error) as error:
                raise PixelError(
                    f"the pixel data (JPEG) is damaged: {error}", uid=uid, advice="Retrieve the series again."
                ) from error
        if syntax in (*_JPEG_2000, *_HTJ2K):
            _check_sign(encoded, cells, form, uid)
        return _within_range(encoded, syntax, cells, form, uid)


def choose_decoder(syntax: str) -> Decoder:
    """Return the fastest installed decoder for a compressed transfer syntax.

    Raises
    ------
    PixelError
        No decoder is installed for it, or it is none of images.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    if syntax == _RLE and find_spec("imagecodecs"):
        return Decoder("imagecodecs (packbits_decode)", _decode_rle, low_bits=False)
    if syntax == _RLE:
        return Decoder(
            "pydicom", lambda data, form: _decode_with_pydicom(data, form, syntax, "pydicom"), low_bits=False
        )
    if syntax in _IMAGECODECS and find_spec("imagecodecs"):
        return _imagecodecs_decoder(_IMAGECODECS[syntax])
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as error:
        raise PixelError(f"the pixel data has the unknown transfer syntax {syntax}") from error
    if decoder.is_available:
        plugin = decoder.available_plugins[0]
        return Decoder(f"pydicom ({plugin})", lambda data, form: _decode_with_pydicom(data, form, syntax, ""))
    if find_spec("SimpleITK") and syntax not in _HTJ2K:
        return Decoder("SimpleITK (GDCM)", lambda data, form: _decode_with_simpleitk(data, form, syntax))
    raise PixelError(f"no decoder is installed for {UID(syntax).name}", advice=_ADVICE)


def _imagecodecs_decoder(function: str) -> Decoder:
    import imagecodecs

    decode = getattr(imagecodecs, function)
    return Decoder(f"imagecodecs ({function})", lambda data, _: decode(data))


def _decode_rle(data: bytes, form: PixelFormat) -> np.ndarray:
    """Decode the segments (PS3.5 Annex G), which hold the cells' bytes, the highest first."""
    import imagecodecs

    count, *offsets = struct.unpack_from("<16L", data)
    if count != form.bits_allocated // 8:
        raise ValueError("the number of segments is not that of the bytes of a cell")
    size = form.rows * form.columns
    cells = np.empty((size, count), np.uint8)
    ends = [*offsets[1:count], len(data)]
    for number, (start, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        segment = imagecodecs.packbits_decode(data[start:end], out=size)
        cells[:, count - 1 - number] = np.frombuffer(segment, np.uint8, size)
    return cells.view(f"<u{count}").reshape(form.rows, form.columns)


def _decode_with_pydicom(data: bytes, form: PixelFormat, syntax: str, plugin: str) -> np.ndarray:
    from pydicom.pixels import pixel_array

    return np.array(pixel_array(_frame_dataset(data, form, syntax), raw=True, decoding_plugin=plugin))


def _decode_with_simpleitk(data: bytes, form: PixelFormat, syntax: str) -> np.ndarray:
    import tempfile
    from pathlib import Path

    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="aidicombridge-") as folder:  # 0700; the file tells nothing of a patient
        path = Path(folder, "frame.dcm")
        # GDCM would cut values beyond the bits that the header states: whether there are any is asked of all cells.
        form = replace(form, bits_stored=form.bits_allocated, high_bit=form.bits_allocated - 1)
        _frame_dataset(data, form, syntax).save_as(path, enforce_file_format=True)
        array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array.reshape(form.rows, form.columns)


def _frame_dataset(data: bytes, form: PixelFormat, syntax: str) -> "Dataset":
    """Return an image of this one frame and nothing else."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(syntax)
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = form.rows, form.columns
    image.BitsAllocated, image.BitsStored, image.HighBit = form.bits_allocated, form.bits_stored, form.high_bit
    image.PixelRepresentation = int(form.signed)
    image.PixelData = encapsulate([data])
    image["PixelData"].VR = "OB"
    return image


def _check_size(encoded: bytes, syntax: str, form: PixelFormat, uid: str) -> None:
    """Refuse a frame whose own header claims another size than the data set's: a decoder believes the frame."""
    size: Any = (form.rows, form.columns)
    if syntax == _RLE:
        if len(encoded) * _LARGEST_RLE_RATIO < form.frame_bytes:
            raise PixelError("the pixel data (RLE) is truncated", uid=uid, advice="Retrieve the series again.")
    elif syntax in _JPEG:
        size = _jpeg_size(encoded)
        if size is not None and not encoded.rstrip(b"\0\xff").endswith(_END_OF_IMAGE):  # decoders fill what is missing
            raise PixelError("the pixel data (JPEG) is cut off", uid=uid, advice="Retrieve the series again.")
    elif syntax in (*_JPEG_2000, *_HTJ2K):
        size = _jpeg2000_size(encoded)
    if size != (form.rows, form.columns):
        raise PixelError(
            "the pixel data is damaged: it holds no frame"
            if size is None
            else f"the pixel data holds a frame of {size} instead of {(form.rows, form.columns)}",
            uid=uid,
            advice="Retrieve the series again.",
        )


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return rows and columns of the frame header (SOF0 to SOF15, or JPEG-LS's SOF55); None if there is none."""
    offset = 2
    while offset + 9 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a filling byte
            offset += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">HH", data, offset + 5)
            return rows, columns
        offset += 2 + struct.unpack_from(">H", data, offset + 2)[0]
    return None


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    """Return rows and columns of the SIZ marker segment; None if there is none, or more than one component."""
    start = _jpeg2000_start(data)
    if start < 0 or len(data) < start + 43:
        return None
    width, height, left, top = struct.unpack_from(">4I", data, start + 8)
    components = struct.unpack_from(">H", data, start + 40)[0]
    return (height - top, width - left) if components == 1 else None


def _jpeg2000_start(data: bytes) -> int:
    """Return where the code stream begins, with its SIZ marker segment; -1 if nowhere (ITU-T T.800, A.5.1)."""
    return data.find(b"\xff\x4f\xff\x51", 0, 4096)


def _jpeg2000_samples(data: bytes) -> tuple[bool, int]:
    """Return whether the samples have a sign, and their bits, from a SIZ marker segment that is there."""
    component = data[_jpeg2000_start(data) + 42]
    return component >> 7 == 1, (component & 0x7F) + 1


def _check_sign(encoded: bytes, cells: np.ndarray, form: PixelFormat, uid: str) -> None:
    """Refuse a JPEG 2000 frame that says of its values' sign another thing than the header, where that matters.

    Signed values in an unsigned frame are two's complements of as many bits as the header states, or as the frame has:
    readers differ on that, so both have to give the same. Values of a signed frame mean one thing to all in an unsigned
    image where none is negative.
    """
    is_signed, bits = _jpeg2000_samples(encoded)
    fewer, more = sorted((bits, form.bits_stored))
    if is_signed == form.signed or (form.signed and fewer == more):
        return
    if form.signed:
        values = ((cells.astype(np.int64) & (1 << bits) - 1) << 64 - more) >> 64 - more
        if -(1 << fewer - 1) <= values.min() and values.max() < 1 << fewer - 1:
            return
    elif cells.min() >= 0 and cells.max() < 1 << min(bits - 1, form.bits_stored):
        return
    coded = f"{'signed' if is_signed else 'unsigned'} values of {bits} bits"
    stated = f"{'signed' if form.signed else 'unsigned'} ones of {form.bits_stored}"
    raise PixelError(
        f"the pixel data (JPEG 2000) holds {coded}, and its header states {stated}: readers differ on what they mean",
        uid=uid,
        advice="Retrieve the series uncompressed, or tell whoever looks after the archive that compressed it.",
    )


def _within_range(encoded: bytes, syntax: str, cells: np.ndarray, form: PixelFormat, uid: str) -> np.ndarray:
    """Clip lossy values to the header's range, and refuse signed lossless ones beyond it.

    Left as they are, and to :meth:`.PixelFormat.has_foreign_bits`: two's complements in a frame that knows no sign, and
    unsigned lossless values.
    """
    is_lossy = syntax in _LOSSY
    has_sign = syntax in (*_JPEG_2000, *_HTJ2K) and _jpeg2000_samples(encoded)[0]
    low, high = form.value_range
    if has_sign != form.signed or not (is_lossy or has_sign) or (low <= cells.min() and cells.max() <= high):
        return cells
    if is_lossy and form.overlay_bits:
        raise PixelError(
            "the pixel data is lossy and has old overlays in the bits beside its values: neither can be told from what "
            "the compression changed",
            uid=uid,
            advice="Retrieve the series from where it was not compressed.",
        )
    if is_lossy:
        return np.clip(cells, low, high)
    if form.overlay_bits:
        return cells
    raise form.beyond_bits(uid)
