"""Whether a lossless JPEG frame (ITU-T T.81, SOF3) holds just the bits that its samples take.

The stream has no checksum, and decoders fill up what they cannot read without a word. But how many bits the samples
take follows from the samples: damage that lets a decoder lose its place leaves a stream of another length.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

_START_OF_FRAME, _HUFFMAN_TABLES, _RESTART_INTERVAL, _START_OF_SCAN = 0xC3, 0xC4, 0xDD, 0xDA
_FIRST_RESTART, _LAST_RESTART = 0xD0, 0xD7


@dataclass
class _Frame:
    """What the marker segments say; ``scan`` is where the first entropy-coded byte is."""

    precision: int = 0
    rows: int = 0
    columns: int = 0
    restart_interval: int = 0
    predictor: int = 0
    point_transform: int = 0
    code_lengths: bytes = b""
    scan: int = 0
    tables: dict[int, bytes] = field(default_factory=dict)


def refuse_other_length(encoded: bytes, cells: np.ndarray) -> None:
    """Raise if a frame does not hold as many bits as the samples that were decoded from it take.

    A stream of another kind than lossless JPEG of one component is not looked at. What no one can see is damage that
    leaves a stream of the same length, such as another bit within the difference of two samples.

    Parameters
    ----------
    cells
        (rows, columns), unsigned: the samples as they are coded, with the bits of a point transform.

    Raises
    ------
    ValueError
        Bits are missing or left over, or the restart markers are not those of the rows.
    """
    frame = _read_segments(encoded)
    if frame is None or cells.shape != (frame.rows, frame.columns):
        return
    rows = frame.restart_interval // frame.columns or frame.rows
    if frame.restart_interval % frame.columns:
        raise ValueError("a restart interval is no whole row")
    intervals = _intervals(encoded, frame.scan)
    bits = _bits_of_rows(frame, cells, rows)
    wanted = [int(bits[row : row + rows].sum()) for row in range(0, frame.rows, rows)]
    if len(intervals) != len(wanted):
        raise ValueError(f"{len(intervals)} restart intervals instead of {len(wanted)}")
    for interval, needed in zip(intervals, wanted, strict=True):
        last, unused = needed // 8, -needed % 8
        padding = int.from_bytes(interval[last : last + 1], "big") & (1 << unused) - 1
        further = interval[last + bool(unused) :]  # bytes of nothing do no harm
        if len(interval) * 8 < needed or padding not in (0, (1 << unused) - 1) or not set(further) <= {0, 255}:
            raise ValueError(f"{len(interval) * 8} bits where the samples take {needed}")


def _read_segments(data: bytes) -> _Frame | None:
    """Return what stands before the entropy-coded data; None if that is not lossless JPEG of one component."""
    frame, offset = _Frame(), 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a filling byte
            offset += 1
            continue
        (length,) = struct.unpack_from(">H", data, offset + 2)
        segment = data[offset + 4 : offset + 2 + length]
        offset += 2 + length
        if marker == _START_OF_FRAME:
            frame.precision, frame.rows, frame.columns, components = struct.unpack_from(">BHHB", segment)
            if components != 1:
                return None
        elif marker == _HUFFMAN_TABLES:
            _read_tables(segment, frame.tables)
        elif marker == _RESTART_INTERVAL:
            (frame.restart_interval,) = struct.unpack_from(">H", segment)
        elif marker == _START_OF_SCAN:
            _, _, table, frame.predictor, _, transform = struct.unpack_from("6B", segment)
            frame.point_transform, frame.scan = transform & 15, offset
            frame.code_lengths = frame.tables.get(table >> 4, b"")
            known = frame.rows > 0 and frame.columns > 0 and frame.precision > frame.point_transform
            return frame if known and frame.code_lengths and 1 <= frame.predictor <= 7 else None
    return None


def _read_tables(segment: bytes, tables: dict[int, bytes]) -> None:
    """Enter the code lengths by category, 17 bytes, of the tables of a DHT segment; 0 where a category has no code."""
    while len(segment) >= 17:
        counts = segment[1:17]
        lengths = [length for length, count in enumerate(counts, start=1) for _ in range(count)]
        by_category = bytearray(17)
        for category, length in zip(segment[17:], lengths, strict=False):
            if category <= 16:
                by_category[category] = length
        tables[segment[0] & 15] = bytes(by_category)
        segment = segment[17 + len(lengths) :]


def _intervals(data: bytes, start: int) -> list[bytes]:
    """Return the entropy-coded bytes of each restart interval, without those that are stuffed in."""
    found = []
    numbers = 0
    while True:
        at = start
        while (at := data.find(b"\xff", at)) >= 0 and data[at + 1 : at + 2] == b"\0":
            at += 2
        end = at if at >= 0 else len(data)
        found.append(data[start:end].replace(b"\xff\0", b"\xff"))
        while data[end : end + 2] == b"\xff\xff":  # filling bytes
            end += 1
        marker = data[end + 1] if end + 1 < len(data) else 0
        if not _FIRST_RESTART <= marker <= _LAST_RESTART:
            return found
        if marker != _FIRST_RESTART + numbers % 8:
            raise ValueError("the restart markers are not in order")
        numbers, start = numbers + 1, end + 2


def _bits_of_rows(frame: _Frame, cells: np.ndarray, interval_rows: int) -> np.ndarray:
    """Return how many bits the samples of each row take, (rows,)."""
    samples = cells.astype(np.uint16) >> np.uint16(frame.point_transform)
    predicted = np.empty_like(samples)
    predicted[1:, 1:] = _predictions(frame.predictor, samples)
    predicted[1:, 0] = samples[:-1, 0]
    firsts = slice(None, None, interval_rows)  # a first row is predicted from its left only
    predicted[firsts, 1:] = samples[firsts, :-1]
    predicted[firsts, 0] = 1 << (frame.precision - frame.point_transform - 1)
    differences = np.subtract(samples, predicted, out=predicted)  # modulo 65536, as they are coded
    return _bits_by_difference(frame.code_lengths)[differences].sum(axis=1, dtype=np.int64)


def _predictions(predictor: int, samples: np.ndarray) -> np.ndarray:
    """Return what the samples beside the first row and column are predicted to be, modulo 65536 (table H.1)."""
    wide = samples.astype(np.int32) if predictor > 4 else samples  # their halves have a bit more
    left, above, corner = wide[1:, :-1], wide[:-1, 1:], wide[:-1, :-1]
    rules: dict[int, Callable[[], np.ndarray]] = {
        1: lambda: left,
        2: lambda: above,
        3: lambda: corner,
        4: lambda: left + above - corner,
        5: lambda: left + (above - corner >> 1),
        6: lambda: above + (left - corner >> 1),
        7: lambda: left + above >> 1,
    }
    return rules[predictor]().astype(np.uint16)


@lru_cache(maxsize=8)
def _bits_by_difference(code_lengths: bytes) -> np.ndarray:
    """Return the bits that each difference takes, modulo 65536: its category's code, then its place there (H.1.2.2)."""
    magnitude = np.abs(np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32))
    categories = np.frexp(magnitude.astype(np.float32))[1]  # 0 of 0, 1 of 1, 2 of 2 and 3, ...
    further = np.where(categories == 16, 0, categories)  # there is one difference of that category
    return (np.frombuffer(code_lengths, np.uint8)[categories] + further).astype(np.uint8)
