"""Which files a volume node came from."""

from pathlib import Path
from typing import Any

from ..errors import GeometryError, NotFoundError
from ..series.source_series import SourceSeries
from .dicom_database import file_in
from .volume_node import INSTANCE_UIDS_ATTRIBUTE


class SourceFiles:
    """Finds the source of volume nodes, whoever loaded them.

    The node itself says which instances it shows. Looked up by those, and not by node ID, a source stays right when
    the scene is closed and node IDs are given out anew.
    """

    def __init__(self) -> None:
        self._by_instances: dict[tuple[str, ...], SourceSeries] = {}
        self._states: dict[tuple[str, ...], object] = {}  # of the files of each, as they were then

    def remember(self, source: SourceSeries) -> None:
        """Keep the source of a series that we loaded ourselves."""
        self._by_instances[source.sop_instance_uids] = source
        self._states[source.sop_instance_uids] = _state_of(source)

    def unread_files(self, node: Any, database: Any) -> list[Path]:
        """Return the files from which a volume node's source can be read, in slice order; empty if it is known already.

        What is known of files that were changed since is old: they are to be read again.

        Also empty where the node names no DICOM instances, or the database lacks one of them. To read the headers
        takes a second for some hundred files: a panel has it done elsewhere and :meth:`remember` told.
        """
        uids = _instance_uids(node)
        known = self._by_instances.get(uids)
        if not uids or (known is not None and _state_of(known) == self._states[uids]):
            return []
        paths = [file_in(database, uid) for uid in uids]
        return [path for path in paths if path is not None] if None not in paths else []

    def source_of(self, node: Any, database: Any = None) -> SourceSeries:
        """Return the source of a volume node.

        Parameters
        ----------
        node
            A vtkMRMLScalarVolumeNode, from :func:`~.volume_node.volume_node_from` or from Slicer's DICOM browser.
        database
            Slicer's DICOM database (``slicer.dicomDatabase``), if there is one: it is asked for what was not
            remembered.

        Raises
        ------
        NotFoundError
            The node names no DICOM instances, or their files are not known here.
        GeometryError
            The files stack up in another order than the node's slices.
        """
        uids = _instance_uids(node)
        if not uids:
            raise NotFoundError(
                "the volume node does not say which DICOM instances it shows",
                advice="Load the series from DICOM, with loadSeries or the DICOM module; results need their source.",
            )
        if self.remembered(node) is None:
            self.remember(self._read(uids, database))
        source = self.remembered(node)
        if source is None:
            raise GeometryError(
                "the slices of the volume node are in another order than those of its files",
                advice="Load the series with loadSeries.",
            )
        return source

    def remembered(self, node: Any) -> SourceSeries | None:
        """Return the source of a volume node if it is known already, without reading any file."""
        uids = _instance_uids(node)
        return self._by_instances.get(uids) or self._by_instances.get(uids[::-1])  # Slicer's loader may reverse them

    @staticmethod
    def _read(uids: tuple[str, ...], database: Any) -> SourceSeries:
        is_open = database is not None and database.isOpen
        paths = [file_in(database, uid) for uid in uids] if is_open else []
        missing = [uid for uid, path in zip(uids, paths, strict=False) if path is None or not path.is_file()]
        if not paths or missing:
            raise NotFoundError(
                f"the files of {len(missing) or len(uids)} instances of the volume node are not known here",
                uid=(missing or uids)[0],
                advice="Load the series with loadSeries, or import it into Slicer's DICOM database.",
            )
        return SourceSeries.from_files(paths)


def _instance_uids(node: Any) -> tuple[str, ...]:
    return tuple((node.GetAttribute(INSTANCE_UIDS_ATTRIBUTE) or "").split())


def _state_of(source: SourceSeries) -> object:
    """Return what changes when one of the files does."""
    found = [path.stat() if path.is_file() else None for path in source.paths]
    return [None if state is None else (state.st_size, state.st_mtime_ns) for state in found]
