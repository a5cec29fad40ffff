"""One instance on its way into the store: written piece by piece to a temporary file, and checked when it is whole."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import BadDicomError, DiskSpaceError
from .dataset_end import check_whole
from .dicom_file import is_uid
from .indexed_attributes import check_identity, read_attributes, scan_attributes
from .part10 import BIG_ENDIAN, build_part10_header

TEMPORARY = ".receiving-"
_HEAD_BYTES = 32768
_COMPARED_BYTES = 2**20
_NO_LIMIT = 2**63


class IncomingInstance:
    """An instance that is being received; one thread at a time.

    Only what has arrived so far is on disk, under a name that no reader looks at; nothing of it is kept in memory.

    Parameters
    ----------
    folder
        Where the temporary file is made.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        What the command says; the data set must say the same.
    study_uid
        Refuse instances of any other study.
    most_bytes
        Of the file.

    Attributes
    ----------
    byte_count
        Bytes of the file so far, its header among them.
    dataset_offset
        Where the data set begins in the file.

    Raises
    ------
    BadDicomError
        An invalid UID.
    DiskSpaceError
        The disk is full.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        study_uid: str | None = None,
        most_bytes: int = _NO_LIMIT,
    ) -> None:
        if not all(is_uid(uid) for uid in (sop_class_uid, sop_instance_uid, transfer_syntax_uid)):
            raise BadDicomError("an instance came with an invalid UID", advice="It was not stored.")
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid
        self._study_uid = study_uid
        self._most_bytes = most_bytes
        header = build_part10_header(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        self.dataset_offset = self.byte_count = len(header)
        self._head = bytearray(header)  # what has been read of the file's beginning, until it suffices
        self._scanned: tuple[dict[str, str], int] | None = None
        with self._disk():
            handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
            self.path = Path(name)
            self._file = os.fdopen(handle, "w+b", buffering=0)
            mark_as_in_use(handle)
            self._write_all(header)

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece of the encoded data set; raises DiskSpaceError."""
        self.byte_count += len(piece)
        if self.byte_count > self._most_bytes:
            self.discard()
            raise DiskSpaceError(
                "the instance is larger than what the quota, or the free space of the disk, leaves for it",
                uid=self.sop_instance_uid,
                advice="Free some space, or raise the quota.",
            )
        with self._disk():
            self._write_all(piece)
        if len(self._head) < _HEAD_BYTES:
            self._head += piece[: _HEAD_BYTES - len(self._head)]
            if len(self._head) == _HEAD_BYTES:  # while the rest is still coming
                self._scanned = scan_attributes(self._head, self.dataset_offset, self.transfer_syntax_uid)

    def read_attributes(self) -> dict[str, str]:
        """Return the indexed attributes of the data set, which has arrived as a whole.

        Raises
        ------
        BadDicomError
            It cannot be read, is cut off, or says something else than the command did.
        """
        uid = self.sop_instance_uid
        scanned = self._scanned or scan_attributes(self._head, self.dataset_offset, self.transfer_syntax_uid)
        if scanned is None:
            with self.path.open("rb") as file:
                file.seek(self.dataset_offset)
                scanned = read_attributes(file, self.transfer_syntax_uid, uid), self.dataset_offset
        attributes, walked_to = scanned
        check_identity(attributes, self.sop_class_uid, uid, self._study_uid)
        big_endian = self.transfer_syntax_uid == BIG_ENDIAN
        check_whole(self._file, self.byte_count, walked_to, big_endian=big_endian, uid=uid)
        return attributes

    def has_content_of(self, file: BinaryIO, dataset_offset: int) -> bool:
        """Return True if a file, from ``dataset_offset`` on, holds the same data set byte for byte."""
        file.seek(dataset_offset)
        with self.path.open("rb") as own:
            own.seek(self.dataset_offset)
            while piece := own.read(_COMPARED_BYTES):
                if file.read(len(piece)) != piece:
                    return False
        return not file.read(1)

    def make_durable(self) -> None:
        """Wait until the disk has all of it; any thread. Raises DiskSpaceError."""
        with self._disk():
            os.fsync(self._file.fileno())
            if os.name != "posix":  # an open file cannot be renamed there; elsewhere its lock protects it until then
                self._file.close()

    def discard(self) -> None:
        """Remove it, unless it has been renamed; may be called twice."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write_all(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn a full disk into DiskSpaceError; nothing half-written stays behind after any failure."""
        try:
            yield
        except OSError as error:
            if hasattr(self, "_file"):
                self.discard()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskSpaceError(
                    "the disk is full",
                    uid=self.sop_instance_uid,
                    advice="Free some space, or choose a folder on another disk.",
                ) from error
            raise


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and renames are journalled
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def mark_as_in_use(handle: int) -> None:
    """Lock a temporary file, so that another process that opens the store does not take it for a left-over."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)


def remove_if_abandoned(temporary: Path) -> None:
    """Remove a temporary file whose receiver is gone."""
    try:
        if os.name == "posix":
            import fcntl

            with temporary.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink(missing_ok=True)
    except OSError:  # locked, or on Windows open: another process is still receiving it
        logging.getLogger(__name__).info("%s is still being written", temporary.name)
