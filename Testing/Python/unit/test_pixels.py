"""Stored values become voxels exactly, or the slice is refused."""

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, PixelError
from AIDicomBridgeLib.series.pixels import decode_slice
from pydicom import DataElement, Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from synthetic import body_phantom, make_series


@pytest.fixture
def image() -> Dataset:
    return make_series(body_phantom((3, 16, 20)))[1]


def test_whole_values_stay_int16(image: Dataset) -> None:
    image.RescaleSlope, image.RescaleIntercept = "2", "-10"
    stored = np.frombuffer(image.PixelData, "<i2").reshape(16, 20)

    decoded = decode_slice(image)

    assert decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded, stored * 2 - 10)


def test_fractional_rescale_gives_float32(image: Dataset) -> None:
    image.RescaleSlope, image.RescaleIntercept = "0.5", "1"
    stored = np.frombuffer(image.PixelData, "<i2").reshape(16, 20)

    decoded = decode_slice(image)

    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, stored * 0.5 + 1)


def test_unsigned_values_above_int16_are_not_wrapped(image: Dataset) -> None:
    values = np.arange(320, dtype="<u2").reshape(16, 20) + 60000
    image.PixelRepresentation, image.PixelData = 0, values.tobytes()
    np.testing.assert_array_equal(decode_slice(image), values.astype(np.float32))


def test_signed_values_of_fewer_bits_keep_their_sign(image: Dataset) -> None:
    values = np.full((16, 20), -5, "<i2")
    image.BitsStored, image.HighBit = 12, 11
    image.PixelData = (values.view("<u2") & 0x0FFF).tobytes()  # sign bit at bit 11, as PS3.5 8.1.1 has it
    np.testing.assert_array_equal(decode_slice(image), values)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression_gives_the_same_voxels(syntax: str) -> None:
    image = make_series(body_phantom((3, 64, 72)))[1]
    expected = decode_slice(image).copy()
    image.compress(syntax)
    np.testing.assert_array_equal(decode_slice(image), expected)


def test_truncated_pixel_data_is_refused(image: Dataset) -> None:
    image.PixelData = image.PixelData[:-2]
    with pytest.raises(PixelError, match="truncated") as caught:
        decode_slice(image)
    assert caught.value.uid == image.SOPInstanceUID


def test_damaged_compressed_data_is_refused(image: Dataset) -> None:
    from pydicom.encaps import encapsulate

    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = encapsulate([b"\xff\x4f\xff\x51 no image"])
    with pytest.raises(PixelError, match="JPEG 2000"):
        decode_slice(image)


@pytest.mark.parametrize(("keyword", "value"), [("SamplesPerPixel", 3), ("NumberOfFrames", 2), ("BitsAllocated", 32)])
def test_what_is_no_grey_value_slice_is_refused(image: Dataset, keyword: str, value: int) -> None:
    setattr(image, keyword, value)
    with pytest.raises(PixelError):
        decode_slice(image)


@pytest.mark.parametrize("keyword", ["SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation", "Rows"])
@pytest.mark.parametrize(("vr", "value"), [("IS", "a"), ("LO", "many"), ("US", [1, 2]), ("DS", "1.5")])
def test_a_damaged_description_of_the_pixels_is_refused_by_name(image, keyword, vr, value) -> None:
    image[keyword] = DataElement(image[keyword].tag, vr, value, already_converted=True)

    with pytest.raises(BadDicomError, match=keyword) as caught:
        decode_slice(image)
    assert caught.value.uid == image.SOPInstanceUID


@pytest.mark.filterwarnings("ignore:The value length")
def test_an_unknown_transfer_syntax_is_refused(image: Dataset) -> None:
    image.file_meta.TransferSyntaxUID = "1.2.3.4"
    with pytest.raises(PixelError, match=r"1\.2\.3\.4"):
        decode_slice(image)


def test_pixel_data_that_is_no_bytes_is_refused(image: Dataset) -> None:
    image["PixelData"] = DataElement(image["PixelData"].tag, "US", [1, 2], already_converted=True)
    with pytest.raises(PixelError, match="no pixel data"):
        decode_slice(image)
