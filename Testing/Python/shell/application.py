"""Look-alike of the running Slicer around the panel: ``slicer.app``, ``slicer.modules``, dialogs that only note."""

import logging
import os
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from PySide6.QtCore import QObject, QSettings, Signal
from PySide6.QtWidgets import QApplication, QMessageBox, QVBoxLayout

from . import pythonqt
from .dicom_database import DicomDatabase
from .node_widgets import qMRMLWidget
from .pythonqt import close_class


@close_class
class qSlicerApplication(QApplication):
    """What ``slicer.app`` is. One a process; :meth:`begin` and :meth:`end` enclose each use."""

    startupCompleted = Signal()
    majorVersion, minorVersion = 5, 12

    def begin(self, core: Any, views: bool) -> None:
        self._core = core
        self._folder = tempfile.TemporaryDirectory(prefix="shell-")
        self._modules = ModuleManager()
        self._views = Views(core) if views else None
        self._dicom_database = DicomDatabase(Path(self._folder.name, "DICOM"))
        self.setOrganizationName("NA-MIC")
        self.setApplicationName("Slicer")
        # Every QSettings(), also one made by the panel, is this file and never that of a user.
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, self._folder.name)
        self._settings = QSettings()

    def end(self) -> None:
        pythonqt.disconnect_all(self)
        self._settings.sync()
        self._settings = self._views = self._core = self._dicom_database = None
        self._folder.cleanup()

    def settings(self) -> QSettings:
        return self._settings

    userSettings = revisionUserSettings = settings

    def testingEnabled(self) -> bool:
        return False

    def layoutManager(self) -> Any:
        return self._views

    def moduleManager(self) -> Any:
        return self._modules

    def applicationLogic(self) -> Any:
        return self._core.application_logic

    def dicomDatabase(self) -> DicomDatabase:
        """Return what Slicer's DICOM module puts into ``slicer.dicomDatabase``; not in Slicer."""
        return self._dicom_database

    def mrmlScene(self) -> Any:
        return self._core.scene

    def pythonConsole(self) -> None:
        return None

    def startupEnvironment(self) -> dict[str, str]:
        return dict(os.environ)

    def pauseRender(self) -> None:
        """Do nothing, as does :meth:`resumeRender`: nothing is rendered."""

    def resumeRender(self) -> None:
        pass

    @property
    def temporaryPath(self) -> str:
        return self._folder.name


class Views:
    """The layout manager: three slice views with real slice and composite nodes, and nothing drawn."""

    def __init__(self, core: Any) -> None:
        import slicer

        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(core.scene, True)
        self.layout = 3
        self._logics = {}
        for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(core.application_logic)
            logic.SetMRMLScene(core.scene)
            logic.AddSliceNode(name).SetOrientation(orientation)
            core.application_logic.GetSliceLogics().AddItem(logic)
            self._logics[name] = logic

    threeDViewCount = 0

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._logics)

    def sliceWidget(self, name: str) -> Any:
        logic = self._logics[name]
        return SimpleNamespace(
            sliceLogic=lambda: logic,
            mrmlSliceNode=logic.GetSliceNode,
            mrmlSliceCompositeNode=logic.GetSliceCompositeNode,
        )

    def mrmlSliceLogics(self) -> Any:
        import vtk

        collection = vtk.vtkCollection()
        for logic in self._logics.values():
            collection.AddItem(logic)
        return collection

    def setLayout(self, number: int) -> None:
        self.layout = number

    def resetSliceViews(self) -> None:
        for logic in self._logics.values():
            logic.FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Do nothing: there are none."""


class ModuleManager(QObject):
    """What ``slicer.app.moduleManager()`` is; also holds what ``slicer.modules`` shows."""

    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.modules = SimpleNamespace()

    def add(self, module: Any) -> None:
        setattr(self.modules, module.name.lower(), module)

    def module(self, name: str) -> Any:
        return getattr(self.modules, name.lower(), None)

    def factoryManager(self) -> Any:
        modules = [module for module in vars(self.modules).values() if hasattr(module, "name")]
        return SimpleNamespace(loadedModuleNames=lambda: tuple(module.name for module in modules))


@dataclass
class LoadableModule:
    """A module of C++: here only its logic."""

    name: str
    core_logic: Any

    def logic(self) -> Any:
        return self.core_logic

    def widgetRepresentation(self) -> None:
        return None


class qSlicerScriptedLoadableModule:
    """The module that Slicer makes of a Python file: ``slicer.modules.aidicombridge``."""

    def __init__(self, name: str, path: Path, modules: SimpleNamespace) -> None:
        self.name, self.path, self.modules = name, str(path), modules
        self.title, self.helpText, self.acknowledgementText = name, "", ""
        self.categories, self.contributors, self.dependencies = [], [], []
        self.hidden = False
        self.icon = None
        self._representation: Any = None
        self.instance = getattr(self.python(), name)(self)
        setattr(modules, name + "Instance", self.instance)

    def python(self) -> ModuleType:
        """Return the imported file, imported anew for every shell."""
        if self.name not in sys.modules or not hasattr(self, "instance"):
            spec = spec_from_file_location(self.name, self.path)
            sys.modules[self.name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[self.name])
        return sys.modules[self.name]

    def logic(self) -> None:
        return None  # as in Slicer, where a scripted module's logic belongs to its widget

    def widgetRepresentation(self) -> Any:
        if self._representation is None:
            self._representation = qSlicerScriptedLoadableModuleWidget(self)
        return self._representation

    def close(self) -> None:
        """Forget the widgets, which the window deletes."""
        self._representation = None

    def createNewWidgetRepresentation(self) -> Any:
        return qSlicerScriptedLoadableModuleWidget(self)


@close_class
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The widget that Slicer puts a scripted module's panel into."""

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        import slicer

        super().__init__()
        self._module = module
        QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)
        self._entered = False
        self.reload()

    @property
    def isEntered(self) -> bool:
        return self._entered

    def enter(self) -> None:
        self._entered = True
        self._python.enter()

    def exit(self) -> None:
        self._entered = False
        self._python.exit()

    def self(self) -> Any:
        return self._python

    def reload(self) -> None:
        """Make the Python widget anew, as after reloadScriptedModule."""
        name = self._module.name + "Widget"
        self._python = getattr(self._module.python(), name)(self)
        setattr(self._module.modules, name, self._python)
        self._python.setup()


@dataclass
class Message:
    """A dialog that Slicer would have shown. The kind is "info", "warning", "error" or "confirm"."""

    kind: str
    text: str
    detailed_text: str = ""


@dataclass
class Dialogs:
    """Stands in for Slicer's message boxes: notes them, and gives the answers queued, else ``default_answer``."""

    shown: list[Message] = field(default_factory=list)
    answers: deque[bool] = field(default_factory=deque)
    default_answer: bool = True

    def display(self, level: int, text: str, _testing: Any, needs_window: bool = False, **more: Any) -> int:
        """Take the place of ``slicer.util._messageDisplay``; the functions that call it are Slicer's own."""
        buttons = int(more.get("standardButtons", QMessageBox.StandardButton.Ok))
        question = buttons & (buttons - 1) != 0
        kind = "confirm" if question else logging.getLevelName(level).lower()
        self.shown.append(Message(kind, text, more.get("detailedText", "")))
        yes = (self.answers.popleft() if self.answers else self.default_answer) if question else True
        accepting = QMessageBox.StandardButton.Ok | QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Retry
        return buttons & int(accepting) if yes else buttons & ~int(accepting)
