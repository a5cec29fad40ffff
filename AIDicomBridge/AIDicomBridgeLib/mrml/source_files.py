"""Which files a volume node came from."""

from typing import Any

from ..errors import ConflictError, GeometryError, NotFoundError
from ..series.image_files import ImageFiles
from ..series.source_series import SourceSeries
from ..series.subject import Subject
from .dicom_database import file_in
from .subject_hierarchy import Patients
from .volume_node import image_files, is_shown_resampled, shown_frames, shown_instances


class SourceFiles:
    """Finds the source of volume nodes, whoever loaded them.

    The node itself says which instances, and which frames of them, it shows, and if it shows them resampled. Looked up
    by those, and not by node ID, a source stays right when the scene is closed and node IDs are given out anew.
    """

    def __init__(self) -> None:
        self._patients: Patients = {}
        self._known: dict[tuple[tuple[str, ...], str, bool], SourceSeries] = {}  # by instances, frames, resampled

    @property
    def patients(self) -> Patients:
        """Who the patient items of the subject hierarchy are, for :func:`~.volume_node.volume_node_from`."""
        return self._patients

    def remember(self, source: SourceSeries) -> None:
        """Keep the source of a series that we loaded ourselves."""
        uids, resampled = source.sop_instance_uids, bool(source.irregularity)
        self._known[uids, source.frames, resampled] = source
        if source.frames and len(source.slices) == sum(_frame_counts(source).values()):
            self._known[uids, "", resampled] = source  # Slicer's loader shows all frames and does not say so

    def forget(self) -> None:
        """Forget every source and every patient: their scene is closed."""
        self._patients.clear()
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known)

    def unread_files(self, node: Any, database: Any) -> ImageFiles | None:
        """Return the files from which a volume node's source can be read, in slice order; None if it is known already.

        What is known of files that were changed since is old: they are to be read again.

        Also None where the node names no DICOM instances, or the database lacks one of them. To read the headers takes
        a second for some hundred files: a panel has it done elsewhere, and :meth:`remember` told.
        """
        known = self.remembered(node)
        uids = shown_instances(node)
        if not uids or (known is not None and not known.has_changed_on_disk):
            return None
        paths = [file_in(database, uid) for uid in uids]
        found = [path for path in paths if path is not None]
        return image_files(node, found, shown_frames(node)) if len(found) == len(paths) else None

    def source_of(self, node: Any, database: Any = None) -> SourceSeries:
        """Return the source of a volume node.

        Parameters
        ----------
        node
            A vtkMRMLScalarVolumeNode, from :func:`~.volume_node.volume_node_from` or from Slicer's DICOM browser.
        database
            Slicer's DICOM database (``slicer.dicomDatabase``), if there is one: it is asked for what was not
            remembered, or has changed since.

        Raises
        ------
        NotFoundError
            The node names no DICOM instances, or their files are not known here.
        ConflictError
            The files were changed after the volume had been loaded, and the database has no others, or they are of
            another patient or study now.
        GeometryError
            The files stack up in another order than the node's slices, or hold several stacks.
        """
        uids = shown_instances(node)
        if not uids:
            raise NotFoundError(
                "the volume node does not say which DICOM instances it shows",
                advice="Load the series from DICOM, with loadSeries or the DICOM module; results need their source.",
            )
        known = self.remembered(node)
        if known is not None and not known.has_changed_on_disk:
            return known
        try:
            read = _read(node, uids, database)
        except NotFoundError as error:
            if known is None:
                raise
            raise ConflictError(
                "the files of the volume were changed or removed after it had been loaded",
                uid=known.series_uid,
                advice="Load the series again: a result must come from the images that it refers to.",
            ) from error
        if known is not None:
            Subject.of(known.headers[0]).refuse_others([Subject.of(read.headers[0])])
            self._known = {key: source for key, source in self._known.items() if source is not known}
        self.remember(read)
        source = self.remembered(node)
        if source is None:
            raise GeometryError(
                "the slices of the volume node are in another order than those of its files",
                advice="Load the series with loadSeries.",
            )
        return source

    def remembered(self, node: Any) -> SourceSeries | None:
        """Return the source of a volume node if it is known already, without looking at any file."""
        uids, how = shown_instances(node), (shown_frames(node), is_shown_resampled(node))
        return self._known.get((uids, *how)) or self._known.get((uids[::-1], *how))  # Slicer's loader may reverse


def _frame_counts(source: SourceSeries) -> dict[str, int]:
    return {piece.sop_instance_uid: piece.frame_count for piece in source.slices}


def _read(node: Any, uids: tuple[str, ...], database: Any) -> SourceSeries:
    is_open = database is not None and database.isOpen
    paths = [file_in(database, uid) for uid in uids] if is_open else []
    missing = [uid for uid, path in zip(uids, paths, strict=False) if path is None or not path.is_file()]
    if not paths or missing:
        raise NotFoundError(
            f"the files of {len(missing) or len(uids)} instances of the volume node are not known here",
            uid=(missing or uids)[0],
            advice="Load the series with loadSeries, or import it into Slicer's DICOM database.",
        )
    return image_files(node, (path for path in paths if path is not None), shown_frames(node)).source()
