"""Stage 2, Load: chosen series become volume nodes; or a volume of the scene is taken."""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import (
    BadDicomError,
    BridgeError,
    ConflictError,
    GeometryError,
    IncompleteError,
    NotFoundError,
    PixelError,
)
from ..mrml.dicom_database import Filing, open_database
from ..mrml.slicer_packages import ensure_packages
from ..mrml.source_files import SourceFiles
from ..mrml.volume_node import image_files, is_shown_as_suv, volume_node_from
from ..private_folder import PrivateFolder
from ..progress import Progress
from ..series.image_files import ImageFiles
from ..series.subject import Subject
from .advice import panel_text
from .availability import set_available
from .confirmation import subject_lines
from .find_stage import FindStage, FoundSeries
from .stack_choice import StackChoice
from .stage_status import StageStatus
from .task_runner import Call, Flow, TaskRunner, in_bites
from .views import show_in_slices

# What is wrong with one series says nothing about the next one; a broken connection does.
OF_ONE_SERIES = (IncompleteError, NotFoundError, BadDicomError, ConflictError, GeometryError, PixelError)


@dataclass(frozen=True)
class OnDisk:
    """A series on this machine.

    Attributes
    ----------
    found
        Where it came from; None for the files of a volume that Slicer loaded.
    said
        Sentences on how it arrived and where it is.
    """

    found: FoundSeries | None
    paths: tuple[Path, ...]
    said: tuple[str, ...] = ()


class LoadStage:
    """Retrieves the chosen series, each of them whole, and loads them.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    sources
        Learns which files a volume node came from.
    folder
        Where retrieved instances are kept for this session, unless Slicer's DICOM database takes them.
    """

    def __init__(
        self, ui: Any, runner: TaskRunner, find: FindStage, sources: SourceFiles, folder: PrivateFolder
    ) -> None:
        self._ui, self._runner, self._find = ui, runner, find
        self._sources, self._folder = sources, folder
        self._unread = True  # a volume was chosen, and nobody has looked for its source yet
        self._tried: list[FoundSeries] = []  # what was to be loaded last, and what of it is not loaded
        self._failed: list[FoundSeries] = []
        self._asked: OnDisk | None = None  # the series about which the person is asked
        self._asked_at: list[FoundSeries] = []  # what was chosen in stage 1 then
        self._waiting: list[OnDisk] = []  # the series that are to be asked about after it
        self.status = StageStatus("load", ui.loadCollapsibleButton.layout(), runner)
        self.choice = StackChoice(ui, runner.notify)
        ui.volumePatientLabel.setTextFormat(qt.Qt.PlainText)
        ui.loadButton.connect("clicked()", lambda: runner.start(self._suv_flow() if self._suv_anew else self.flow()))
        ui.suvCheckBox.connect("toggled(bool)", lambda _checked: runner.notify())
        ui.volumeComboBox.connect("currentNodeChanged(vtkMRMLNode*)", self._volume_chosen)

    @property
    def volume_node(self) -> Any:
        """The volume that is chosen, or None."""
        return self._ui.volumeComboBox.currentNode()

    def missing_series(self) -> str:
        """Return why no series can be retrieved, or an empty text."""
        return "" if self._find.chosen or self._asked_of_volume else _("Choose a series in stage 1 first.")

    def missing_single_series(self) -> str:
        """Return why there is not exactly one series to go on with, or an empty text."""
        count = len(self._find.chosen)
        if count > 1:
            return _("This takes exactly one series, and {count} are chosen in stage 1.").format(count=count)
        return self.missing_series()

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        chosen = self._find.chosen
        if (self._asked is not None or self._waiting) and chosen != self._asked_at:
            self._ask_nothing()
        title = _("none")
        if len(chosen) > 1:
            title = _("{count} series: {titles}").format(
                count=len(chosen), titles=", ".join(found.title for found in chosen)
            )
        elif chosen:
            title, count = chosen[0].title, chosen[0].series.instance_count
            if count is not None:
                title = _("{title} ({count} images)").format(title=title, count=count)
        self._ui.seriesLabel.setText(title)
        again = bool(self._failed) and self._tried == chosen
        text = _("Try again") if again else _("Retrieve and load")
        if self._asked is not None:
            text = _("Load anew") if self._asked_of_volume else _("Load")
        elif self._suv_anew:
            text = _("Load anew")
        self._ui.loadButton.setText(text)
        no_series = "" if self._suv_anew else self.missing_series()
        tip = _("Bring the series to this machine, check that it is complete, and load it as a volume.")
        set_available(self._ui.loadButton, tip, busy, no_series, self.choice.missing)
        self._ui.suvCheckBox.setVisible(self._pet_is_chosen or self._volume_can_be_suv)
        self._ui.volumePatientLabel.setText(self._whose())
        self._ui.volumePatientLabel.setVisible(self.volume_node is not None)

    def read_source(self) -> None:
        """Have the files behind the chosen volume read, if somebody else loaded it, unless something runs."""
        if not self._unread or self._runner.busy:
            return
        self._unread = False
        database = open_database()
        if self.volume_node is not None and database is not None:
            files = self._sources.unread_files(self.volume_node, database)
            if files is not None:
                self._runner.start(self._source_flow(files))

    def forget_files(self) -> None:
        """Remove what was retrieved, where Slicer's DICOM database did not take it."""
        self._ask_nothing()
        shutil.rmtree(self._folder.path / "retrieved", ignore_errors=True)

    def flow(self) -> Flow:
        """Retrieve, read and load the chosen series, the second time what failed; return the first volume node."""
        again = bool(self._failed) and self._tried == self._find.chosen
        if self._asked_of_volume:
            return (yield from self._load_anew(self._asked))
        chosen, nodes, places = self._failed if again else self._find.chosen, [], []
        errors: list[tuple[FoundSeries, BridgeError]] = []
        self._tried, self._failed = self._find.chosen, list(chosen)
        with self.status.running(_("Retrieving the series...")):
            ensure_packages("pynetdicom", "platformdirs")
            for number, found in enumerate(chosen, 1):
                if len(chosen) > 1:
                    self.status.say(
                        _("Series {number} of {count}: {title}...").format(
                            number=number, count=len(chosen), title=found.title
                        )
                    )
                try:
                    node, said = yield from self._one_series(found)
                except OF_ONE_SERIES as error:
                    if len(chosen) == 1:
                        raise
                    errors.append((found, error))
                else:
                    nodes.append(node)
                    places.append(said)
                    self._failed.remove(found)
            errors.sort(key=lambda failed: not self._is_asked(failed[0]))  # first the one that waits for an answer
            if errors and not nodes:
                raise errors[0][1]
        self._ui.volumeComboBox.setCurrentNode(nodes[0])
        show_in_slices(nodes[0])
        if errors:
            sentence = _("{loaded} of {count} series are loaded. {error}").format(
                loaded=len(nodes), count=len(chosen), error=panel_text(errors[0][1])
            )
            self.status.warn(sentence, "\n".join(f"{found.title}: {panel_text(error)}" for found, error in errors))
        else:
            self.status.say(" ".join(dict.fromkeys(places)))
        return nodes[0]

    def _load_anew(self, kept: OnDisk) -> Flow:
        """Load a volume that Slicer has loaded once more, as the person has chosen."""
        with self.status.running(_("Loading the volume...")):
            node, said = yield from self._volume(kept)
        self._show(node, said)
        return node

    def _suv_flow(self) -> Flow:
        """Load the chosen volume, of PET, once more as SUV."""
        source = self._sources.remembered(self.volume_node)
        files = replace(image_files(self.volume_node, source.paths, source.frames), suv=True)
        with self.status.running(_("Loading the volume...")):
            node, said = yield from self._node_of(files)
        self._show(node, " ".join(said))

    def _show(self, node: Any, said: str) -> None:
        self._ui.volumeComboBox.setCurrentNode(node)
        show_in_slices(node)
        self.status.say(said)

    @property
    def _pet_is_chosen(self) -> bool:
        return any(found.series.modality == "PT" for found in self._find.chosen)

    @property
    def _volume_can_be_suv(self) -> bool:
        """Whether the chosen volume is PET of known files that is not shown as SUV."""
        if self.volume_node is None or is_shown_as_suv(self.volume_node):
            return False
        source = self._sources.remembered(self.volume_node)
        return source is not None and source.modality == "PT"

    @property
    def _suv_anew(self) -> bool:
        """Whether SUV is asked for of the chosen volume, and not of a series that is to be loaded."""
        asked_of_series = self._pet_is_chosen or self._asked is not None
        return self._ui.suvCheckBox.checked and self._volume_can_be_suv and not asked_of_series

    def _one_series(self, found: FoundSeries) -> Flow:
        """Retrieve one series, file it, and load it; return its volume node and sentences on it."""
        here = [kept for kept in (self._asked, *self._waiting) if kept is not None and kept.found == found]
        return (yield from self._volume(here[0] if here else (yield from self._retrieve(found))))

    def _retrieve(self, found: FoundSeries) -> Flow:
        study_uid, series_uid = found.study.study_uid, found.series.series_uid
        folder = self._folder.path / "retrieved" / hashlib.sha256(series_uid.encode()).hexdigest()[:16]
        place = {"folder": folder, "study_uid": study_uid, "series_uid": series_uid}
        retrieved = yield Call("retrieve", endpoint=self._find.connectable(found), **place)
        retrieved.raise_if_incomplete()
        files = dict((yield Call("instances", **place)))
        paths, where = yield from self._file(files, series_uid, folder)
        arrived = _("Complete: {count} images by {method}, loaded as a volume.").format(
            count=len(retrieved.succeeded), method=retrieved.method
        )
        return OnDisk(found, tuple(paths), (arrived, where))

    def _volume(self, kept: OnDisk) -> Flow:
        """Load a series; where it is no one regular volume, ask about it and raise what the matter is."""
        is_pet = kept.found is not None and kept.found.series.modality == "PT"
        options = self.choice.options if kept is self._asked else {}
        files = ImageFiles(kept.paths, **options, suv=is_pet and self._ui.suvCheckBox.checked)
        try:
            node, said = yield from self._node_of(files)
        except GeometryError as error:
            yield from self._ask(kept, error)
            raise
        if kept is self._asked:
            self._withdraw()
        return node, " ".join((*kept.said, *said))

    def _node_of(self, files: ImageFiles) -> Flow:
        """Read a volume; return its node and sentences on it."""
        volume = yield Call("read", files=files)
        self._sources.remember(volume.source)
        node = volume_node_from(volume, slicer.mrmlScene, patients=self._sources.patients)
        if not volume.resampled:
            return node, ()
        return node, (_("It is shown resampled: {irregularity}.").format(irregularity=volume.source.irregularity),)

    def _ask(self, kept: OnDisk, error: GeometryError) -> Flow:
        """Ask which stack to load and if to resample, or raise why neither would help.

        While another of the chosen series waits for its answer, this one is asked about after it.
        """
        if self._asked is not None and kept.found not in (None, self._asked.found):
            if kept not in self._waiting:
                self._waiting.append(kept)
            return
        if kept in self._waiting:
            self._waiting.remove(kept)
        stacks = yield Call("stacks", paths=kept.paths)
        self._asked, self._asked_at = kept, self._find.chosen
        if self.choice.offer(stacks, kept.found.title if kept.found and len(self._asked_at) > 1 else ""):
            return
        self._withdraw()
        if len(stacks) == 1 and stacks[0].problem not in ("", error.what):  # its advice would be in vain
            raise GeometryError(
                stacks[0].problem,
                uid=error.uid,
                advice="Retrieve the series again, or choose another series of the study.",
            ) from error

    def _withdraw(self) -> None:
        """Take the question back."""
        self._asked = None
        self.choice.withdraw()

    def _ask_nothing(self) -> None:
        """Take the question back, and those that wait."""
        self._waiting.clear()
        self._withdraw()

    def _is_asked(self, found: FoundSeries) -> bool:
        return self._asked is not None and self._asked.found == found

    @property
    def _asked_of_volume(self) -> bool:
        return self._asked is not None and self._asked.found is None

    def _file(self, files: dict[str, Path], series_uid: str, folder: Path) -> Flow:
        """Put the files into Slicer's DICOM database, if it is open; return the files to use and where they are."""
        database = open_database()
        if database is None:
            return list(files.values()), _("Slicer's DICOM database is not open: the files go when this module closes.")
        filing = Filing(database, files, series_uid)
        yield from in_bites(
            filing.steps(),
            lambda count: self._runner.report(Progress("file in Slicer's DICOM database", count, len(files), "images")),
        )
        if filing.complete:
            shutil.rmtree(folder, ignore_errors=True)  # the database has its own copies
            return list(filing.filed.values()), _("The files are in Slicer's DICOM database.")
        if filing.present:
            where = _("Slicer's DICOM database has {count} of the images from before and keeps those as they are.")
            return list(files.values()), where.format(count=len(filing.present))
        return list(files.values()), _(
            "Slicer's DICOM database did not take them: the files go when this module closes."
        )

    def _whose(self) -> str:
        """Return patient and study of the chosen volume: the scene does not say, for scenes are saved and passed on."""
        if self.volume_node is None:
            return ""
        source = self._sources.remembered(self.volume_node)
        if source is None:
            return _("Of which patient it is, is not known: its DICOM files are not known here.")
        return "\n".join(subject_lines(Subject.of(source.headers[0])))

    def _volume_chosen(self, _node: Any) -> None:
        self._unread = True
        if self._asked_of_volume:
            self._ask_nothing()
        self._runner.notify()

    def _source_flow(self, files: ImageFiles) -> Flow:
        with self.status.running(_("Reading where the volume comes from...")):
            try:
                source = yield Call("source", files=files)
            except GeometryError as error:
                yield from self._ask(OnDisk(None, files.paths), error)
                raise
        self._sources.remember(source)
        self.status.clear()
