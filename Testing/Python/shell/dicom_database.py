"""Look-alike of Slicer's DICOM database, CTK's ctkDICOMDatabase: as far as the panel uses it, and without SQLite.

As the real one it keeps copies of the files that it is given, and **replaces** an instance that it has when another
file of it is inserted: whoever must not alter what is there has to ask before. It also lists instances that were only
queried, without a file, and keeps listing one whose file somebody has removed.
"""

import shutil
from pathlib import Path

from pydicom import dcmread


class DicomDatabase:
    """What ``slicer.dicomDatabase`` is.

    Attributes
    ----------
    isOpen
        False while Slicer has no database; a test may set it.
    inserted, updates
        How many files were inserted, and how often what the DICOM browser shows was worked out.
    """

    def __init__(self, folder: Path) -> None:
        self.isOpen = True
        self.inserted = self.updates = 0
        self._folder = folder
        # SOP Instance UID: Series Instance UID, file; None for one that was only queried.
        self._files: dict[str, tuple[str, Path | None]] = {}
        self._prepared = False

    def prepareInsert(self) -> None:
        self._prepared = True

    def insert(self, path: str, storeFile: bool = True, generateThumbnail: bool = True) -> None:
        assert self.isOpen, "the database is closed"
        assert self._prepared, "prepareInsert comes first: instances may have been removed since"
        header = dcmread(path, stop_before_pixels=True)
        uid = str(header.SOPInstanceUID)
        kept = self._folder / "dicom" / f"{uid}.dcm" if storeFile else Path(path)
        if storeFile:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
        self._files[uid] = str(header.SeriesInstanceUID), kept
        self.inserted += 1

    def query(self, path: Path) -> None:
        """List an instance as Slicer's visual DICOM browser does when it has asked an archive for it; not in Slicer."""
        header = dcmread(path, stop_before_pixels=True)
        self._files[str(header.SOPInstanceUID)] = str(header.SeriesInstanceUID), None

    def updateDisplayedFields(self) -> None:
        self.updates += 1

    def fileForInstance(self, uid: str) -> str:
        return str(self._files[uid][1] or "") if uid in self._files else ""

    def filesForSeries(self, series_uid: str, hits: int = -1) -> tuple[str, ...]:
        files = [str(path or "") for series, path in self._files.values() if series == series_uid]
        return tuple(files if hits < 0 else files[:hits])

    def removeSeries(self, series_uid: str) -> bool:
        for uid in [uid for uid, (series, _) in self._files.items() if series == series_uid]:
            path = self._files.pop(uid)[1]
            if path is not None:
                path.unlink(missing_ok=True)
        return True
