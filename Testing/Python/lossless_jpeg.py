"""A small encoder of lossless JPEG (ITU-T T.81 Annex H), with what other encoders here do not write."""

import struct

import numpy as np


def encode_lossless_jpeg(
    plane: np.ndarray, *, bits: int = 16, restart_rows: int = 0, point_transform: int = 0
) -> bytes:
    """Return (rows, columns) unsigned values as one scan with predictor 1.

    Parameters
    ----------
    restart_rows
        Rows between two restart markers; none for 0.
    point_transform
        How many of the lowest bits are left out.
    """
    values = plane.astype(int) >> point_transform
    step = restart_rows or len(values)
    predicted = np.roll(values, 1, axis=1)
    predicted[:, 0] = np.roll(values[:, 0], 1)
    predicted[::step, 0] = 1 << (bits - point_transform - 1)  # as if each were the first row
    differences = (values - predicted + 32767) % 65536 - 32767
    scan = b""
    for number, row in enumerate(range(0, len(values), step)):
        marker = bytes([0xFF, 0xD0 + (number - 1) % 8]) if number else b""
        scan += marker + _entropy_coded(differences[row : row + step].ravel())
    counts = bytes([0, 0, 0, 0, 17] + [0] * 11)  # 17 codes of 5 bits: the number of bits of a difference
    frame = struct.pack(">BHHB", bits, *values.shape, 1) + bytes([1, 0x11, 0])
    restart = _segment(0xDD, struct.pack(">H", restart_rows * values.shape[1])) if restart_rows else b""
    tables = _segment(0xC3, frame) + _segment(0xC4, bytes([0]) + counts + bytes(range(17))) + restart
    return b"\xff\xd8" + tables + _segment(0xDA, bytes([1, 1, 0, 1, 0, point_transform])) + scan + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _entropy_coded(differences: np.ndarray) -> bytes:
    text = ""
    for difference in differences.tolist():
        size = abs(difference).bit_length()
        text += f"{size:05b}"
        if 0 < size < 16:
            text += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
