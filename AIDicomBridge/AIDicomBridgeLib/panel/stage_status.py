"""The foot of every stage: one sentence, details on demand, and a bar with Cancel while something runs."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt
from slicer.i18n import tr as _

from ..errors import BridgeError, JobCancelled
from ..progress import Progress
from .advice import panel_text
from .task_runner import TaskRunner

ICON_SIZE = 16


class StageStatus:
    """Says in place what a stage is doing, what came of it, or what went wrong.

    Parameters
    ----------
    name
        Prefix of the widgets' object names.
    layout
        The stage's layout; the widgets are added to its end.
    runner
        Runs the flows; Cancel stops the one that runs.
    kept
        What is true of a cancelled step of this stage.
    """

    def __init__(self, name: str, layout: Any, runner: TaskRunner, kept: str = "") -> None:
        self._runner = runner
        self._icon = qt.QLabel()
        self._icon.setFixedSize(ICON_SIZE, ICON_SIZE)
        self.label = qt.QLabel()
        self.label.setObjectName(f"{name}StatusLabel")
        self.label.setWordWrap(True)
        self.label.setTextFormat(qt.Qt.PlainText)  # it may hold what an archive said
        self.label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
        self.details_button = qt.QToolButton()
        self.details_button.setObjectName(f"{name}DetailsButton")
        self.details_button.setText(_("Details"))
        self.details_button.setCheckable(True)
        self.details_button.setToolTip(_("Show what is known about the failure, for a report to the administrator."))
        self.details = qt.QPlainTextEdit()
        self.details.setObjectName(f"{name}Details")
        self.details.setReadOnly(True)
        self.details.setMaximumHeight(110)
        self.bar = qt.QProgressBar()
        self.bar.setObjectName(f"{name}ProgressBar")
        self.bar.setTextVisible(True)
        self.cancel_button = qt.QPushButton(_("Cancel"))
        self.cancel_button.setObjectName(f"{name}CancelButton")
        self.cancel_button.setToolTip(
            _("Stop at once. {kept}").format(kept=kept or _("What is complete is kept; nothing is left half-done."))
        )
        sentence = qt.QHBoxLayout()
        sentence.addWidget(self._icon, 0, qt.Qt.AlignTop)
        sentence.addWidget(self.label, 1)
        sentence.addWidget(self.details_button, 0, qt.Qt.AlignTop)
        activity = qt.QHBoxLayout()
        activity.addWidget(self.bar, 1)
        activity.addWidget(self.cancel_button)
        layout.addLayout(sentence)
        layout.addWidget(self.details)
        layout.addLayout(activity)
        self.details_button.connect("toggled(bool)", self.details.setVisible)
        self.cancel_button.connect("clicked()", runner.cancel)
        self._show_activity(False)
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self._show("", "", None)

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        self._show(sentence, "", qt.QStyle.SP_MessageBoxInformation)

    def add(self, sentence: str) -> None:
        """Show a sentence after what is shown now, with that one's details."""
        shown = f"{self.label.text} {sentence}".strip()
        self._show(shown, self.details.plainText, qt.QStyle.SP_MessageBoxWarning)

    def warn(self, sentence: str, details: str = "") -> None:
        """Show what went wrong, with its details one click away."""
        self._show(sentence, details, qt.QStyle.SP_MessageBoxWarning)

    def fail(self, error: BridgeError) -> None:
        """Show a named error: its sentence, and its fields as details."""
        fields = [f"{key}: {value}" for key, value in error.to_dict().items() if value is not None]
        self.warn(panel_text(error), "\n".join(fields))

    @contextmanager
    def running(self, sentence: str) -> Iterator[None]:
        """Show that something runs; at the end, that it was cancelled or what went wrong, and pass the exception on."""
        self.say(sentence)
        self._show_activity(True)
        self._runner.on_progress = self._show_progress
        try:
            yield
        except JobCancelled:
            self.say(_("Cancelled."))
            raise
        except BridgeError as error:
            self.fail(error)
            raise
        except Exception:
            self.warn(_("Something unexpected went wrong; the details tell where."), traceback.format_exc())
            raise
        finally:
            self._show_activity(False)
            self._runner.on_progress = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Show by bar and Cancel that something runs; the sentence of what was before stays."""
        self._show_activity(True)
        try:
            yield
        finally:
            self._show_activity(False)

    def _show_activity(self, shown: bool) -> None:
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self.bar.setVisible(shown)
        self.cancel_button.setVisible(shown)

    def _show_progress(self, progress: Progress) -> None:
        total = progress.total or 0
        # QProgressBar counts in 32 bits: bytes of a large file are shown in thousandths.
        self.bar.setRange(0, 1000 if total else 0)
        self.bar.setValue(min(1000, progress.completed * 1000 // total) if total else 0)
        counted = f"{progress.completed}/{total} {progress.unit}" if total else progress.unit
        self.bar.setFormat(f"{progress.stage}  {counted}".strip())

    def _show(self, sentence: str, details: str, icon: Any) -> None:
        self.label.setText(sentence)
        self.label.setVisible(bool(sentence))
        self._icon.setVisible(bool(sentence))
        if icon is not None:
            picture = qt.QApplication.style().standardIcon(icon)
            self._icon.setPixmap(picture.pixmap(ICON_SIZE, ICON_SIZE))
        self.details_button.setChecked(False)
        self.details_button.setVisible(bool(details))
        self.details.setPlainText(details)
        self.details.setVisible(False)
