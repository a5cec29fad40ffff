"""Lossless JPEG of any encoder is read exactly, and damage that a decoder would fill up without a word is refused."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import PixelError
from AIDicomBridgeLib.series.decoders import choose_decoder
from AIDicomBridgeLib.series.pixel_format import PixelFormat
from AIDicomBridgeLib.series.volume import read_volume
from lossless_jpeg import encode_lossless_jpeg
from peers import require_program
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless, JPEGLosslessSV1
from synthetic import body_phantom

imagecodecs = pytest.importorskip("imagecodecs")
SHAPE = (3, 24, 28)
SMOOTH = np.add.outer(np.arange(128), np.arange(160)) * 3 + np.random.default_rng(0).integers(0, 60, (128, 160))
FORM = PixelFormat(128, 160, 16, 16, 15, signed=False)


def decode(frame: bytes) -> np.ndarray:
    return choose_decoder(JPEGLossless).cells(frame, JPEGLossless, FORM, "1.2.3")


@pytest.mark.parametrize(
    "options", [{}, {"restart_rows": 1}, {"restart_rows": 5}, {"point_transform": 2}, {"bits": 12}]
)
def test_what_other_encoders_write_is_read_exactly(images, read, options: dict) -> None:
    values = np.random.default_rng(5).integers(0, 4096, SHAPE) & -4
    for image, plane in zip(images, values, strict=True):
        image.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        image.PixelData = encapsulate([encode_lossless_jpeg(plane, **options)])
        image["PixelData"].VR = "OB"
        image.PixelRepresentation, image.BitsStored, image.HighBit = 0, 12, 11
    np.testing.assert_array_equal(read(images).voxels, values)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_predictor_is_followed(images, read, tmp_path: Path, predictor: int) -> None:
    """In what libjpeg-turbo writes, and in what DCMTK does."""
    frame = imagecodecs.jpeg8_encode(SMOOTH.astype(np.uint16), lossless=True, predictor=predictor, bitspersample=16)
    np.testing.assert_array_equal(decode(frame), SMOOTH)
    paths = read(images).source.paths
    program = require_program("dcmcjpeg")
    for path in paths:
        subprocess.run([program, "+el", "+sv", str(predictor), path, tmp_path / path.name], check=True)
    volume = read_volume([tmp_path / path.name for path in paths])
    assert volume.decoder == "imagecodecs (jpeg8_decode)"
    np.testing.assert_array_equal(volume.voxels, body_phantom(SHAPE))


def _blank(data: bytearray, at: int) -> None:
    data[at : at + 300] = bytes(300)


def _drop(data: bytearray, at: int) -> None:
    del data[at : at + 300]


@pytest.mark.parametrize("restart_rows", [0, 16])
@pytest.mark.parametrize("damage", [_blank, _drop])
def test_lost_blocks_are_seen(damage, restart_rows: int) -> None:
    frame = encode_lossless_jpeg(SMOOTH, restart_rows=restart_rows)
    np.testing.assert_array_equal(decode(frame), SMOOTH)
    for at in np.random.default_rng(7).integers(600, len(frame) - 700, 20):
        damaged = bytearray(frame)
        damage(damaged, int(at))
        with pytest.raises(PixelError, match=r"damaged|cannot be decoded"):
            decode(bytes(damaged))


def test_restart_markers_must_be_those_of_the_rows() -> None:
    frame = encode_lossless_jpeg(SMOOTH, restart_rows=16)
    first, second = frame.index(b"\xff\xd0"), frame.index(b"\xff\xd1")
    without_one = frame[:first] + frame[second:]
    exchanged = frame[:first] + b"\xff\xd1" + frame[first + 2 : second] + b"\xff\xd0" + frame[second + 2 :]
    for damaged in (without_one, exchanged):
        with pytest.raises(PixelError, match=r"damaged|cannot be decoded"):
            decode(damaged)


def test_padding_at_the_end_does_no_harm() -> None:
    frame = encode_lossless_jpeg(SMOOTH)
    np.testing.assert_array_equal(decode(frame[:-2] + bytes(3) + frame[-2:]), SMOOTH)
