"""Slicer's DICOM database: which instances it has, and how others are filed in it without touching those."""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

# The database works out what its browser shows in one go for all new instances, about 1 ms for each.
_SHOWN_AFTER = 50


def open_database() -> Any:
    """Return Slicer's DICOM database (``slicer.dicomDatabase``), or None while there is none or it is closed."""
    import slicer

    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None


def file_in(database: Any, sop_instance_uid: str) -> Path | None:
    """Return the file of an instance that the database has; None if it has not. The file may be gone from disk."""
    path = database.fileForInstance(sop_instance_uid)
    return Path(path) if path else None


def _has_file(path: str | Path | None) -> bool:
    """Tell whether a path of the database is a file: an instance that was only asked for at an archive has none."""
    return bool(path) and Path(str(path)).is_file()


class Filing:
    """Copies the instances of one series into the database, those that it does not have yet. Main thread only.

    The database is asked for every instance first: one that it has would be replaced. One whose file is gone, or that
    it knows from a query only, it does not have.

    Parameters
    ----------
    database
        Slicer's, open.
    files
        The files of all instances, by SOP Instance UID.

    Attributes
    ----------
    present
        The instances that the database had before; they are as they were.
    filed
        The database's own copies of the others, by SOP Instance UID, as far as it took them.
    """

    def __init__(self, database: Any, files: Mapping[str, Path], series_uid: str) -> None:
        self._database, self._files, self._series_uid = database, files, series_uid
        self.present: list[str] = []
        self.filed: dict[str, Path] = {}

    @property
    def complete(self) -> bool:
        """True once the database has its own copy of every instance, filed now."""
        return len(self.filed) == len(self._files)

    def steps(self) -> Generator[int, None, None]:
        """File one instance a step, and yield how many were looked at.

        If this is closed before its end, a series of which the database had no file is taken out again: Slicer would
        offer its part as if it were the whole.
        """
        database = self._database
        is_new = not any(map(_has_file, database.filesForSeries(self._series_uid)))
        database.prepareInsert()
        done = False
        try:
            for count, (uid, path) in enumerate(self._files.items(), 1):
                if _has_file(file_in(database, uid)):
                    self.present.append(uid)
                else:
                    self._file(uid, path)
                yield count
            done = True
        finally:
            if done or not is_new:
                database.updateDisplayedFields()
            elif self.filed:
                database.removeSeries(self._series_uid)

    def _file(self, uid: str, path: Path) -> None:
        self._database.insert(str(path), True, False)  # a copy of the file, and no thumbnail
        taken = file_in(self._database, uid)
        if taken is not None and taken != path and _has_file(taken):
            self.filed[uid] = taken
            if len(self.filed) % _SHOWN_AFTER == 0:
                self._database.updateDisplayedFields()
