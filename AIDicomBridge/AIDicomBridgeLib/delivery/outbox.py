"""The outbox: every result is on disk and in a journal before its first byte is sent, and stays until it has arrived.

State lives in one SQLite file beside the objects. A delivery is *waiting* until the peer has answered for it, *sent*
once the peer accepted it, *refused* if the peer said no; it leaves the outbox, with a receipt, only when the
destination has shown that it holds the object. Because an object keeps its SOP Instance UID, sending it again after
a crash doubles nothing. Several processes may share an outbox: a file gets its name, and loses it, only while the
journal is held for writing, so that no row is ever without its file.
"""

import hashlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConflictError, DeliveryError, DiskSpaceError, EncodingError
from ..series.incoming import sync_folder

if TYPE_CHECKING:
    from pydicom import Dataset

_SWEEP_AFTER_S = 3600.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sop_instance_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
    destination TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', created TEXT NOT NULL,
    UNIQUE (sop_instance_uid, destination)
);
CREATE TABLE IF NOT EXISTS receipt (
    sop_instance_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
    destination TEXT NOT NULL, proof TEXT NOT NULL, note TEXT NOT NULL, verified TEXT NOT NULL,
    PRIMARY KEY (sop_instance_uid, destination)
);
"""


class DeliveryState(Enum):
    """Where a delivery stands; see the module's text."""

    WAITING = "waiting"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True)
class Delivery:
    """One object on its way to one destination.

    Attributes
    ----------
    destination
        The endpoint's address, without credentials.
    path
        The object's file in the outbox.
    attempts
        How often it was sent.
    status, reason
        What the peer last said.
    created
        When it was put here, ISO 8601, UTC.
    """

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    destination: str
    state: DeliveryState
    attempts: int
    status: str
    reason: str
    created: str
    path: Path


@dataclass(frozen=True)
class Receipt:
    """Proof that a destination holds an object.

    Attributes
    ----------
    proof
        ``"compared"``: retrieved again and equal; ``"listed"``: the destination lists it, but could not hand it out.
    note
        What the destination changed, or why the object could not be compared; empty if nothing.
    verified
        When, ISO 8601, UTC.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    destination: str
    proof: str
    note: str
    verified: str


class Outbox:
    """Results on their way; safe to open from several processes.

    Parameters
    ----------
    folder
        Created if missing, readable by the owner only: it holds patient data.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._objects = self.folder / "objects"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self._objects.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise DeliveryError(f"the outbox {self.folder} cannot be used: {error.strerror}") from error
        with self._journal() as journal:
            journal.executescript(_SCHEMA)
        self._sweep()

    def put(self, datasets: "Iterable[Dataset]", destination: str) -> list[Delivery]:
        """Write objects durably (temporary file, fsync, rename) and enter them in the journal.

        Parameters
        ----------
        datasets
            Complete objects with file meta information. Those that already wait for this destination are left alone.
        destination
            The endpoint's address, without credentials.

        Raises
        ------
        ConflictError
            Another object with the same SOP Instance UID waits here.
        DiskSpaceError, EncodingError
            The disk is full, or the object is incomplete; nothing half-written is left.
        """
        placed = []
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for dataset in datasets:
            uids = _uids(dataset)
            with self._written(dataset) as temporary, self._journal(writing=True) as journal:
                self._place(temporary, uids[0], journal)
                journal.execute(
                    "INSERT OR IGNORE INTO delivery (sop_instance_uid, sop_class_uid, study_uid, series_uid,"
                    " destination, state, created) VALUES (?, ?, ?, ?, ?, 'waiting', ?)",
                    (*uids, destination, now),
                )
            placed.append(uids[0])
        return [d for d in self.deliveries(destination) if d.sop_instance_uid in placed]

    def deliveries(self, destination: str | None = None) -> list[Delivery]:
        """Return what is on its way, oldest first."""
        with self._journal() as journal:
            rows = journal.execute(
                "SELECT * FROM delivery WHERE ?1 IS NULL OR destination = ?1 ORDER BY id", (destination,)
            ).fetchall()
        return [
            Delivery(**{**dict(row), "state": DeliveryState(row["state"])}, path=self._path(row["sop_instance_uid"]))
            for row in rows
        ]

    def receipts(self) -> list[Receipt]:
        """Return the proofs of all that has arrived, oldest first."""
        with self._journal() as journal:
            return [Receipt(**dict(row)) for row in journal.execute("SELECT * FROM receipt ORDER BY verified, rowid")]

    def mark_attempt(self, deliveries: Iterable[Delivery]) -> None:
        """Count one more attempt, before the first byte is sent."""
        with self._journal() as journal:
            journal.executemany(
                "UPDATE delivery SET attempts = attempts + 1 WHERE sop_instance_uid = ? AND destination = ?",
                [_key(d) for d in deliveries],
            )

    def redirect(self, deliveries: Iterable[Delivery], destination: str) -> None:
        """Send objects to another destination instead; what waits for that one already is not doubled."""
        with self._journal() as journal:
            for delivery in deliveries:
                journal.execute(
                    "UPDATE OR REPLACE delivery SET destination = ?, state = 'waiting', status = '', reason = ''"
                    " WHERE sop_instance_uid = ? AND destination = ?",
                    (destination, *_key(delivery)),
                )

    def discard(self, deliveries: Iterable[Delivery]) -> None:
        """Throw objects away that have not arrived; where one is on its way to another destination too, it stays."""
        for delivery in deliveries:
            with self._journal() as journal:
                journal.execute("DELETE FROM delivery WHERE sop_instance_uid = ? AND destination = ?", _key(delivery))
            self._remove_unless_named(delivery)

    def mark(self, delivery: Delivery, state: DeliveryState, status: str, reason: str) -> None:
        """Enter what the peer answered for one object."""
        with self._journal() as journal:
            journal.execute(
                "UPDATE delivery SET state = ?, status = ?, reason = ? WHERE sop_instance_uid = ? AND destination = ?",
                (state.value, status, reason, *_key(delivery)),
            )

    def settle(self, delivery: Delivery, *, proof: str, note: str = "") -> Receipt:
        """Take an object that has arrived out of the outbox and keep its receipt."""
        receipt = Receipt(
            delivery.sop_instance_uid,
            delivery.sop_class_uid,
            delivery.study_uid,
            delivery.series_uid,
            delivery.destination,
            proof,
            note,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with self._journal() as journal:
            journal.execute(
                "INSERT OR REPLACE INTO receipt VALUES (:sop_instance_uid, :sop_class_uid, :study_uid, :series_uid,"
                " :destination, :proof, :note, :verified)",
                vars(receipt),
            )
            journal.execute("DELETE FROM delivery WHERE sop_instance_uid = ? AND destination = ?", _key(delivery))
        self._remove_unless_named(delivery)
        return receipt

    def _remove_unless_named(self, delivery: Delivery) -> None:
        """Remove an object's file, unless the object is on its way to another destination.

        After its row, so that a crash between the two leaves a file too many, never a row without a file.
        """
        with self._journal(writing=True) as journal:
            if delivery.path not in self._named(journal):
                delivery.path.unlink(missing_ok=True)

    def _path(self, sop_instance_uid: str) -> Path:
        return self._objects / (hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:32] + ".dcm")

    def _named(self, journal: sqlite3.Connection) -> set[Path]:
        """Return the files that a delivery names."""
        return {self._path(uid) for (uid,) in journal.execute("SELECT DISTINCT sop_instance_uid FROM delivery")}

    @contextmanager
    def _written(self, dataset: "Dataset") -> Iterator[Path]:
        """Write an object durably under a temporary name, which is gone afterwards unless the file got another."""
        temporary = None
        try:
            descriptor, name = tempfile.mkstemp(dir=self._objects, suffix=".part")  # mode 0600
            temporary = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                try:
                    dataset.save_as(file, enforce_file_format=True)
                except (ValueError, TypeError, AttributeError, KeyError) as error:  # pydicom's, of an incomplete one
                    raise EncodingError(
                        "a result cannot be written as a DICOM file", uid=str(dataset.SOPInstanceUID)
                    ) from error
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        except OSError as error:
            raise DiskSpaceError(
                f"a result cannot be written to the outbox {self.folder}: {error.strerror}",
                uid=str(dataset.SOPInstanceUID),
                advice="Free some space there and run the job again.",
            ) from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _place(self, temporary: Path, sop_instance_uid: str, journal: sqlite3.Connection) -> None:
        """Give a written object its name, durably; the same object may wait there for another destination."""
        path = self._path(sop_instance_uid)
        if path.exists() and path in self._named(journal):
            if path.read_bytes() != temporary.read_bytes():
                raise ConflictError(
                    "another object with this SOP Instance UID waits in the outbox",
                    uid=sop_instance_uid,
                    advice="A corrected result needs a new SOP Instance UID.",
                )
            return
        temporary.replace(path)
        sync_folder(self._objects)

    def _sweep(self) -> None:
        """Remove what a crash left behind: temporary files, and objects that no delivery names."""
        # A younger file may be another process's, which is still writing it.
        old = [path for path in self._objects.iterdir() if _age_s(path) > _SWEEP_AFTER_S]
        if old:
            with self._journal(writing=True) as journal:
                for path in set(old) - self._named(journal):
                    path.unlink(missing_ok=True)

    @contextmanager
    def _journal(self, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the journal for one transaction; one that is ``writing`` keeps all others from it from its beginning."""
        try:
            connection = sqlite3.connect(self.folder / "journal.sqlite", timeout=30)
        except sqlite3.Error as error:
            raise DeliveryError(f"the outbox {self.folder} cannot be opened: {error}") from error
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                if writing:
                    connection.execute("BEGIN IMMEDIATE")
                yield connection
        except sqlite3.Error as error:
            raise DeliveryError(f"the journal of the outbox {self.folder} cannot be used: {error}") from error
        finally:
            connection.close()


def _uids(dataset: "Dataset") -> tuple[str, str, str, str]:
    """Return an object's SOP Instance, SOP Class, Study Instance and Series Instance UID."""
    names = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
    missing = [name for name in names if not dataset.get(name)]
    if missing:
        raise EncodingError(
            f"a result has no {' and no '.join(missing)}", uid=str(dataset.get("SOPInstanceUID") or "") or None
        )
    instance, sop_class, study, series = (str(dataset[name].value) for name in names)
    return instance, sop_class, study, series


def _key(delivery: Delivery) -> tuple[str, str]:
    """Return what finds a delivery's row: its number could be another's by now, or its object go elsewhere."""
    return delivery.sop_instance_uid, delivery.destination


def _age_s(path: Path) -> float:
    """Return the seconds since a file was written; none for one that is just gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
