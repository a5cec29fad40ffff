"""The index of an instance store: which instances there are, in SQLite, so that it survives a crash."""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from ..errors import BadDicomError, DiskSpaceError
from .arrivals import StoredInstance, stored_instance
from .incoming import TEMPORARY, remove_if_abandoned
from .indexed_attributes import check_identity, read_attributes
from .part10 import parse_part10_header

_VERSION = 2  # of the table; an index of another version is made anew from the files
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS instances (
        sop_instance_uid TEXT PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
        sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL, path TEXT NOT NULL UNIQUE,
        byte_count INTEGER NOT NULL, attributes TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS by_series ON instances (study_uid, series_uid);
"""
_COLUMNS = "study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, path, attributes"
_HEAD_BYTES = 65536
_BUSY_S = 30.0  # so long another process may hold the index
_log = logging.getLogger(__name__)


class InstanceIndex:
    """The rows of one store. One thread at a time; several processes may have it open.

    Parameters
    ----------
    path
        The database; made if missing, readable by its owner only. A damaged one is removed: whoever opens it enters the
        files again.

    Raises
    ------
    OSError, sqlite3.Error
        It can neither be opened nor made.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._connection = _open(path)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextmanager
    def writing(self) -> "Iterator[Callable[[Iterable[tuple[StoredInstance, int]]], None]]":
        """Keep every other writer out, in this and in other processes, for the length of a ``with`` block.

        Gives the function that enters instances, each with the bytes of its file. A block that fails changes nothing.

        Raises
        ------
        DiskSpaceError
            The database cannot be written.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._insert
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise DiskSpaceError("the index of the stored instances cannot be written") from error

    def _insert(self, instances: Iterable[tuple[StoredInstance, int]]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(stored.sop_instance_uid, stored.study_uid, stored.series_uid),
                    *(stored.sop_class_uid, stored.transfer_syntax_uid),
                    *(self.relative(stored.path), byte_count, json.dumps(dict(stored.attributes))),
                )
                for stored, byte_count in instances
            ],
        )

    def remove_paths(self, paths: Iterable[str]) -> None:
        """Forget the instances whose files, relative to the store's folder, are gone; within :meth:`writing`."""
        self._connection.executemany("DELETE FROM instances WHERE path = ?", [(path,) for path in paths])

    def relative(self, path: Path) -> str:
        """Return a file's path as the index knows it."""
        return path.relative_to(self._folder).as_posix()

    def paths(self) -> set[str]:
        """Return the path of every instance, relative to the store's folder."""
        return {row[0] for row in self._connection.execute("SELECT path FROM instances")}

    def byte_count(self) -> int:
        """Return the bytes of all files together."""
        return int(self._connection.execute("SELECT COALESCE(SUM(byte_count), 0) FROM instances").fetchone()[0])

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM instances").fetchone()[0])

    def get(self, sop_instance_uid: str) -> StoredInstance | None:
        """Return one instance, or None."""
        rows = self._select(" WHERE sop_instance_uid = ?", (sop_instance_uid,))
        return rows[0] if rows else None

    def find(self, study_uid: str | None, series_uid: str | None) -> list[StoredInstance]:
        """Return the instances in order of arrival, of one study or series where given."""
        conditions = {"study_uid": study_uid, "series_uid": series_uid}
        given = {name: uid for name, uid in conditions.items() if uid is not None}
        where = " WHERE " + " AND ".join(f"{name} = ?" for name in given) if given else ""
        return self._select(f"{where} ORDER BY rowid", tuple(given.values()))

    def _select(self, condition: str, values: Sequence[str]) -> list[StoredInstance]:
        query = f"SELECT {_COLUMNS} FROM instances{condition}"  # noqa: S608 - column names only
        return [self._stored(row) for row in self._connection.execute(query, values).fetchall()]

    def _stored(self, row: tuple[str, str, str, str, str, str, str]) -> StoredInstance:
        study, series, instance, sop_class, syntax, path, attributes = row
        return StoredInstance(
            study, series, instance, sop_class, syntax, self._folder / path, MappingProxyType(json.loads(attributes))
        )


def reconcile(index: InstanceIndex, files: Path) -> None:
    """Make an index agree with the files of its store, below the folder ``files``, after a crash."""
    for temporary in files.glob(f"{TEMPORARY}*"):
        remove_if_abandoned(temporary)
    with index.writing() as insert:  # no other process is between a file's name and its row
        indexed = index.paths()
        found = {index.relative(path): path for path in files.glob("*/*/*.dcm")}
        index.remove_paths(indexed - found.keys())
        for relative in sorted(found.keys() - indexed):
            path = found[relative]
            try:
                insert([(_read_stored(path, files), path.stat().st_size)])
            except BadDicomError as error:
                _log.warning("%s is left out of the index: %s", path.name, error)


def _read_stored(path: Path, files: Path) -> StoredInstance:
    with path.open("rb") as file:
        header = parse_part10_header(file.read(_HEAD_BYTES))
        file.seek(header.dataset_offset)
        attributes = read_attributes(file, header.transfer_syntax_uid, header.sop_instance_uid)
    check_identity(attributes, header.sop_class_uid, header.sop_instance_uid, None)
    stored = stored_instance(files, attributes, header.transfer_syntax_uid)
    if stored.path != path:
        raise BadDicomError("the file's name does not belong to its UIDs")
    return stored


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        _log.warning("the index %s is damaged or of another version, and is made anew from the files", path.name)
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
    try:
        _write_ahead(connection)
        # A row lost in a power cut is found again from its file, so a sync per row would buy nothing.
        connection.execute("PRAGMA synchronous=NORMAL")
        # At once: another process that opens the new index meanwhile would take its table without version for damage.
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != _VERSION and connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise sqlite3.DatabaseError(f"an index of version {version}")
        for statement in filter(None, map(str.strip, _SCHEMA.split(";"))):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        # A damaged page would show only when it is read; 0.16 s for 100 000 instances.
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the index is damaged")
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Keep a log beside the index; SQLite refuses that without waiting while others open the same new one."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise  # waiting mends nothing else, such as a full disk
            time.sleep(0.01)  # SQLite tells nobody when it is free
