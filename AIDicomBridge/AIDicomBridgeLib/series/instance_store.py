"""Received instances on disk, byte for byte as they came, with an index that survives a crash."""

import hashlib
import json
import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from ..errors import BadDicomError, ConflictError, DiskSpaceError, FolderError
from .arrivals import Arrived, CommitQueue, StoredInstance, sync_all
from .incoming import TEMPORARY, IncomingInstance, remove_if_abandoned, sync_folder
from .indexed_attributes import check_identity, content_digest, read_attributes
from .part10 import parse_part10_header

_FREE_FLOOR_BYTES = 512 * 2**20
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS instances (
        sop_instance_uid TEXT PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
        sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL, path TEXT NOT NULL UNIQUE,
        byte_count INTEGER NOT NULL, sha256 TEXT NOT NULL, attributes TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS by_series ON instances (study_uid, series_uid);
"""
_COLUMNS = "study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, path, attributes"
_log = logging.getLogger(__name__)


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
        self, folder: Path | str, *, quota_bytes: int | None = None, free_floor_bytes: int = _FREE_FLOOR_BYTES
    ) -> None:
        self.folder = Path(folder)
        self._files = self.folder / "instances"
        self._quota_bytes = quota_bytes
        self._free_floor_bytes = free_floor_bytes
        self._lock = threading.RLock()
        self._arriving: dict[str, Arrived] = {}  # kept, but not in the index yet
        self._commits = CommitQueue(self._commit)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files.mkdir(mode=0o700, exist_ok=True)
            self._index = _open_index(self.folder / "index.sqlite")
            try:
                self._reconcile()
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
            self._check_space(expected_bytes)
        return IncomingInstance(
            self._files,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            study_uid=study_uid,
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
            attributes = incoming.read_attributes()
            with self._lock:
                present = self._same_content(incoming.sop_instance_uid, incoming.digest)
                if present:
                    incoming.discard()
                    return present
                self._check_space(0, received_bytes=incoming.byte_count)
                stored = self._described(attributes, incoming.transfer_syntax_uid)
                arrived = Arrived(incoming, stored, incoming.digest, incoming.byte_count)
                self._arriving[incoming.sop_instance_uid] = arrived
        except BaseException:
            incoming.discard()
            raise
        if durable:
            self._commit([arrived])
        else:
            self._commits.put(arrived)
        return arrived.stored

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
        conditions = {"study_uid": study_uid, "series_uid": series_uid}
        given = {name: uid for name, uid in conditions.items() if uid is not None}
        where = " WHERE " + " AND ".join(f"{name} = ?" for name in given) if given else ""
        with self._lock:
            rows = self._index.execute(
                f"SELECT {_COLUMNS} FROM instances{where} ORDER BY rowid",  # noqa: S608 - column names only
                tuple(given.values()),
            ).fetchall()
        return [self._stored(row) for row in rows]

    def get(self, sop_instance_uid: str) -> StoredInstance | None:
        """Return one instance, or None if the store does not hold it."""
        with self._lock:
            row = self._index.execute(
                f"SELECT {_COLUMNS} FROM instances WHERE sop_instance_uid = ?",  # noqa: S608
                (sop_instance_uid,),
            ).fetchone()
        return self._stored(row) if row else None

    def __contains__(self, sop_instance_uid: object) -> bool:
        return isinstance(sop_instance_uid, str) and self.get(sop_instance_uid) is not None

    def __len__(self) -> int:
        with self._lock:
            return int(self._index.execute("SELECT COUNT(*) FROM instances").fetchone()[0])

    def __iter__(self) -> Iterator[StoredInstance]:
        return iter(self.instances())

    def _stored(self, row: tuple[str, str, str, str, str, str, str]) -> StoredInstance:
        *uids, path, attributes = row
        study, series, instance, sop_class, syntax = uids
        return StoredInstance(
            study, series, instance, sop_class, syntax, self.folder / path, MappingProxyType(json.loads(attributes))
        )

    def _path_of(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> Path:
        """Return the only path under which an instance may lie: one folder per study and per series."""
        study, series, instance = (
            hashlib.sha256(uid.encode("ascii")).hexdigest() for uid in (study_uid, series_uid, sop_instance_uid)
        )
        return self._files / study[:16] / series[:16] / f"{instance[:32]}.dcm"

    def _same_content(self, sop_instance_uid: str, digest: str) -> StoredInstance | None:
        arriving = self._arriving.get(sop_instance_uid)
        row = self._index.execute(
            "SELECT sha256 FROM instances WHERE sop_instance_uid = ?", (sop_instance_uid,)
        ).fetchone()
        if row is None and arriving is None:
            return None
        if (arriving.digest if arriving else row[0]) != digest:
            raise ConflictError(
                "another instance with the same SOP Instance UID but other content is already stored",
                uid=sop_instance_uid,
                advice="The first one was kept.",
            )
        return arriving.stored if arriving else self.get(sop_instance_uid)

    def _check_space(self, byte_count: int, *, received_bytes: int = 0) -> None:
        """Refuse what would cross a limit: bytes still to be written, and those not in the index yet."""
        if self._quota_bytes is not None:
            used = self._index.execute("SELECT COALESCE(SUM(byte_count), 0) FROM instances").fetchone()[0]
            used += sum(arrived.byte_count for arrived in self._arriving.values())
            if used + byte_count + received_bytes > self._quota_bytes:
                raise DiskSpaceError(
                    f"the folder's quota of {self._quota_bytes / 2**20:.0f} MiB would be exceeded",
                    advice="Remove studies that are no longer needed, or raise the quota.",
                )
        free = shutil.disk_usage(self.folder).free
        if free - byte_count < self._free_floor_bytes:
            raise DiskSpaceError(
                f"only {free / 2**20:.0f} MiB are free where the instances are stored, and"
                f" {self._free_floor_bytes / 2**20:.0f} MiB must stay free",
                advice="Free some space, or choose a folder on another disk.",
            )

    def _described(self, attributes: dict[str, str], transfer_syntax_uid: str) -> StoredInstance:
        study, series, instance = (
            attributes[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        )
        return StoredInstance(
            study,
            series,
            instance,
            attributes["SOPClassUID"],
            transfer_syntax_uid,
            self._path_of(study, series, instance),
            MappingProxyType(attributes),
        )

    def _commit(self, batch: Sequence[Arrived]) -> None:
        """Make instances safe on disk, then give them their names, then enter them into the index: all or none."""
        named: list[Path] = []
        try:
            sync_all([arrived.incoming for arrived in batch])
            with self._lock:
                for arrived in batch:
                    path = arrived.stored.path
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    arrived.incoming.path.replace(path)
                    named.append(path)
                for folder in {path.parent for path in named}:
                    sync_folder(folder)
                self._insert([(arrived.stored, arrived.byte_count, arrived.digest) for arrived in batch])
        except BaseException as error:
            for path in named:
                path.unlink(missing_ok=True)
            if isinstance(error, sqlite3.OperationalError):
                uid = batch[0].stored.sop_instance_uid
                raise DiskSpaceError("the index of the stored instances cannot be written", uid=uid) from error
            raise
        finally:
            with self._lock:
                for arrived in batch:
                    self._arriving.pop(arrived.stored.sop_instance_uid, None)
                    arrived.incoming.discard()

    def _insert(self, rows: Iterable[tuple[StoredInstance, int, str]]) -> None:
        with self._index:
            self._index.executemany(
                "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(stored.sop_instance_uid, stored.study_uid, stored.series_uid),
                        *(stored.sop_class_uid, stored.transfer_syntax_uid),
                        *(stored.path.relative_to(self.folder).as_posix(), byte_count, digest),
                        json.dumps(dict(stored.attributes)),
                    )
                    for stored, byte_count, digest in rows
                ],
            )

    def _reconcile(self) -> None:
        """Make index and files agree again after a crash."""
        for temporary in self._files.glob(f"{TEMPORARY}*"):
            remove_if_abandoned(temporary)
        with self._lock:
            indexed = {row[0] for row in self._index.execute("SELECT path FROM instances")}
            found = {path.relative_to(self.folder).as_posix(): path for path in self._files.glob("*/*/*.dcm")}
            with self._index:
                self._index.executemany(
                    "DELETE FROM instances WHERE path = ?", [(path,) for path in indexed - found.keys()]
                )
            for relative in sorted(found.keys() - indexed):
                self._index_file(found[relative])

    def _index_file(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            header = parse_part10_header(data)
            dataset_bytes = data[header.dataset_offset :]
            attributes = read_attributes(dataset_bytes, header.transfer_syntax_uid, header.sop_instance_uid)
            check_identity(attributes, header.sop_class_uid, header.sop_instance_uid, None)
            stored = self._described(attributes, header.transfer_syntax_uid)
            if stored.path != path:
                raise BadDicomError("the file's name does not belong to its UIDs")
        except BadDicomError as error:
            _log.warning("%s is left out of the index: %s", path.name, error)
            return
        digest = content_digest(header.transfer_syntax_uid)
        digest.update(dataset_bytes)
        self._insert([(stored, len(data), digest.hexdigest())])


def _open_index(path: Path) -> sqlite3.Connection:
    """Open the index; a damaged one is removed, since the files themselves can rebuild it."""
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        _log.warning("the index %s is damaged and is rebuilt from the files", path.name)
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A row lost in a power cut is found again from its file, so a sync per row would buy nothing.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
        # A damaged page would show only when it is read; 0.16 s for 100 000 instances.
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the index is damaged")
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection
