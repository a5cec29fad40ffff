"""Stored values become voxels exactly, whatever codec, sign and number of bits, or the slice is refused."""

import sys

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, PixelError
from AIDicomBridgeLib.progress import CancelToken, JobCancelled
from AIDicomBridgeLib.series import decoders
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import DataElement, Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from synthetic import body_phantom, make_enhanced

imagecodecs = pytest.importorskip("imagecodecs")
SHAPE = (3, 24, 28)


def _store(images: list[Dataset], values: np.ndarray, bits: int, *, signed: bool) -> None:
    """Put (k, j, i) values into the images, uncompressed, in cells of 8 or 16 bits."""
    allocated = 8 if bits <= 8 else 16
    for image, plane in zip(images, values, strict=True):
        image.BitsAllocated, image.BitsStored, image.HighBit = allocated, bits, bits - 1
        image.PixelRepresentation = int(signed)
        image.PixelData = (plane.astype(np.int32) & (2**bits - 1)).astype(f"<u{allocated // 8}").tobytes()


def _values(bits: int, *, signed: bool) -> np.ndarray:
    """Return values that use the whole range, its ends included."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = np.random.default_rng(bits).integers(low, high, SHAPE, endpoint=True)
    values[:, 0, :2] = low, high
    return values


def _as_jpeg_2000(plane: np.ndarray, bits: int) -> bytes:
    cells = _cells(plane, bits)
    return imagecodecs.jpeg2k_encode(cells, level=0, codecformat="j2k", reversible=True, bitspersample=bits)


def _cells(plane: np.ndarray, bits: int) -> np.ndarray:
    return plane.astype("int16" if plane.min() < 0 else "uint8" if bits <= 8 else "uint16")


def _masked(plane: np.ndarray, bits: int) -> np.ndarray:
    return (plane.astype(np.int32) & (2**bits - 1)).astype("uint8" if bits <= 8 else "uint16")


CODECS = {
    "JPEG-LS": (JPEGLSLossless, lambda plane, bits: imagecodecs.jpegls_encode(_masked(plane, bits))),
    "JPEG 2000, signed code stream": (JPEG2000Lossless, _as_jpeg_2000),
    "JPEG 2000, unsigned code stream": (JPEG2000Lossless, lambda p, bits: _as_jpeg_2000(_masked(p, bits), bits)),
    "JPEG 2000": (JPEG2000, _as_jpeg_2000),
    "HTJ2K": (HTJ2KLossless, lambda plane, bits: imagecodecs.htj2k_encode(_cells(plane, bits))),
    "HTJ2K, any": (HTJ2K, lambda plane, bits: imagecodecs.htj2k_encode(_cells(plane, bits))),
    "JPEG lossless": (JPEGLosslessSV1, lambda plane, bits: imagecodecs.ljpeg_encode(_masked(plane, bits))),
    "JPEG lossless, process 14": (JPEGLossless, lambda plane, bits: imagecodecs.ljpeg_encode(_masked(plane, bits))),
}


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_lossless_codecs_give_every_value(images, read, codec, bits: int, signed: bool) -> None:
    (syntax, encode), values = codec, _values(bits, signed=signed)
    _store(images, values, bits, signed=signed)
    for image, plane in zip(images, values, strict=True):
        image.PixelData = encapsulate([bytes(encode(plane, bits))])
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = syntax

    volume = read(images)

    np.testing.assert_array_equal(volume.voxels, values)
    assert volume.decoder.startswith("imagecodecs")


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", ["RLE", "implicit VR", "big endian", "explicit VR"])
def test_cells_of_any_size_sign_and_order(images, read, kind: str, bits: int, signed: bool) -> None:
    values = _values(bits, signed=signed)
    _store(images, values, bits, signed=signed)
    for image in images:
        if kind == "RLE":
            image.compress(RLELossless)
        elif kind == "implicit VR":
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        elif kind == "big endian":
            image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            if bits > 8:
                image.PixelData = np.frombuffer(image.PixelData, "<u2").byteswap().tobytes()

    volume = read(images)

    np.testing.assert_array_equal(volume.voxels, values)
    assert volume.voxels.dtype == (np.float32 if bits == 16 and not signed else np.int16)
    assert volume.decoder == ("imagecodecs (packbits_decode)" if kind == "RLE" else "uncompressed")


def test_8_bit_values_in_big_endian_words_are_in_their_order(images, read) -> None:
    """The first value is the lower byte of the first word (PS3.5 8.2 and A.3)."""
    values = _values(8, signed=False)
    _store(images, values, 8, signed=False)
    for image, plane in zip(images, values, strict=True):
        image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        image.PixelData = plane.astype("u1").view("u2").byteswap().tobytes()
        image["PixelData"].VR = "OW"
    np.testing.assert_array_equal(read(images).voxels, values)
    for image in images:
        image.Rows, image.Columns, image.PixelData = 3, 3, bytes(10)
    with pytest.raises(PixelError, match="odd number of 8-bit values"):
        read(images)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_modality_lut_in_words_has_the_order_of_its_file(images, read, syntax: str) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [4, 0, 16], "HU"
    item["LUTDescriptor"].VR = "US"
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    item.LUTData = np.array([0, 100, 200, 300], f"{order}u2").tobytes()
    item["LUTData"].VR = "OW"
    for image in images:
        image.file_meta.TransferSyntaxUID = syntax
        image.ModalityLUTSequence, image.PixelRepresentation = [item], 0
        image.PixelData = np.array([0, 1, 2, 3] * 168, f"{order}u2").tobytes()
        image["PixelData"].VR = "OW"
    np.testing.assert_array_equal(read(images).voxels[1].ravel()[:4], [0, 100, 200, 300])


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beside_the_value_are_masked_out(images, read, signed: bool) -> None:
    """Old overlays lie above the value, and the value may not begin at bit 0."""
    values = _values(12, signed=signed)
    for image, plane in zip(images, values, strict=True):
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 13, int(signed)
        for group, bit in ((0x6000, 0), (0x6002, 14), (0x6004, 15)):
            image.add_new((group, 0x0102), "US", bit)
        cells = ((plane & 0xFFF) << 2) | 0xC001
        image.PixelData = cells.astype("<u2").tobytes()
    np.testing.assert_array_equal(read(images).voxels, values)


def test_whole_values_stay_int16(images, read) -> None:
    for image in images:
        image.RescaleSlope, image.RescaleIntercept = "2", "-10"
    voxels = read(images).voxels
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, body_phantom(SHAPE) * 2 - 10)


def test_unsigned_values_with_an_intercept_do_not_wrap(images, read) -> None:
    values = body_phantom(SHAPE)
    for image, plane in zip(images, values, strict=True):
        image.PixelRepresentation, image.RescaleIntercept = 0, "-33000"
        image.PixelData = (plane.astype(np.int32) + 33000).astype("<u2").tobytes()
    voxels = read(images).voxels
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, values)


def test_values_beyond_int16_are_not_wrapped(images, read) -> None:
    images[2].RescaleSlope = "40"
    voxels = read(images).voxels
    assert voxels.dtype == np.float32
    np.testing.assert_array_equal(voxels, body_phantom(SHAPE) * np.array([1, 1, 40]).reshape(3, 1, 1))


def test_every_slice_has_its_own_rescale(images, read) -> None:
    """As PET has it."""
    slopes = np.array([0.25, 1.5, 3.0])
    for image, slope in zip(images, slopes, strict=True):
        image.RescaleSlope, image.RescaleIntercept = str(slope), "1"
    voxels = read(images).voxels
    assert voxels.dtype == np.float32
    np.testing.assert_allclose(voxels, body_phantom(SHAPE) * slopes[:, None, None] + 1)


def test_a_modality_lut_takes_the_place_of_the_rescale(images, read) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [5, 10, 16], "HU"
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [100, 200, 300, 400, 40000]
    item["LUTData"].VR = "US"
    for image in images:
        del image.RescaleSlope, image.RescaleIntercept
        image.ModalityLUTSequence, image.PixelRepresentation = [item], 0
        image.PixelData = np.array([0, 10, 11, 13, 14, 900] * 112, "<u2").tobytes()
    voxels = read(images).voxels
    np.testing.assert_array_equal(voxels[1].ravel()[:6], [100, 100, 200, 400, 40000, 40000])


def _compress(images: list[Dataset], values: np.ndarray, bits: int, syntax: str) -> None:
    encoders = {
        JPEG2000Lossless: _as_jpeg_2000,
        JPEGLSLossless: lambda plane, bits: imagecodecs.jpegls_encode(_masked(plane, bits)),
        JPEGLosslessSV1: lambda plane, bits: imagecodecs.ljpeg_encode(_masked(plane, bits)),
    }
    for image, plane in zip(images, values, strict=True):
        if syntax == RLELossless:
            image.compress(syntax)
        else:
            image.file_meta.TransferSyntaxUID = syntax
            image.PixelData = encapsulate([bytes(encoders[syntax](plane, bits))])
            image["PixelData"].VR = "OB"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_without_the_fastest_decoder_the_next_is_taken(images, read, monkeypatch, syntax) -> None:
    found = decoders.find_spec
    monkeypatch.setattr(decoders, "find_spec", lambda name: None if name == "imagecodecs" else found(name))
    _compress(images, body_phantom(SHAPE), 16, syntax)
    volume = read(images)
    np.testing.assert_array_equal(volume.voxels, body_phantom(SHAPE))
    assert "imagecodecs" not in volume.decoder


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (16, True), (12, True)])
def test_inside_slicer_simpleitk_decodes_what_else_nothing_does(
    images, read, monkeypatch, syntax, bits, signed
) -> None:
    values = _values(bits, signed=signed)
    _store(images, values, bits, signed=signed)
    _compress(images, values, bits, syntax)
    monkeypatch.setattr(decoders, "find_spec", lambda name: sys if name == "SimpleITK" else None)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    volume = read(images)
    assert volume.decoder == "SimpleITK (GDCM)"
    np.testing.assert_array_equal(volume.voxels, values)


def test_a_syntax_that_nothing_decodes_names_what_to_install(images, read, monkeypatch) -> None:
    _compress(images, body_phantom(SHAPE), 16, JPEG2000Lossless)
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(PixelError, match="pip install imagecodecs"):
        read(images)


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_pixel_data_is_refused(images, read, compressed: bool) -> None:
    if compressed:
        images[1].compress(RLELossless)
        images[1].PixelData = encapsulate([images[1].PixelData[80:100]])
    else:
        images[1].PixelData = images[1].PixelData[:-2]
    with pytest.raises(PixelError, match=r"truncated|cannot be decoded") as caught:
        read(images)
    assert caught.value.uid == images[1].SOPInstanceUID


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (JPEG2000Lossless, b"\xff\x4f\xff\x51 no image"),
        (JPEGLSLossless, b"\xff\xd8\xff"),
        (JPEGLosslessSV1, b""),
        (RLELossless, b"\0" * 64),
    ],
)
def test_damaged_compressed_data_is_refused(images, read, syntax, frame: bytes) -> None:
    for image in images:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([frame + b"\0"])
    with pytest.raises(PixelError):
        read(images)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_bomb_is_refused_before_it_goes_off(images, read, syntax) -> None:
    """The frame itself claims a size that the header does not: decoders would take gigabytes."""
    large = np.zeros((3000, 4000), np.uint16)
    encode = {
        JPEG2000Lossless: lambda: _as_jpeg_2000(large, 16),
        JPEGLSLossless: lambda: imagecodecs.jpegls_encode(large),
        JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(large),
    }[syntax]
    for image in images:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([bytes(encode())])
    with pytest.raises(PixelError, match=r"\(3000, 4000\) instead of \(24, 28\)"):
        read(images)


@pytest.mark.parametrize(("keyword", "value"), [("SamplesPerPixel", 3), ("NumberOfFrames", 2), ("BitsAllocated", 32)])
def test_what_is_no_grey_value_slice_is_refused(images, read, keyword: str, value: int) -> None:
    setattr(images[1], keyword, value)
    with pytest.raises(PixelError):
        read(images)


@pytest.mark.parametrize("keyword", ["SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation", "Rows"])
@pytest.mark.parametrize(("vr", "value"), [("IS", "a"), ("LO", "many"), ("US", [1, 2]), ("DS", "1.5")])
def test_a_damaged_description_of_the_pixels_is_refused_by_name(images, read, keyword, vr, value) -> None:
    images[1]["PixelData"].VR = "OW"
    images[1][keyword] = DataElement(images[1][keyword].tag, vr, value, already_converted=True)
    with pytest.raises(BadDicomError, match=keyword) as caught:
        read(images)
    assert caught.value.uid == images[1].SOPInstanceUID


@pytest.mark.parametrize(("slope", "intercept"), [("0", "1"), ("", "0"), ("1", "many"), ("nan", "0"), ("1", "1e999")])
def test_a_damaged_rescale_is_refused(images, read, slope: str, intercept: str) -> None:
    for name, text in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        images[1][name] = DataElement(images[1][name].tag, "DS", text or None, already_converted=True)
    with pytest.raises(PixelError, match="rescale"):
        read(images)


@pytest.mark.filterwarnings("ignore:The value length")
def test_an_unknown_transfer_syntax_is_refused(images, read) -> None:
    paths = read(images).source.paths
    for path in paths:
        content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")
        path.write_bytes(content)
    with pytest.raises(PixelError, match=r"unknown transfer syntax 1\.2\.840\.10008\.9\.9\.9"):
        read_volume(paths)


def test_pixel_data_of_another_kind_is_refused(images, read) -> None:
    del images[1].PixelData
    images[1].FloatPixelData = bytes(24 * 28 * 4)
    with pytest.raises(PixelError, match="no pixel data"):
        read(images)


def test_missing_frames_are_refused(images, read) -> None:
    enhanced = make_enhanced(images)
    enhanced.compress(RLELossless)
    two = [image.PixelData for image in images[:2]]
    for image in images[:2]:
        image.compress(RLELossless)
    from pydicom.encaps import generate_frames

    two = [next(generate_frames(image.PixelData, number_of_frames=1)) for image in images[:2]]
    enhanced.PixelData = encapsulate(two)
    with pytest.raises(PixelError):
        read([enhanced])


def test_reading_can_be_cancelled(images, read) -> None:
    source, cancel = read(images).source, CancelToken()
    cancel.cancel()
    with pytest.raises(JobCancelled):
        read_volume(source, cancel=cancel)
