"""Pixel data on disk to voxels: uncompressed cells straight into the volume, compressed frames decoded in parallel."""

import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import BridgeError, ConflictError, PixelError
from ..free_memory import machine_memory
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .decoders import Decoder, choose_decoder
from .dicom_file import file_state, raw_text, whole_number
from .pixel_format import PixelFormat, ValueRule
from .source_slice import SourceSlice

UNCOMPRESSED = "uncompressed"
_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED_LENGTH = 0xFFFFFFFF
# Of a volume beyond a gibibyte: images shrink to a tenth, seldom to a fiftieth; what claims more is to fill the memory.
_LARGEST_GROWTH, _SMALL_VOLUME_BYTES = 256, 1 << 30
_DECODING_BYTES = 8  # of each voxel that is being decoded: its cell, and what a decoder makes of it on the way


class _BeyondInt16(Exception):  # noqa: N818 - no failure: the volume is read once more, as float32
    """A value does not fit into int16."""


def read_voxels(
    slices: Sequence[SourceSlice],
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[np.ndarray, str]:
    """Return the voxels of slices of one size with their modality transformation applied, and the decoder's name.

    Returns
    -------
    voxels
        (k, j, i); int16 where all values are whole and fit, else float32. The only copy of the voxels; while they are
        read a few slices more are in memory.
    decoder
        ``"uncompressed"``, or what decoded the pixel data; several joined by commas.

    Raises
    ------
    PixelError
        Not single-channel images of 8 or 16 bits, pixel data missing, truncated or damaged, no decoder installed for
        its transfer syntax, or more voxels than this machine has memory for.
    BadDicomError
        An attribute that describes the pixels is not one whole number.
    ConflictError
        A file was changed after its header had been read.
    JobCancelled
        ``cancel`` was called.
    """
    coding_of = lru_cache(maxsize=None)(_Coding.of)  # of this one call: decoders may be installed before the next
    planes = [_Plane(k, piece, coding_of) for k, piece in enumerate(slices)]
    dtype = np.int16 if all(plane.rule.is_whole for plane in planes) else np.float32
    _check_memory(planes, np.dtype(dtype).itemsize)
    for path, of_path in _by_path(planes):
        _check_native_size(path, of_path)
    try:
        voxels = _filled(planes, np.dtype(dtype), progress, cancel)
    except _BeyondInt16:
        _check_memory(planes, 4)
        voxels = _filled(planes, np.dtype(np.float32), progress, cancel)
    return voxels, ", ".join(dict.fromkeys(plane.coding.decoder_name for plane in planes))


@dataclass(frozen=True)
class _Coding:
    """What a transfer syntax says about pixel data, and what decodes it; None where nothing has to."""

    syntax: str
    name: str
    is_little_endian: bool
    is_implicit_vr: bool
    decoder: Decoder | None

    @classmethod
    def of(cls, syntax: str) -> "_Coding":
        from pydicom.uid import UID

        uid = UID(syntax)
        if not uid.is_transfer_syntax:
            raise PixelError(f"the pixel data has the unknown transfer syntax {syntax}")
        decoder = choose_decoder(syntax) if uid.is_compressed else None
        return cls(syntax, uid.name, uid.is_little_endian, uid.is_implicit_VR, decoder)

    @property
    def decoder_name(self) -> str:
        return self.decoder.name if self.decoder else UNCOMPRESSED


class _Plane:
    """One slice of the volume, how it is stored and what its values mean."""

    def __init__(self, k: int, piece: SourceSlice, coding_of: Callable[[str], _Coding]) -> None:
        self.k, self.piece = k, piece
        self.uid = piece.sop_instance_uid
        self.form, self.rule = PixelFormat.of(piece.header), ValueRule.of(piece.header)
        try:
            self.coding = coding_of(raw_text(piece.header.file_meta, "TransferSyntaxUID"))
        except PixelError as error:
            raise PixelError(error.what, uid=self.uid, advice=error.advice) from error
        self.frame = (piece.frame_number or 1) - 1
        if piece.frame_number is None and whole_number(piece.header, "NumberOfFrames", 1) != 1:
            raise PixelError("the image is not a single frame", uid=self.uid)

    def write(self, cells: np.ndarray, voxels: np.ndarray) -> None:
        """Write a frame's cells, which may be changed, into its plane of the volume."""
        gives_low_bits = self.coding.decoder is not None and self.coding.decoder.low_bits
        if self.form.has_foreign_bits(cells, low_bits=gives_low_bits):
            raise self.form.beyond_bits(self.uid)
        stored = self.form.stored_values(cells, low_bits=gives_low_bits)
        if (
            voxels.dtype == np.int16
            and not self.rule.fits_int16(*self.form.value_range)
            and not self.rule.fits_int16(int(stored.min()), int(stored.max()))
        ):
            raise _BeyondInt16
        self.rule.write(stored, voxels)


def _filled(
    planes: list[_Plane], dtype: np.dtype, progress: ProgressCallback | None, cancel: CancelToken | None
) -> np.ndarray:
    form = planes[0].form
    voxels = np.empty((len(planes), form.rows, form.columns), dtype)
    workers = _workers()
    waiting: deque[Future[None]] = deque()
    done = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for task in _tasks(planes, voxels):
                check_cancel(cancel)
                waiting.append(pool.submit(task))
                while len(waiting) > 2 * workers or (waiting and waiting[0].done()):
                    waiting.popleft().result()
                    done += 1
                    report(progress, "read", done, len(planes), "slices")
            while waiting:
                check_cancel(cancel)
                waiting.popleft().result()
                done += 1
                report(progress, "read", done, len(planes), "slices")
        finally:
            for future in waiting:
                future.cancel()
    return voxels


def _tasks(planes: list[_Plane], voxels: np.ndarray) -> Iterator[Callable[[], None]]:
    """Yield what is to be done for each slice; encoded frames are read when their task is asked for."""
    for path, of_path in _by_path(planes):
        if of_path[0].coding.decoder is None:
            for plane in of_path:
                yield partial(_read_native, path, plane, voxels[plane.k])
            continue
        wanted = {plane.frame: plane for plane in of_path}
        for frame, encoded in enumerate(_encoded_frames(path, of_path[0])):
            if frame in wanted:
                plane = wanted.pop(frame)
                yield partial(_decode, plane, encoded, voxels[plane.k])
            elif frame >= of_path[0].piece.frame_count:
                raise PixelError(f"the pixel data holds more than {frame} frames", uid=of_path[0].uid)
            if not wanted and frame + 1 < of_path[0].piece.frame_count:
                break
        if wanted:
            raise PixelError(f"the pixel data lacks {len(wanted)} frames", uid=of_path[0].uid)


def _decode(plane: _Plane, encoded: bytes, voxels: np.ndarray) -> None:
    coding = plane.coding
    assert coding.decoder is not None  # noqa: S101 - only compressed planes come here
    cells = coding.decoder.cells(encoded, coding.syntax, plane.form, plane.uid)
    plane.write(cells if cells.flags.writeable else cells.copy(), voxels)


def _read_native(path: Path, plane: _Plane, voxels: np.ndarray) -> None:
    """Read a slice's cells; 16-bit cells go into the volume's own memory."""
    form = plane.form
    in_place = voxels.dtype == np.int16 and form.bits_allocated == 16
    cells = voxels.view(np.uint16) if in_place else np.empty((form.rows, form.columns), f"u{form.bits_allocated // 8}")
    with _opened(path, plane, buffering=0) as file:
        offset, _, vr = _find_pixel_data(file, plane)
        file.seek(offset + plane.frame * form.frame_bytes)
        view = memoryview(cells.data).cast("B")
        while view:
            count = file.readinto(view)
            if not count:
                raise PixelError("the pixel data is truncated", uid=plane.uid, advice="Retrieve the series again.")
            view = view[count:]
    if not plane.coding.is_little_endian and (form.bits_allocated == 16 or vr == b"OW"):
        if form.frame_bytes % 2:  # frames begin and end within a word
            raise PixelError("the image has an odd number of 8-bit values in big-endian words", uid=plane.uid)
        cells.reshape(-1).view(np.uint16).byteswap(inplace=True)  # the first of two values is the lower byte of a word
    plane.write(cells, voxels)


def _encoded_frames(path: Path, plane: _Plane) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    try:
        with _opened(path, plane) as file:
            offset, length, _ = _find_pixel_data(file, plane)
            if length != _UNDEFINED_LENGTH:
                raise ValueError("not encapsulated")
            file.seek(offset)
            yield from generate_frames(file, number_of_frames=plane.piece.frame_count)
    except BridgeError:
        raise
    except Exception as error:  # parsers raise nearly anything on damaged input
        raise PixelError(
            f"the pixel data ({plane.coding.name}) is damaged", uid=plane.uid, advice="Retrieve the series again."
        ) from error


@contextmanager
def _opened(path: Path, plane: _Plane, buffering: int = -1) -> Iterator[Any]:
    """Open a slice's file; refuse one that is not the one any more whose header was read."""
    try:
        file = path.open("rb", buffering)
    except OSError as error:
        raise PixelError(
            f"the file {path.name} cannot be opened: {error.strerror}", uid=plane.uid, advice="Load the series again."
        ) from error
    with file:
        if plane.piece.file_state not in (None, file_state(file.fileno())):
            raise ConflictError(
                f"the file {path.name} was changed after its header had been read",
                uid=plane.uid,
                advice="Load the series again.",
            )
        yield file


def _find_pixel_data(file: BinaryIO, plane: _Plane) -> tuple[int, int, bytes]:
    """Return offset, length and VR of the value of Pixel Data, which begins where the header ended."""
    start = plane.piece.pixel_offset
    file.seek(start)
    head = file.read(12)
    order = "<" if plane.coding.is_little_endian else ">"
    if len(head) < 12 or struct.unpack_from(f"{order}HH", head) != _PIXEL_DATA:
        raise PixelError("the image has no pixel data of 8 or 16 bits", uid=plane.uid)
    if plane.coding.is_implicit_vr:
        return start + 8, struct.unpack_from("<L", head, 4)[0], b"OW"
    if head[4:6] not in (b"OB", b"OW"):
        raise PixelError("the image has no pixel data of 8 or 16 bits", uid=plane.uid)
    return start + 12, struct.unpack_from(f"{order}L", head, 8)[0], head[4:6]


def _check_native_size(path: Path, planes: list[_Plane]) -> None:
    """Refuse uncompressed pixel data that is shorter than its header says, before memory is taken for it."""
    plane = planes[0]
    if plane.coding.decoder is not None:
        return
    expected = max(item.frame + 1 for item in planes) * plane.form.frame_bytes
    with _opened(path, plane) as file:
        offset, length, _ = _find_pixel_data(file, plane)
        present = os.fstat(file.fileno()).st_size - offset
    if length == _UNDEFINED_LENGTH:
        raise PixelError(f"the pixel data is compressed, although the header says {plane.coding.name}", uid=plane.uid)
    whole = plane.piece.frame_count * plane.form.frame_bytes
    # A byte pads odd lengths, and some writers leave a few more; a wrong size would leave a row or a column.
    if length - whole >= max(min(plane.form.rows, plane.form.columns) * plane.form.bits_allocated // 8, 2):
        raise PixelError(
            f"the pixel data has {length} bytes instead of {whole}: the header describes another image", uid=plane.uid
        )
    length = min(length, present)
    if length < expected:
        raise PixelError(
            f"the pixel data is truncated: {max(length, 0)} of {expected} bytes",
            uid=plane.uid,
            advice="Retrieve the series again.",
        )


def _check_memory(planes: list[_Plane], itemsize: int) -> None:
    slice_voxels = planes[0].form.rows * planes[0].form.columns
    needed = len(planes) * slice_voxels * itemsize
    is_compressed = any(plane.coding.decoder is not None for plane in planes)
    on_disk = sum((file_state(path) or (0, 0))[0] for path, _ in _by_path(planes))
    if is_compressed and needed > _SMALL_VOLUME_BYTES and needed > _LARGEST_GROWTH * on_disk:
        raise PixelError(
            f"files of {on_disk / 2**20:.1f} MiB claim to hold a volume of {needed / 2**30:.1f} GiB",
            uid=planes[0].uid,
            advice="No images shrink so far: retrieve the series again, or ask where it came from.",
        )
    if is_compressed:
        needed += min(_workers(), len(planes)) * slice_voxels * _DECODING_BYTES
    free = machine_memory()
    if free is not None and needed > free:
        raise PixelError(
            f"the volume would take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free", uid=planes[0].uid
        )


def _by_path(planes: list[_Plane]) -> Iterator[tuple[Path, list[_Plane]]]:
    paths: dict[Path, list[_Plane]] = {}
    for plane in planes:
        paths.setdefault(plane.piece.path, []).append(plane)
    yield from paths.items()


def _workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)
