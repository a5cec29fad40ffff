"""Received instances on disk, byte for byte as they came, with an index that survives a crash."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import BadDicomError, ConflictError, FolderError
from .arrivals import Arrived, CommitQueue, StoredInstance, stored_instance, sync_all
from .disk_limits import FREE_FLOOR_BYTES, DiskLimits
from .incoming import IncomingInstance, sync_folder
from .instance_index import InstanceIndex, reconcile
from .part10 import parse_part10_header

_HEAD_BYTES = 65536
_LOOK_SECONDS = 0.02


class InstanceStore:
    """A folder of instances; any thread may use it.

    Files are named by hashes of their UIDs, so that nothing a peer sends becomes part of a path. A file appears
    under its name only when it is complete on disk.

    Parameters
    ----------
    folder
        Made if missing, readable by its owner only.
    quota_bytes
        Most that all instances together may take; None for no limit.
    free_floor_bytes
        What must stay free on the disk.

    Raises
    ------
    FolderError
        The folder cannot be made or written to, or its index cannot be used.
    """

    def __init__(
        self, folder: Path | str, *, quota_bytes: int | None = None, free_floor_bytes: int = FREE_FLOOR_BYTES
    ) -> None:
        self.folder = Path(folder)
        self._files = self.folder / "instances"
        self._limits = DiskLimits(self.folder, quota_bytes, free_floor_bytes)
        self._lock = threading.RLock()
        self._arriving: dict[str, Arrived] = {}  # kept, but not in the index yet
        self._commits = CommitQueue(self._commit)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files.mkdir(mode=0o700, exist_ok=True)
            self._index = InstanceIndex(self.folder / "index.sqlite")
            try:
                reconcile(self._index, self._files)
            except BaseException:
                self._index.close()
                raise
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise FolderError(
                f"the folder {self.folder} cannot hold instances: {reason}",
                advice="Choose a folder that you may write to.",
            ) from error

    def __enter__(self) -> "InstanceStore":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index; the store cannot be used afterwards."""
        with suppress(Exception):  # what could not be made durable was reported to whoever waited for it
            self._commits.finish()
        with self._lock:
            self._index.close()

    def add_encoded(
        self,
        dataset_bytes: bytes,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        study_uid: str | None = None,
    ) -> StoredInstance:
        """Store an encoded data set as it came from the network.

        Parameters
        ----------
        dataset_bytes
            The data set without file meta information, encoded in ``transfer_syntax_uid``.
        sop_class_uid, sop_instance_uid
            What the command (or the file meta information) says; the data set must say the same.
        study_uid
            Refuse instances of any other study.

        Returns
        -------
        StoredInstance
            The new instance, or the one that was there already with the same content.

        Raises
        ------
        BadDicomError
            An invalid UID, an unreadable or deflated data set, or one that contradicts the command.
        ConflictError
            The store holds other content under the same SOP Instance UID.
        DiskSpaceError
            The quota or the free floor would be crossed, or the disk is full.
        """
        incoming = self.receiving(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            study_uid=study_uid,
            expected_bytes=len(dataset_bytes),
        )
        try:
            incoming.write(dataset_bytes)
            return self.keep(incoming)
        finally:
            incoming.discard()

    def receiving(
        self,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        study_uid: str | None = None,
        expected_bytes: int = 0,
    ) -> IncomingInstance:
        """Begin to receive an instance piece by piece; then :meth:`keep` it, or discard it.

        Parameters
        ----------
        expected_bytes
            Its size as far as that is known.

        Raises
        ------
        BadDicomError
            An invalid UID.
        DiskSpaceError
            The quota or the free floor would be crossed, or the disk is full.
        """
        with self._lock:
            left = self._limits.check(self._used_bytes(), expected_bytes)
        return IncomingInstance(
            self._files,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            study_uid=study_uid,
            most_bytes=left,
        )

    def keep(self, incoming: IncomingInstance, *, durable: bool = True) -> StoredInstance:
        """Put an instance that has been received into the store; see :meth:`add_encoded` for what it raises.

        Parameters
        ----------
        durable
            Return only when it is safe on disk. Otherwise it becomes safe, and part of the store, together with others
            soon after, at the latest with :meth:`sync`; until then a crash loses it as a whole.
        """
        try:
            stored = stored_instance(self._files, incoming.read_attributes(), incoming.transfer_syntax_uid)
            arrived = Arrived(incoming, stored, incoming.byte_count)
            first = self._enter(arrived)
            if first is not None:
                incoming.discard()
                return first
        except BaseException:
            incoming.discard()
            raise
        if durable:
            self._commit([arrived])
        else:
            self._commits.put(arrived)
        return stored

    def _enter(self, arrived: Arrived) -> StoredInstance | None:
        """Enter an instance into those that are arriving, or return the one that was there first, if it is equal."""
        uid = arrived.stored.sop_instance_uid
        while True:
            with self._lock:
                first = self._arriving.get(uid)
                if first is None:
                    present = self._present(uid)
                    if present is None:
                        self._limits.check(self._used_bytes() + arrived.byte_count)
                        self._arriving[uid] = arrived
                    elif not _same_content(arrived.incoming, present):
                        raise _conflict(uid)
                    return present
            self._commits.finish()
            first.settled.wait(_LOOK_SECONDS)  # it may be between its entry and the queue

    def sync(self) -> None:
        """Wait until everything that was kept is safe on disk and part of the store; raises DiskSpaceError."""
        self._commits.finish()

    def add_file(self, path_or_bytes: Path | str | bytes, *, study_uid: str | None = None) -> StoredInstance:
        """Store a DICOM Part 10 file, given as a path or as its bytes; raises what :meth:`add_encoded` raises."""
        if isinstance(path_or_bytes, bytes):
            data = path_or_bytes
        else:
            try:
                data = Path(path_or_bytes).read_bytes()
            except OSError as error:
                raise BadDicomError(f"the file {Path(path_or_bytes).name} cannot be read: {error.strerror}") from error
        header = parse_part10_header(data)
        return self.add_encoded(
            data[header.dataset_offset :],
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            study_uid=study_uid,
        )

    def instances(self, study_uid: str | None = None, series_uid: str | None = None) -> list[StoredInstance]:
        """Return what the store holds, in order of arrival; of one study or series where given."""
        with self._lock:
            return self._index.find(study_uid, series_uid)

    def get(self, sop_instance_uid: str) -> StoredInstance | None:
        """Return one instance, or None if the store does not hold it."""
        with self._lock:
            return self._index.get(sop_instance_uid)

    def __contains__(self, sop_instance_uid: object) -> bool:
        return isinstance(sop_instance_uid, str) and self.get(sop_instance_uid) is not None

    def __len__(self) -> int:
        with self._lock:
            return len(self._index)

    def __iter__(self) -> Iterator[StoredInstance]:
        return iter(self.instances())

    def _used_bytes(self) -> int:
        if not self._limits.has_quota:
            return 0
        return self._index.byte_count() + sum(arrived.byte_count for arrived in self._arriving.values())

    def _present(self, sop_instance_uid: str) -> StoredInstance | None:
        stored = self._index.get(sop_instance_uid)
        return stored if stored is not None and stored.path.exists() else None  # somebody may have deleted the file

    def _commit(self, batch: Sequence[Arrived]) -> None:
        """Make instances safe on disk, then give them their names and enter them into the index: all or none.

        One that another process has stored meanwhile is left out: it is equal, or a ConflictError when the others are
        safe.
        """
        named: list[Path] = []
        conflicts: list[str] = []
        try:
            sync_all([arrived.incoming for arrived in batch])
            with self._lock, self._index.writing() as insert:
                try:
                    new = []
                    for arrived in batch:
                        present = self._present(arrived.stored.sop_instance_uid)
                        if present is None:
                            _rename(arrived.incoming.path, arrived.stored.path)
                            named.append(arrived.stored.path)
                            new.append((arrived.stored, arrived.byte_count))
                        elif not _same_content(arrived.incoming, present):
                            conflicts.append(present.sop_instance_uid)
                    for folder in {path.parent for path in named}:
                        sync_folder(folder)
                    insert(new)
                except BaseException:
                    for path in named:
                        path.unlink(missing_ok=True)
                    raise
        finally:
            with self._lock:
                for arrived in batch:
                    self._arriving.pop(arrived.stored.sop_instance_uid, None)
                    arrived.incoming.discard()
                    arrived.settled.set()
        if conflicts:
            raise _conflict(conflicts[0])


def _same_content(incoming: IncomingInstance, present: StoredInstance) -> bool:
    """Return True if an instance is equal to one in the store, in its encoding too."""
    if incoming.transfer_syntax_uid != present.transfer_syntax_uid:
        return False
    with present.path.open("rb") as file:
        header = parse_part10_header(file.read(_HEAD_BYTES))
        return incoming.has_content_of(file, header.dataset_offset)


def _conflict(uid: str) -> ConflictError:
    return ConflictError(
        "another instance with the same SOP Instance UID but other content is already stored",
        uid=uid,
        advice="The first one was kept.",
    )


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)  # noqa: PTH105 - once per instance received
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.replace(path)
