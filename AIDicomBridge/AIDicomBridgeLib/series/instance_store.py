"""Received instances on disk, byte for byte as they came, with an index that survives a crash."""

import errno
import hashlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from ..errors import BadDicomError, ConflictError, DiskSpaceError, FolderError
from .attribute_text import attribute_texts
from .dicom_file import is_uid
from .part10 import DEFLATED, build_part10_header, parse_part10_header

# What a query may ask for (PS3.4 C.6.2); kept in the index, so that answering one opens no file.
PATIENT_ATTRIBUTES = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY_ATTRIBUTES = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription"),
    "ReferringPhysicianName",
)
SERIES_ATTRIBUTES = (
    *("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime"),
    *("BodyPartExamined", "Manufacturer", "FrameOfReferenceUID"),
)
INSTANCE_ATTRIBUTES = (
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "ContentDate",
    "ContentTime",
    "NumberOfFrames",
)
INDEXED_ATTRIBUTES = (*PATIENT_ATTRIBUTES, *STUDY_ATTRIBUTES, *SERIES_ATTRIBUTES, *INSTANCE_ATTRIBUTES)
_LAST_TAG = 0x00280008  # Number of Frames: nothing behind it is indexed, so long functional groups are not parsed
_TEMPORARY = ".receiving-"
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


@dataclass(frozen=True)
class StoredInstance:
    """One instance in the store.

    Attributes
    ----------
    path
        The Part 10 file; read it, never change it.
    attributes
        Keyword -> text of the attributes that queries ask for. Patient data: not part of the repr.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


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
        invalid = [uid for uid in (sop_class_uid, sop_instance_uid, transfer_syntax_uid) if not is_uid(uid)]
        if invalid:
            raise BadDicomError("an instance came with an invalid UID", advice="It was not stored.")
        attributes = _read_attributes(dataset_bytes, transfer_syntax_uid, sop_instance_uid)
        _check_identity(attributes, sop_class_uid, sop_instance_uid, study_uid)
        header = build_part10_header(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        byte_count = len(header) + len(dataset_bytes)
        digest = _digest(dataset_bytes, transfer_syntax_uid)
        with self._lock:
            present = self._same_content(sop_instance_uid, digest)
            if present:
                return present
            self._check_space(byte_count)
        path = self._path_of(attributes["StudyInstanceUID"], attributes["SeriesInstanceUID"], sop_instance_uid)
        temporary = self._write_temporary((header, dataset_bytes), sop_instance_uid)
        try:
            with self._lock:
                present = self._same_content(sop_instance_uid, digest)
                if present:
                    return present
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                temporary.replace(path)
                sync_folder(path.parent)
                try:
                    return self._insert(path, byte_count, digest, transfer_syntax_uid, attributes)
                except sqlite3.OperationalError as error:
                    path.unlink(missing_ok=True)
                    raise DiskSpaceError(
                        "the index of the stored instances cannot be written", uid=sop_instance_uid
                    ) from error
        finally:
            temporary.unlink(missing_ok=True)

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
        row = self._index.execute(
            "SELECT sha256 FROM instances WHERE sop_instance_uid = ?", (sop_instance_uid,)
        ).fetchone()
        if row is None:
            return None
        if row[0] != digest:
            raise ConflictError(
                "another instance with the same SOP Instance UID but other content is already stored",
                uid=sop_instance_uid,
                advice="The first one was kept.",
            )
        return self.get(sop_instance_uid)

    def _check_space(self, byte_count: int) -> None:
        if self._quota_bytes is not None:
            used = self._index.execute("SELECT COALESCE(SUM(byte_count), 0) FROM instances").fetchone()[0]
            if used + byte_count > self._quota_bytes:
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

    def _write_temporary(self, pieces: tuple[bytes, ...], uid: str) -> Path:
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._files)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _mark_as_in_use(file.fileno())
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskSpaceError(
                    "the disk is full", uid=uid, advice="Free some space, or choose a folder on another disk."
                ) from error
            raise
        return temporary

    def _insert(
        self, path: Path, byte_count: int, digest: str, transfer_syntax_uid: str, attributes: dict[str, str]
    ) -> StoredInstance:
        relative = path.relative_to(self.folder).as_posix()
        with self._index:
            self._index.execute(
                "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(attributes[name] for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")),
                    *(attributes["SOPClassUID"], transfer_syntax_uid, relative, byte_count, digest),
                    json.dumps(attributes),
                ),
            )
        return StoredInstance(
            attributes["StudyInstanceUID"],
            attributes["SeriesInstanceUID"],
            attributes["SOPInstanceUID"],
            attributes["SOPClassUID"],
            transfer_syntax_uid,
            path,
            MappingProxyType(attributes),
        )

    def _reconcile(self) -> None:
        """Make index and files agree again after a crash."""
        for temporary in self._files.glob(f"{_TEMPORARY}*"):
            _remove_if_abandoned(temporary)
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
            attributes = _read_attributes(dataset_bytes, header.transfer_syntax_uid, header.sop_instance_uid)
            _check_identity(attributes, header.sop_class_uid, header.sop_instance_uid, None)
            uids = (attributes[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
            if self._path_of(*uids) != path:
                raise BadDicomError("the file's name does not belong to its UIDs")
        except BadDicomError as error:
            _log.warning("%s is left out of the index: %s", path.name, error)
            return
        digest = _digest(dataset_bytes, header.transfer_syntax_uid)
        self._insert(path, len(data), digest, header.transfer_syntax_uid, attributes)


def _read_attributes(dataset_bytes: bytes, transfer_syntax_uid: str, uid: str) -> dict[str, str]:
    """Return the indexed attributes of an encoded data set; whatever a parser raises becomes BadDicomError."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    syntax = UID(transfer_syntax_uid)
    if transfer_syntax_uid == DEFLATED:  # 1 MB can grow to more than 1 GiB
        raise BadDicomError("the Deflated transfer syntax is not accepted", uid=uid)
    if not syntax.is_transfer_syntax:
        # Private syntaxes are explicit little endian wherever they are seen; pydicom knows the public ones.
        implicit, little = False, True
    else:
        implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    try:
        dataset = read_dataset(
            BytesIO(dataset_bytes), implicit, little, stop_when=lambda tag, _vr, _length: tag > _LAST_TAG
        )
        return attribute_texts(dataset, INDEXED_ATTRIBUTES)
    except Exception as error:  # parsers raise nearly anything on damaged input
        raise BadDicomError(
            "the data set cannot be read", uid=uid, advice="The object is damaged; ask for it to be sent again."
        ) from error


def _check_identity(
    attributes: dict[str, str], sop_class_uid: str, sop_instance_uid: str, study_uid: str | None
) -> None:
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not is_uid(attributes.get(name, "")):
            raise BadDicomError(f"the data set has no valid {name}", uid=sop_instance_uid)
    if (attributes["SOPClassUID"], attributes["SOPInstanceUID"]) != (sop_class_uid, sop_instance_uid):
        raise BadDicomError(
            "the data set has another SOP Class or SOP Instance UID than it was announced with", uid=sop_instance_uid
        )
    if study_uid is not None and attributes["StudyInstanceUID"] != study_uid:
        raise BadDicomError("the instance belongs to another study than the one asked for", uid=sop_instance_uid)


def _digest(dataset_bytes: bytes, transfer_syntax_uid: str) -> str:
    digest = hashlib.sha256(transfer_syntax_uid.encode("ascii"))
    digest.update(dataset_bytes)
    return digest.hexdigest()


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


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and renames are journalled
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _mark_as_in_use(handle: int) -> None:
    """Lock a temporary file, so that another process that opens the store does not take it for a left-over."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_if_abandoned(temporary: Path) -> None:
    try:
        if os.name == "posix":
            import fcntl

            with temporary.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink(missing_ok=True)
    except OSError:  # locked, or on Windows open: another process is still receiving it
        _log.info("%s is still being written", temporary.name)
