"""Stage 2, Load: the chosen series becomes a volume node; or a volume of the scene is taken."""

from typing import Any

import slicer
from slicer.i18n import tr as _

from ..mrml.slicer_packages import ensure_packages
from ..mrml.source_files import SourceFiles
from ..mrml.volume_node import volume_node_from
from .availability import set_available
from .find_stage import FindStage
from .private_folder import PrivateFolder
from .stage_status import StageStatus
from .task_runner import Call, Flow, TaskRunner
from .views import show_in_slices


class LoadStage:
    """Retrieves the chosen series, whole, and loads it.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    sources
        Learns which files a volume node came from.
    folder
        Where retrieved instances are kept for this session.
    """

    def __init__(
        self, ui: Any, runner: TaskRunner, find: FindStage, sources: SourceFiles, folder: PrivateFolder
    ) -> None:
        self._ui, self._find, self._sources, self._folder = ui, find, sources, folder
        self.status = StageStatus("load", ui.loadCollapsibleButton.layout(), runner)
        ui.loadButton.connect("clicked()", lambda: runner.start(self.flow()))
        ui.volumeComboBox.connect("currentNodeChanged(vtkMRMLNode*)", lambda _node: runner.notify())

    @property
    def volume_node(self) -> Any:
        """The volume that is chosen, or None."""
        return self._ui.volumeComboBox.currentNode()

    def missing_series(self) -> str:
        """Return why no series can be retrieved, or an empty text."""
        return "" if self._find.selected_series else _("Choose a series in stage 1 first.")

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        chosen = self._find.selected_series
        title = _("none")
        if chosen:
            _endpoint, _study, series = chosen
            number = f"{series.series_number}: " if series.series_number else ""
            title = f"{series.modality} {number}{series.series_description}".strip()
            if series.instance_count is not None:
                title = _("{title} ({count} images)").format(title=title, count=series.instance_count)
        self._ui.seriesLabel.setText(title)
        tip = _("Bring the series to this machine, check that it is complete, and load it as a volume.")
        set_available(self._ui.loadButton, tip, busy, self.missing_series())

    def flow(self) -> Flow:
        """Retrieve, read and load the chosen series; return its volume node."""
        with self.status.running(_("Retrieving the series...")):
            ensure_packages("pynetdicom", "platformdirs")
            endpoint, study, series = self._find.selected_series
            place = {"folder": self._folder.path, "study_uid": study.study_uid, "series_uid": series.series_uid}
            retrieved = yield Call("retrieve", endpoint=endpoint, **place)
            retrieved.raise_if_incomplete()
            self.status.say(_("Reading the images..."))
            paths = yield Call("paths", **place)
            volume = yield Call("read", paths=paths)
            self._sources.remember(volume.source)
            node = volume_node_from(volume, slicer.mrmlScene)
        self._ui.volumeComboBox.setCurrentNode(node)
        show_in_slices(node)
        self.status.say(
            _("Complete: {count} images by {method}, loaded as a volume.").format(
                count=len(retrieved.succeeded), method=retrieved.method
            )
        )
        return node
