"""Slicer's terminology navigator in a dialog, to say what a segment is.

Slicer has such a dialog itself, but hands its choice out to C++ only.
"""

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..mrml.terminology import choose_terminology


class TerminologyDialog:
    """Asks for the terminology of one segment and sets it. The window goes on meanwhile.

    Parameters
    ----------
    parent
        The window that it belongs to.
    node_id, segment_id
        The segment. It is looked up again at the end: it may have been removed.
    """

    def __init__(self, parent: Any, node_id: str, segment_id: str) -> None:
        self._node_id, self._segment_id = node_id, segment_id
        self._dialog: Any = qt.QDialog(parent)
        target = self._target()
        name = target.GetName() if target is not None else ""
        self._dialog.setWindowTitle(_("What is the segment '{name}'?").format(name=name))
        self.navigator = slicer.qSlicerTerminologyNavigatorWidget()
        self.navigator.overrideSectionVisible = False
        self.select_button = qt.QPushButton(_("Select"))
        self.select_button.setEnabled(False)
        self.select_button.setToolTip(_("Choose a category and a type first."))
        self.cancel_button = qt.QPushButton(_("Cancel"))
        layout = qt.QVBoxLayout(self._dialog)
        layout.addWidget(self.navigator)
        buttons = qt.QHBoxLayout()
        buttons.addWidget(self.select_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        layout.addLayout(buttons)
        self.navigator.connect("selectionValidityChanged(bool)", self._validity_changed)
        self.navigator.connect("typeDoubleClicked()", self._select)
        self.select_button.connect("clicked()", self._select)
        self.cancel_button.connect("clicked()", self._dialog.reject)
        self._dialog.connect("finished(int)", self._finished)

    def open(self) -> None:
        """Show the dialog and return at once."""
        self._dialog.open()

    def close(self) -> None:
        """Take the dialog away; nothing is chosen. Safe to call twice."""
        if self._dialog is not None:
            self._dialog.reject()

    def _finished(self, _result: int) -> None:
        """Delete the dialog with its navigator: its parent, Slicer's window, would keep it."""
        dialog, self._dialog = self._dialog, None
        dialog.deleteLater()

    def _validity_changed(self, valid: bool) -> None:
        self.select_button.setEnabled(valid)
        self.select_button.setToolTip("" if valid else _("Choose a category and a type first."))

    def _select(self) -> None:
        entry = slicer.vtkSlicerTerminologyEntry()
        target = self._target()
        if target is not None and self.navigator.terminologyEntry(entry):
            choose_terminology(target, slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(entry))
        self._dialog.accept()

    def _target(self) -> Any:
        node = slicer.mrmlScene.GetNodeByID(self._node_id)
        return node.GetSegmentation().GetSegment(self._segment_id) if node is not None else None
