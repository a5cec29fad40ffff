"""Look-alikes of the few widgets of CTK that a panel needs.

They have the properties, methods and signals that Python code uses, with Slicer's defaults. They do not look like the
real ones, and have no popups, menus, drag and drop or renaming.
"""

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Property, QPoint, QRect, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QToolButton,
    QWidget,
)

from .pythonqt import close_class

_NO_LIMIT = 16777215  # what Qt takes for "no limit" of a height


def stored(kind: type | str, name: str, default: Any) -> tuple[Property, Callable[[Any, Any], None]]:
    """Return a Qt property that only keeps what it is given, and its ``setX`` method."""

    def write(self: Any, value: Any) -> None:
        vars(self)["_" + name] = value

    return Property(kind, lambda self: vars(self).get("_" + name, default), write), write


@close_class
class ctkCollapsibleButton(QAbstractButton):
    """A button with content below it that can be hidden. As in CTK it is a button itself, with its content inside."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[argument for argument in arguments if isinstance(argument, QWidget)])
        self.setText(next((argument for argument in arguments if isinstance(argument, str)), ""))
        self._hidden: list[QWidget] = []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._fold)
        self._fold(True)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, on: self.setChecked(not on))
    collapsedHeight, setCollapsedHeight = stored(int, "collapsedHeight", 10)
    contentsLineWidth, setContentsLineWidth = stored(int, "contentsLineWidth", 1)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    def head(self) -> QRect:
        """Return where the title is, which alone takes clicks; not in CTK."""
        return QRect(0, 0, self.width, self.fontMetrics().height() + 8)

    def hitButton(self, position: QPoint) -> bool:
        return self.head().contains(position)

    def paintEvent(self, _: Any) -> None:
        painter, option = QStylePainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect = self.head()
        painter.drawPrimitive(QStyle.PrimitiveElement.PE_PanelButtonCommand, option)
        arrow = QStyle.PrimitiveElement
        option.rect = self.head().adjusted(6, 6, 0, -6)
        option.rect.setWidth(option.rect.height())
        painter.drawPrimitive(arrow.PE_IndicatorArrowDown if self.checked else arrow.PE_IndicatorArrowRight, option)
        start = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.drawItemText(self.head().adjusted(24, 0, 0, 0), start, self.palette, self.enabled, self.text)

    def showEvent(self, event: Any) -> None:
        self._hide_or_show_content()
        super().showEvent(event)

    def _fold(self, opened: bool) -> None:
        height = self.head().height() + 2
        self.setContentsMargins(0, height, 0, 0)
        self.setMaximumHeight(_NO_LIMIT if opened else height)
        self._hide_or_show_content()
        self.contentsCollapsed.emit(not opened)

    def _hide_or_show_content(self) -> None:
        if self.checked:
            shown, self._hidden = self._hidden, []
            for child in shown:
                child.show()
        else:
            # A child that the panel itself had hidden stays hidden when the section is opened again.
            content = [child for child in self.children() if isinstance(child, QWidget)]
            hidden = [child for child in content if not child.isHidden() and not child.isWindow()]
            self._hidden += hidden
            for child in hidden:
                child.hide()


@close_class
class ctkComboBox(QComboBox):
    """A combo box with a text for "nothing chosen"."""

    defaultText, setDefaultText = stored(str, "defaultText", "")
    elideMode, setElideMode = stored(int, "elideMode", 0)


@close_class
class ctkPathLineEdit(QWidget):
    """A line for a path, with a button that opens a file dialog."""

    Files, Dirs = 0x002, 0x001
    currentPathChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = QComboBox(self)
        self._line.setEditable(True)
        button = QToolButton(self)
        button.setText("...")
        button.clicked.connect(self.browse)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._line, 1)
        row.addWidget(button)
        self._line.currentTextChanged.connect(self.currentPathChanged)

    def _path(self) -> str:
        return self._line.currentText

    def setCurrentPath(self, path: str) -> None:
        self._line.setEditText(path)

    def browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self)
        if path:
            self.setCurrentPath(path)

    def comboBox(self) -> QComboBox:
        return self._line

    def addCurrentPathToHistory(self) -> None:
        """Do nothing: no history is kept."""

    currentPath = Property(str, _path, setCurrentPath)
    filters, setFilters = stored(int, "filters", 0)
    settingKey, setSettingKey = stored(str, "settingKey", "")
    showHistoryButton, setShowHistoryButton = stored(bool, "showHistoryButton", True)
