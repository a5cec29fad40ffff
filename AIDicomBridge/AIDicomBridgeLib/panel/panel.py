"""The panel: four stages, usable in any order, and one button for all of them."""

from typing import Any

import slicer
from slicer.i18n import tr as _

from ..mrml.source_files import SourceFiles
from ..pacs.endpoint import Endpoint
from ..private_folder import PrivateFolder
from ..worker.client import Worker
from .availability import set_available
from .find_stage import FindStage
from .load_stage import LoadStage
from .saved_endpoints import SavedEndpoints
from .segment_stage import SegmentStage
from .send_stage import SendStage
from .task_runner import Flow, TaskRunner


class Panel:
    """Wires the stages together.

    Parameters
    ----------
    ui
        The widgets of ``AIDicomBridge.ui`` by name.
    sources
        Shared with the module's Logic, so that panel and console know each other's volumes.

    Attributes
    ----------
    entered
        True while the module is the one that is open. Only then does anything start by itself.
    """

    def __init__(self, ui: Any, sources: SourceFiles) -> None:
        self._ui, self._sources = ui, sources
        self._ready = self.entered = False
        self.folder = PrivateFolder()
        self.runner = TaskRunner(on_change=self.update, worker=Worker(folder=lambda: self.folder.path))
        saved = SavedEndpoints(slicer.app.userSettings())
        self.find = FindStage(ui, self.runner, saved, self._endpoints_changed)
        self.load = LoadStage(ui, self.runner, self.find, sources, self.folder)
        self.segment = SegmentStage(ui, self.runner, self.load, sources)
        self.send = SendStage(ui, self.runner, saved, sources, self.folder)
        self.segment.segments.on_edited = self.send.withdraw  # a confirmation holds for what was shown only
        ui.runAllButton.connect("clicked()", lambda: self.runner.start(self._whole_loop()))
        self._ready = True
        self.update()

    def update(self) -> None:
        """Enable what can be used now and say of the rest why not. Called whenever something may have changed."""
        if not self._ready:
            return
        busy = _("Wait until the running step has ended, or cancel it.") if self.runner.busy else ""
        tip = _("Retrieve and load the chosen series, run the model, and show what would be sent; you confirm it then.")
        missing = (self.load.missing_single_series(), self.segment.missing_model(), self.send.missing_destination())
        set_available(self._ui.runAllButton, tip, busy, *missing)
        for stage in (self.find, self.load, self.segment, self.send):
            stage.update(busy)
        # What a choice asks for is fetched at once; either does nothing while something runs.
        if self.entered:
            self.find.list_series()
            self.load.read_source()

    def enter(self) -> None:
        """Take note that the person has opened the module."""
        self.entered = True
        self.find.chooser.look()
        self.send.chooser.look()
        self.send.outbox.look()
        self.segment.segments.show()
        self.update()

    def leave(self) -> None:
        """Take note that the person has gone to another module."""
        self.entered = False
        self.segment.segments.hide()

    def scene_about_to_close(self) -> None:
        """Stop what runs, end the worker, which holds a volume of the scene, and forget whose the nodes were."""
        self.runner.stop()
        self._sources.forget()
        self.load.forget_files()
        self.send.clear()
        self.segment.close()
        self.load.status.clear()
        self.segment.status.clear()

    def close(self) -> None:
        """End the worker and remove what was retrieved. Safe to call twice."""
        self._ready = False
        self.runner.close()
        self.segment.close()
        self.folder.close()

    def _whole_loop(self) -> Flow:
        yield from self.load.flow()
        yield from self.segment.flow()
        self.send.ask()

    def _endpoints_changed(self, replaced: tuple[Endpoint, Endpoint] | None = None) -> None:
        self.send.chooser.refresh(replaced=replaced)
