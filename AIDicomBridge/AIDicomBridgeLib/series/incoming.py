"""One instance on its way into the store: written piece by piece to a temporary file, and checked when it is whole."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BadDicomError, DiskSpaceError
from .attribute_text import attribute_texts
from .dicom_file import is_uid
from .header_scan import scan_header
from .indexed_attributes import INDEXED_ATTRIBUTES, check_identity, content_digest, read_attributes
from .part10 import build_part10_header

TEMPORARY = ".receiving-"
_HEAD_BYTES = 32768


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

    Attributes
    ----------
    byte_count
        Bytes of the file so far, its header among them.

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
    ) -> None:
        if not all(is_uid(uid) for uid in (sop_class_uid, sop_instance_uid, transfer_syntax_uid)):
            raise BadDicomError("an instance came with an invalid UID", advice="It was not stored.")
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid
        self._study_uid = study_uid
        self._digest = content_digest(transfer_syntax_uid)
        header = build_part10_header(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        self._header_bytes = self.byte_count = len(header)
        with self._disk():
            handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
            self.path = Path(name)
            self._file = os.fdopen(handle, "w+b", buffering=0)
            mark_as_in_use(handle)
            self._write_all(header)

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece of the encoded data set; raises DiskSpaceError."""
        with self._disk():
            self._write_all(piece)
        self._digest.update(piece)
        self.byte_count += len(piece)

    def read_attributes(self) -> dict[str, str]:
        """Return the indexed attributes of the whole data set.

        Raises
        ------
        BadDicomError
            It cannot be read, or says something else than the command did.
        """
        with self.path.open("rb") as file:
            attributes = _attributes_at_once(file.read(_HEAD_BYTES))
            if attributes is None:
                file.seek(self._header_bytes)
                attributes = read_attributes(file, self.transfer_syntax_uid, self.sop_instance_uid)
        check_identity(attributes, self.sop_class_uid, self.sop_instance_uid, self._study_uid)
        return attributes

    @property
    def digest(self) -> str:
        """The digest of what has been written."""
        return self._digest.hexdigest()

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


def _attributes_at_once(head: bytes) -> dict[str, str] | None:
    """Return the indexed attributes of an ordinary file; None where the general parser has to read it."""
    scanned = scan_header(head)
    if scanned is None:
        return None
    try:
        return attribute_texts(scanned[0], INDEXED_ATTRIBUTES)
    except Exception:  # noqa: BLE001 - the general parser then names what is wrong
        return None


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
