"""What a header says of its pixels must be true of them, or the slice is refused: no value is guessed."""

import sys
from functools import partial

import numpy as np
import pytest
from AIDicomBridgeLib.errors import PixelError
from AIDicomBridgeLib.series import decoders, pixels
from AIDicomBridgeLib.series.volume import read_volume
from lossless_jpeg import encode_lossless_jpeg
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from synthetic import body_phantom, make_enhanced, make_series

imagecodecs = pytest.importorskip("imagecodecs")
SHAPE = (3, 24, 28)
DECODING = "imagecodecs", "pydicom", "SimpleITK"


def _encapsulate(image: Dataset, syntax: str, *frames: bytes) -> None:
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate(list(frames))
    image["PixelData"].VR = "OB"


def _encoded(plane: np.ndarray, syntax: str, bits: int = 16) -> bytes:
    """Return a frame; what is no JPEG 2000 has the sign bit in its values, as that knows no sign."""
    encode = {
        JPEGLosslessSV1: encode_lossless_jpeg,
        JPEGLSLossless: imagecodecs.jpegls_encode,
        JPEG2000Lossless: partial(
            imagecodecs.jpeg2k_encode, level=0, codecformat="j2k", reversible=True, bitspersample=bits
        ),
    }[syntax]
    return bytes(encode(plane))


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_frame_that_is_cut_off_is_refused(images, read, syntax: str, share: float) -> None:
    plane = np.random.default_rng(5).integers(0, 4096, SHAPE[1:], dtype=np.uint16)
    frame = _encoded(plane, syntax)
    for image in images:
        _encapsulate(image, syntax, frame[: int(len(frame) * share)])
    with pytest.raises(PixelError, match=r"cut off|cannot be decoded"):
        read(images)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_values_whose_meaning_is_not_stated_are_refused(images, read, keyword: str) -> None:
    del images[1][keyword]
    with pytest.raises(PixelError, match=f"no {keyword}.*not known"):
        read(images)


def test_an_enhanced_image_has_no_rescale_but_that_of_its_frames(images, read) -> None:
    enhanced = make_enhanced(images)
    enhanced.RescaleSlope, enhanced.RescaleIntercept = "1", "-1024"
    np.testing.assert_array_equal(read([enhanced]).voxels, body_phantom(SHAPE))
    for group in enhanced.PerFrameFunctionalGroupsSequence:
        del group.PixelValueTransformationSequence
    with pytest.raises(PixelError, match="no RescaleSlope"):
        read([enhanced])


def test_compressed_pixels_under_an_uncompressed_syntax_are_refused(images, read) -> None:
    for image in images:
        image.compress(RLELossless)
    paths = read(images).source.paths
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"UI\x14\x001.2.840.10008.1.2.5\0", b"UI\x14\x001.2.840.10008.1.2.1\0"))
    with pytest.raises(PixelError, match=f"compressed, although the header says {ExplicitVRLittleEndian.name}"):
        read_volume(paths)


@pytest.mark.parametrize("change", [{"Rows": 23}, {"Columns": 27}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}])
def test_more_pixels_than_the_header_describes_are_refused(images, read, change: dict) -> None:
    for image in images:
        image["PixelData"].VR = "OW"
        for keyword, value in change.items():
            setattr(image, keyword, value)
    with pytest.raises(PixelError, match="describes another image"):
        read(images)


def test_more_frames_than_the_header_describes_are_refused(images, read) -> None:
    for image in images:
        frame = bytes(imagecodecs.jpegls_encode(np.frombuffer(image.PixelData, "<u2").reshape(SHAPE[1:])))
        _encapsulate(image, JPEGLSLossless, frame, frame)
    with pytest.raises(PixelError, match="more than 1 frame"):
        read(images)


def test_bits_that_nothing_explains_are_not_cut_off(images, read) -> None:
    for image in images:
        image.BitsStored, image.HighBit = 12, 11
    np.testing.assert_array_equal(read(images).voxels, body_phantom(SHAPE))  # signs may reach up to bit 15
    for signed in (0, 1):
        for image in images:
            image.PixelRepresentation = signed
            image.PixelData = np.full(SHAPE[1:], 6599, "<u2").tobytes()
        with pytest.raises(PixelError, match="beyond the 12 bits"):
            read(images)


@pytest.fixture(params=DECODING)
def decoding(request, monkeypatch) -> str:
    """One library after the other decodes."""
    if request.param == "pydicom":
        monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    elif request.param == "SimpleITK":
        monkeypatch.setattr(decoders, "find_spec", lambda name: sys if name == "SimpleITK" else None)
        monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    return request.param


@pytest.mark.parametrize(
    ("decoding", "syntax"),
    [  # pydicom's decoders take no lossless JPEG of 16 bits
        *((decoding, syntax) for decoding in DECODING for syntax in (JPEG2000Lossless, JPEGLSLossless)),
        *((decoding, JPEGLosslessSV1) for decoding in DECODING if decoding != "pydicom"),
    ],
    indirect=["decoding"],
)
@pytest.mark.parametrize(("signed", "beyond"), [(0, 4160), (1, -2049)])
def test_decoded_values_that_the_header_has_no_bits_for_are_not_cut(
    images, read, decoding, syntax: str, signed: int, beyond: int
) -> None:
    plane = np.full(SHAPE[1:], 100, "int16")
    for value, match in ((2047, None), (beyond, "beyond the 12 bits")):
        plane[3, 4] = value
        for image in images:
            image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, signed
            coded = plane if signed and syntax == JPEG2000Lossless else plane.view("uint16")
            _encapsulate(image, syntax, _encoded(coded, syntax))
        if match is None:
            np.testing.assert_array_equal(read(images).voxels[1], plane)
        else:
            with pytest.raises(PixelError, match=match):
                read(images)


def _ringing(signed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two values of 12 bits beside a sharp edge, and frames of them that swing beyond either end."""
    low, high = (-2048, 2047) if signed else (0, 4095)
    plane = np.full(SHAPE[1:], high, "int16" if signed else "uint16")
    plane[:, :14] = low
    swung = plane.copy()
    swung[:, 14] += 30
    if signed:
        swung[:, 13] -= 30
    return plane, swung


@pytest.mark.parametrize("signed", [0, 1])
def test_lossy_values_that_ring_beyond_the_range_are_its_ends(images, read, decoding, signed: int) -> None:
    """What was compressed lay within the range; of a lossless image the same values show that its header is wrong."""
    plane, swung = _ringing(signed)
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, signed
        _encapsulate(image, JPEG2000, _encoded(swung, JPEG2000Lossless))
    np.testing.assert_array_equal(read(images).voxels[1], plane)
    for image in images:
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    with pytest.raises(PixelError, match="beyond the 12 bits"):
        read(images)


def test_a_truly_lossy_jpeg_2000_frame_rings_and_is_read(images, read, decoding) -> None:
    plane, _ = _ringing(0)
    frame = bytes(imagecodecs.jpeg2k_encode(plane, level=70, codecformat="j2k", reversible=False, bitspersample=16))
    assert imagecodecs.jpeg2k_decode(frame).max() > 4095
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
        _encapsulate(image, JPEG2000, frame)
    voxels = read(images).voxels
    assert voxels.max() == 4095
    np.testing.assert_allclose(voxels[1], plane, atol=100)


def test_two_s_complements_without_a_sign_are_not_clipped(images, read) -> None:
    plane = np.full(SHAPE[1:], -100, "int16")
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 1
        _encapsulate(image, JPEGLSNearLossless, _encoded(plane.view("uint16"), JPEGLSLossless))
    np.testing.assert_array_equal(read(images).voxels[1], plane)


@pytest.mark.parametrize(
    ("decoding", "syntax"),
    [
        *((decoding, syntax) for decoding in DECODING for syntax in (JPEG2000Lossless, JPEGLSLossless)),
        *((decoding, JPEGLosslessSV1) for decoding in DECODING if decoding != "pydicom"),
    ],
    indirect=["decoding"],
)
@pytest.mark.parametrize("signed", [0, 1])
def test_old_overlays_beside_decoded_values_are_masked_out(images, read, decoding, syntax: str, signed: int) -> None:
    plane = np.random.default_rng(7).integers(-2048 if signed else 0, 2048, SHAPE[1:]).astype("int16")
    cells = plane.astype("uint16") & 0x0FFF
    cells[::2] |= 0x8000
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, signed
        image.add_new((0x6000, 0x0102), "US", 15)
        _encapsulate(image, syntax, _encoded(cells.view("int16") if _has_sign(syntax, signed) else cells, syntax))
    np.testing.assert_array_equal(read(images).voxels[1], plane)
    cells[1] |= 0x4000  # no overlay is announced there
    for image in images:
        _encapsulate(image, syntax, _encoded(cells.view("int16") if _has_sign(syntax, signed) else cells, syntax))
    with pytest.raises(PixelError, match="beyond the 12 bits"):
        read(images)


def _has_sign(syntax: str, signed: int) -> bool:
    return bool(signed) and syntax == JPEG2000Lossless


def test_old_overlays_in_lossy_pixels_are_refused(images, read) -> None:
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
        image.add_new((0x6000, 0x0102), "US", 15)
        _encapsulate(image, JPEG2000, _encoded(np.full(SHAPE[1:], 0x8123, "uint16"), JPEG2000Lossless))
    with pytest.raises(PixelError, match="lossy and has old overlays"):
        read(images)


@pytest.mark.parametrize(("coded_bits", "header_bits"), [(12, 12), (16, 12), (12, 16), (16, 16)])
def test_a_signed_jpeg_2000_frame_without_negative_values_is_read_as_an_unsigned_image(
    images, read, decoding, coded_bits: int, header_bits: int
) -> None:
    plane = np.random.default_rng(8).integers(0, 2048, SHAPE[1:]).astype("int16")
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = header_bits, header_bits - 1, 0
        _encapsulate(image, JPEG2000Lossless, _encoded(plane, JPEG2000Lossless, coded_bits))
    np.testing.assert_array_equal(read(images).voxels[1], plane)


@pytest.mark.parametrize(
    ("values", "coded_bits", "header_bits", "signed"),
    [("int16", 16, 16, 0), ("int16", 12, 12, 0), ("uint16", 16, 12, 1), ("uint16", 12, 16, 1)],
)
def test_jpeg_2000_of_another_sign_than_the_header_s_is_refused_where_readers_differ(
    images, read, decoding, values: str, coded_bits: int, header_bits: int, signed: int
) -> None:
    plane = np.full(SHAPE[1:], 100, values)
    plane[3, 4] = -800 if values == "int16" else 2200
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = header_bits, header_bits - 1, signed
        _encapsulate(image, JPEG2000Lossless, _encoded(plane, JPEG2000Lossless, coded_bits))
    with pytest.raises(PixelError, match=f"signed values of {coded_bits} bits.*readers differ"):
        read(images)


@pytest.mark.parametrize(("coded_bits", "header_bits"), [(12, 12), (16, 12), (12, 16)])
def test_signed_values_in_an_unsigned_jpeg_2000_frame_are_read_where_readers_agree(
    images, read, decoding, coded_bits: int, header_bits: int
) -> None:
    plane = np.full(SHAPE[1:], 100, "int16")
    if coded_bits >= header_bits:
        plane[3, 4] = -800
    for image in images:
        image.BitsStored, image.HighBit, image.PixelRepresentation = header_bits, header_bits - 1, 1
        coded = (plane.astype(int) & (1 << coded_bits) - 1).astype("uint16")
        _encapsulate(image, JPEG2000Lossless, _encoded(coded, JPEG2000Lossless, coded_bits))
    np.testing.assert_array_equal(read(images).voxels[1], plane)


@pytest.mark.parametrize("photometric", ["PALETTE COLOR", "RGB"])
def test_numbers_of_colours_are_no_values(images, read, photometric: str) -> None:
    images[1].PhotometricInterpretation = photometric
    with pytest.raises(PixelError, match="not a grey-value image"):
        read(images)


def test_a_slope_beyond_all_numbers_is_refused(images, read) -> None:
    images[1].RescaleSlope = "1e39"
    with pytest.raises(PixelError, match="beyond all numbers"):
        read(images)


def test_the_first_value_of_a_table_has_the_sign_of_the_pixels(images, read) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [5, 65534, 16], "HU"
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [100, 200, 300, 400, 500]
    item["LUTData"].VR = "US"
    for image in images:
        image.ModalityLUTSequence = [item]
        image.PixelData = np.array([-2, -1, 0, 1, 2, 3] * 112, "<i2").tobytes()
    np.testing.assert_array_equal(read(images).voxels[0].ravel()[:6], [100, 200, 300, 400, 500, 500])


def test_a_volume_larger_than_the_free_memory_is_refused(images, read, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "machine_memory", lambda: 1000)
    with pytest.raises(PixelError, match="are free"):
        read(images)


def test_files_that_claim_to_hold_far_more_than_images_can_are_refused(read, monkeypatch) -> None:
    images = make_series(body_phantom((9, 24, 28)))
    for image in images:
        image.Rows = image.Columns = 8192  # the frames may say so too: blank ones take next to nothing
        _encapsulate(image, JPEGLSLossless, bytes(100))
    monkeypatch.setattr(pixels, "machine_memory", lambda: 1 << 40)
    with pytest.raises(PixelError, match=r"[Ff]iles of 0\.0 MiB claim to hold a volume of 1\.1 GiB"):
        read(images)


def test_what_decoders_need_beside_the_volume_counts_too(images, read, monkeypatch) -> None:
    volume_bytes = body_phantom(SHAPE).nbytes
    monkeypatch.setattr(pixels, "machine_memory", lambda: volume_bytes + 100)
    read(images)
    for image in images:
        image.compress(RLELossless)
    with pytest.raises(PixelError, match="are free"):
        read(images)
