"""Look-alike of Slicer's terminology navigator: a table of a few types, of which one is chosen."""

from typing import Any

from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from .pythonqt import close_class

# Category and type: code, scheme and meaning of each.
TYPES = {
    "Mass": (("49755003", "SCT", "Morphologically Altered Structure"), ("4147007", "SCT", "Mass")),
    "Kidney": (("123037004", "SCT", "Anatomical Structure"), ("64033007", "SCT", "Kidney")),
    "Tissue": (("85756007", "SCT", "Tissue"), ("85756007", "SCT", "Tissue")),
}


@close_class
class qSlicerTerminologyNavigatorWidget(QWidget):
    """Has the methods, the signals and the property of Slicer's that Python can use."""

    selectionValidityChanged = Signal(bool)
    typeDoubleClicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._override = True
        self._types = QTableWidget(len(TYPES), 1, self)
        for row, name in enumerate(TYPES):
            self._types.setItem(row, 0, QTableWidgetItem(name))
        self._types.itemSelectionChanged.connect(
            lambda: self.selectionValidityChanged.emit(bool(self._types.selectedItems()))
        )
        self._types.itemDoubleClicked.connect(lambda _: self.typeDoubleClicked.emit())
        QVBoxLayout(self).addWidget(self._types)

    def table_of_types(self) -> QTableWidget:
        """Return what a person clicks on; not in Slicer's."""
        return self._types

    def _set_override(self, shown: bool) -> None:
        self._override = shown

    overrideSectionVisible = Property(bool, lambda self: self._override, _set_override)

    def setTerminologyEntry(self, entry: Any) -> bool:
        return False

    def terminologyEntry(self, entry: Any) -> bool:
        """Write the choice into a vtkSlicerTerminologyEntry; False if there is none."""
        import slicer

        chosen = self._types.selectedItems()
        if not chosen:
            return False
        category, kind = ("^".join((code[1], code[0], code[2])) for code in TYPES[chosen[0].text()])
        text = f"A context~{category}~{kind}~^^~A region context~^^~^^"
        return slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(text, entry)
