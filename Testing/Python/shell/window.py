"""Slicer's window with the panel in it, for tests that click and type. Offscreen unless QT_QPA_PLATFORM says otherwise.

Importing this patches PySide6 for good: the tests that do so, in ``Testing/Python/panel``, run in their own process.

>>> with open_window() as shell:
...     shell.type(shell.ui.hostLineEdit, "127.0.0.1")
...     shell.click(shell.ui.findButton)
...     shell.wait_until(lambda: shell.ui.studyTree.topLevelItemCount == 1)
...     shell.screenshot("panel.png")
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from . import MODULE_FILE, open_shell, pythonqt

qt = pythonqt.install()

from PySide6.QtCore import QtMsgType, qInstallMessageHandler  # noqa: E402
from PySide6.QtTest import QTest  # noqa: E402

from . import application, looks, segment_editor, terminology  # noqa: E402

qt.QUiLoader = looks.QUiLoader

DEADLINE_S = 10.0

# What Qt says about the machine or its offscreen platform, and not about the panel.
_NOT_ABOUT_THE_PANEL = ("This plugin does not support", "QStandardPaths", "ontconfig", "XDG_RUNTIME_DIR", "QRhi", "EGL")


@contextmanager
def open_window(*, views: bool = True) -> Iterator["Window"]:
    """Open the module's panel from the real ``AIDicomBridge.py`` in a window, and close both at the end.

    At the end everything that went wrong unseen is raised: exceptions in slots, timers and observers, connections to
    signals that do not exist, warnings of Qt. Without ``views`` there is no layout manager, as with --no-main-window.
    """
    import slicer

    with ExitStack() as stack:
        stack.enter_context(_same_library())
        core = stack.enter_context(open_shell())
        app = qt.QApplication.instance() or application.qSlicerApplication(sys.argv[:1])
        app.begin(core, views)
        stack.callback(app.end)
        stack.enter_context(_noted_faults())
        dialogs = application.Dialogs()
        modules = app.moduleManager().modules
        for name, logic in core.module_logics.items():
            app.moduleManager().add(application.LoadableModule(name, logic))
        editor = segment_editor.SegmentEditorModule()
        app.moduleManager().add(editor)
        stack.callback(editor.close)
        names = {"app": app, "modules": modules, "dicomDatabase": app.dicomDatabase(), **looks.SLICER}
        for cls in (
            application.qSlicerScriptedLoadableModule,
            application.qSlicerScriptedLoadableModuleWidget,
            terminology.qSlicerTerminologyNavigatorWidget,
        ):
            names[cls.__name__] = cls
        for name, value in names.items():
            stack.enter_context(mock.patch.object(slicer, name, value, create=True))
        stack.enter_context(mock.patch.object(slicer.util, "_messageDisplay", dialogs.display))
        ctk = ModuleType("ctk", "Look-alike of Slicer's module ctk.")
        vars(ctk).update(looks.CTK)
        stack.enter_context(mock.patch.dict(sys.modules, {"ctk": ctk}))
        module = application.qSlicerScriptedLoadableModule("AIDicomBridge", MODULE_FILE, modules)
        app.moduleManager().add(module)
        stack.callback(sys.modules.pop, "AIDicomBridge", None)
        app.startupCompleted.emit()
        window = Window(core, module, dialogs)
        stack.enter_context(mock.patch.object(slicer.util, "selectModule", window.select_module))
        try:
            yield window
        finally:
            window.close()
        window.check()


@contextmanager
def _same_library() -> Iterator[None]:
    """Bring back the library's modules that tests hold, if a reload of the panel has put others in their place."""

    def library() -> dict[str, ModuleType]:
        return {name: found for name, found in sys.modules.items() if name.partition(".")[0] == "AIDicomBridgeLib"}

    before = library()
    try:
        yield
    finally:
        if library().get("AIDicomBridgeLib") is not before.get("AIDicomBridgeLib"):
            for name in library():
                del sys.modules[name]
            sys.modules.update(before)


@contextmanager
def _noted_faults() -> Iterator[None]:
    """Note in ``pythonqt.faults`` what Slicer would only print."""

    def note_exception(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        sys.__excepthook__(kind, error, traceback)
        pythonqt.faults.append(error)

    def note_message(kind: Any, _: Any, text: str) -> None:
        print(text, file=sys.stderr)  # noqa: T201 - as Qt does
        serious = kind not in {QtMsgType.QtDebugMsg, QtMsgType.QtInfoMsg}
        if serious and not any(part in text for part in _NOT_ABOUT_THE_PANEL):
            pythonqt.faults.append(pythonqt.PythonQtMistake(text))

    pythonqt.faults.clear()
    earlier = qInstallMessageHandler(note_message)
    with mock.patch.object(sys, "excepthook", note_exception):
        try:
            yield
        finally:
            qInstallMessageHandler(earlier)
            pythonqt.faults.clear()


class Window:
    """A window of the look-alike Slicer, with the hands of its user.

    Attributes
    ----------
    scene
        The vtkMRMLScene.
    dialogs
        The message boxes that would have been shown, and the answers to give.
    selected_modules
        The modules that the panel, or its user, went to.
    """

    def __init__(self, core: Any, module: Any, dialogs: application.Dialogs) -> None:
        self.scene = core.scene
        self.dialogs = dialogs
        self.selected_modules: list[str] = []
        self._module = module
        self.frame = qt.QMainWindow()
        self.frame.setWindowTitle("AIDicomBridge in the look-alike of 3D Slicer")
        self._scroll = qt.QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setWidget(module.widgetRepresentation())
        self.frame.setCentralWidget(self._scroll)
        self.frame.resize(560, 900)
        self.frame.show()
        module.widgetRepresentation().enter()
        self.process()

    @property
    def widget(self) -> Any:
        """The module's Python widget, AIDicomBridgeWidget; another one after a reload."""
        return self._module.widgetRepresentation().self()

    @property
    def logic(self) -> Any:
        return self.widget.logic

    @property
    def ui(self) -> Any:
        """The named widgets of the panel, also those that its code made."""
        import slicer

        return slicer.util.childWidgetVariables(self._module.widgetRepresentation())

    def show(self, widget: Any) -> None:
        """Show another widget in place of the one that is shown."""
        self._scroll.takeWidget()
        self._scroll.setWidget(widget)
        self.process()

    def select_module(self, name: str) -> None:
        """Go to another module, as with Slicer's module selector; those of C++ have no widget here."""
        import slicer

        self.selected_modules.append(name)
        there = slicer.app.moduleManager().module(name).widgetRepresentation()
        panel = self._module.widgetRepresentation()
        if self._scroll.widget() is panel and there is not panel:
            panel.exit()
        if there is None or there is self._scroll.widget():
            return
        self.show(there)
        if there is panel:
            panel.enter()
            self.process()

    def drag(self, widget: Any, start: Any, end: Any) -> None:
        """Press the left mouse button at one point of a widget (``qt.QPoint``), move to another and release it."""
        self._reach(widget)
        QTest.mousePress(widget, qt.Qt.LeftButton, qt.Qt.NoModifier, start)
        for step in range(1, 9):
            QTest.mouseMove(widget, start + (end - start) * step / 8)
        QTest.mouseRelease(widget, qt.Qt.LeftButton, qt.Qt.NoModifier, end)
        self.process()

    def close(self) -> None:
        """Close the window as Slicer does at exit: the panel's ``exit`` and ``cleanup``, then its widgets."""
        if self.frame is None:
            return
        self._module.widgetRepresentation().exit()
        qt.QApplication.instance().moduleManager().moduleAboutToBeUnloaded.emit(self._module.name)
        self.frame.close()
        self.frame.deleteLater()
        self.frame = self._scroll = None
        self._module.close()
        self.process()
        qt.QCoreApplication.sendPostedEvents(None, int(qt.QEvent.DeferredDelete))

    # What went wrong unseen

    def check(self) -> None:
        """Raise what went wrong in slots, timers and observers so far."""
        faults, pythonqt.faults[:] = list(pythonqt.faults), []
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise BaseExceptionGroup("Several things went wrong in the panel", faults)

    @contextmanager
    def expected_fault(self, kind: type[BaseException], match: str = "") -> Iterator[None]:
        """Expect exactly one fault of this class with this text, as ``tryWithErrorDisplay`` raises."""
        self.check()
        yield
        self.process(check=False)
        faults, pythonqt.faults[:] = list(pythonqt.faults), []
        assert len(faults) == 1, f"one {kind.__name__} was expected, not {faults}"
        assert isinstance(faults[0], kind), repr(faults[0])
        assert match in str(faults[0]), str(faults[0])

    # Time

    def process(self, *, check: bool = True) -> None:
        """Let Qt do what is due."""
        qt.QCoreApplication.processEvents()
        if check:
            self.check()

    def wait_until(self, condition: Callable[[], Any], deadline_s: float = DEADLINE_S, what: str = "") -> None:
        """Run Qt's event loop until the condition holds; an AssertionError if it does not within the deadline."""
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                self.screenshot_on_failure()
                raise AssertionError(f"{what or 'What was waited for'} did not happen within {deadline_s:g} s")
            self.process()
            time.sleep(0.005)
        self.process()

    # Hands

    def click(self, widget: Any) -> None:
        """Click on a button, check box or the title of a collapsible section, as a user can: shown and enabled."""
        self._reach(widget)
        spot = qt.QPoint()
        if isinstance(widget, looks.ctkCollapsibleButton):
            spot = widget.head().center()
        elif isinstance(widget, qt.QCheckBox | qt.QRadioButton):
            spot = qt.QPoint(10, widget.height // 2)  # it takes clicks on its box and text only
        QTest.mouseClick(widget, qt.Qt.LeftButton, qt.Qt.NoModifier, spot)
        self.process()

    def type(self, widget: Any, text: str, *, replace: bool = True, enter: bool = False) -> None:
        """Type into a line, text or number field, by default over what it has."""
        self._reach(widget)
        widget.setFocus()
        if replace:
            QTest.keyClick(widget, qt.Qt.Key_A, qt.Qt.ControlModifier)
            QTest.keyClick(widget, qt.Qt.Key_Delete)
        QTest.keyClicks(widget, text)
        if enter:
            QTest.keyClick(widget, qt.Qt.Key_Return)
        self.process()

    def choose(self, box: Any, text: str) -> None:
        """Open a combo box, a node selector's too, and click on the item with this text."""
        box = box.comboBox() if hasattr(box, "comboBox") else box
        self._reach(box)
        texts = [box.itemText(row) for row in range(box.count)]
        assert text in texts, f"{text!r} is none of {texts}"
        index = box.model().index(texts.index(text), box.modelColumn, box.rootModelIndex())
        assert index.flags() & qt.Qt.ItemIsEnabled, f"{text!r} is disabled"
        box.showPopup()
        self.process()
        self._click_at(box.view(), index)

    def click_item(
        self, view: Any, text: str, *, column: int | None = None, double: bool = False, extend: bool = False
    ) -> None:
        """Click on the first item of a list, table or tree that shows exactly this text; its branch must be open.

        ``extend`` holds Ctrl down, so that what was chosen stays chosen.
        """
        self._reach(view)
        for index in self._indexes(view.model(), qt.QModelIndex()):
            if index.data() == text and column in {None, index.column()}:
                self._click_at(view, index, double=double, extend=extend)
                return
        raise AssertionError(f"No item shows {text!r}; there are {self.texts(view)}")

    def click_header(self, view: Any, column: int) -> None:
        """Click on the title of a column, which sorts by it; a second click turns the order around."""
        self._reach(view)
        header = view.header() if hasattr(view, "header") else view.horizontalHeader()
        spot = qt.QPoint(header.sectionViewportPosition(column) + header.sectionSize(column) // 2, header.height // 2)
        QTest.mouseClick(header.viewport(), qt.Qt.LeftButton, qt.Qt.NoModifier, spot)
        self.process()

    def texts(self, view: Any) -> list[str]:
        """Return the texts of a list, table or tree, row by row, children after their parent."""
        return [index.data() for index in self._indexes(view.model(), qt.QModelIndex()) if index.data()]

    def press(self, widget: Any, key: Any, modifiers: Any = 0) -> None:
        """Press one key (``qt.Qt.Key_...``) in a widget."""
        self._reach(widget)
        QTest.keyClick(widget, key, qt.Qt.KeyboardModifier(modifiers))
        self.process()

    def screenshot(self, path: str | Path, *, whole: bool = False) -> Path:
        """Write the window as PNG; ``whole``: the panel alone, with what one must scroll to."""
        self.process()
        shown = self._module.widgetRepresentation() if whole else self.frame
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert shown.grab().save(str(path)), f"{path} could not be written"
        return path

    def screenshot_on_failure(self) -> None:
        """Leave a picture where AIDICOMBRIDGE_SCREENSHOTS says, if it says, for the one who looks into a failure."""
        folder = os.environ.get("AIDICOMBRIDGE_SCREENSHOTS")
        if folder and self.frame is not None:
            self.frame.grab().save(str(Path(folder) / f"failure-{time.time_ns()}.png"))

    def _reach(self, widget: Any) -> None:
        name = widget.objectName or widget.className()
        if widget.window() is self.frame:
            self.process()  # lays out what has just changed
            self._scroll.ensureWidgetVisible(widget)
            self.process()
        assert widget.isVisible(), f"{name} is not shown"
        assert widget.isEnabled(), f"{name} is disabled"
        assert not widget.visibleRegion().isEmpty(), f"{name} is covered or has no size"

    def _click_at(self, view: Any, index: Any, *, double: bool = False, extend: bool = False) -> None:
        view.scrollTo(index)
        self.process()
        place = view.visualRect(index)
        assert not place.isEmpty(), f"the item {index.data()!r} is not shown"
        spot = qt.QPoint(min(place.left() + 8, place.right()), place.center().y())
        modifier = qt.Qt.ControlModifier if extend else qt.Qt.NoModifier
        QTest.mouseClick(view.viewport(), qt.Qt.LeftButton, modifier, spot)
        if double:
            QTest.mouseDClick(view.viewport(), qt.Qt.LeftButton, qt.Qt.NoModifier, spot)
        self.process()

    def _indexes(self, model: Any, parent: Any) -> Iterator[Any]:
        for row in range(model.rowCount(parent)):
            for column in range(model.columnCount(parent)):
                yield model.index(row, column, parent)
            yield from self._indexes(model, model.index(row, 0, parent))
