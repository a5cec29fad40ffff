"""The look-alikes of CTK's and Slicer's widgets by name, and the loader that makes them from a .ui."""

from typing import Any
from xml.etree import ElementTree

from PySide6.QtCore import QBuffer
from PySide6.QtUiTools import QUiLoader as PlainLoader
from PySide6.QtWidgets import (
    QWidget,
)

from .ctk_widgets import ctkCollapsibleButton, ctkComboBox, ctkPathLineEdit
from .node_widgets import qMRMLNodeComboBox, qMRMLSegmentsTableView, qMRMLWidget
from .pythonqt import PythonQtMistake, faults

CTK = {cls.__name__: cls for cls in (ctkCollapsibleButton, ctkComboBox, ctkPathLineEdit)}
SLICER = {cls.__name__: cls for cls in (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentsTableView)}


class QUiLoader(PlainLoader):
    """Makes the look-alikes too, and the connections that hand the scene on, which Qt does not know."""

    def createWidget(self, name: str, parent: QWidget | None = None, object_name: str = "") -> QWidget:
        cls = (CTK | SLICER).get(name)
        if cls is None:
            if name[0] == "q" or name.startswith("ctk"):
                faults.append(PythonQtMistake(f"The shell has no look-alike of {name}: write one in shell"))
                name = "QWidget"
            return super().createWidget(name, parent, object_name)
        widget = cls(parent)
        widget.setObjectName(object_name)
        return widget

    def load(self, device: Any, parent: QWidget | None = None) -> QWidget | None:
        document = ElementTree.fromstring(bytes(device.readAll()))  # noqa: S314 - a file of this repository
        connections = []
        for block in document.findall("connections"):
            for connection in block.findall("connection"):
                parts = {part.tag: part.text for part in connection}
                if "vtkMRML" in parts["signal"]:
                    connections.append(parts)
                    block.remove(connection)
        buffer = QBuffer()
        buffer.setData(ElementTree.tostring(document))
        buffer.open(QBuffer.OpenModeFlag.ReadOnly)
        root = super().load(buffer, parent)
        named = {widget.objectName: widget for widget in [root, *root.findChildren(QWidget)]}
        for parts in connections:
            slot = getattr(named[parts["receiver"]], parts["slot"].partition("(")[0])
            named[parts["sender"]].connect(parts["signal"], slot)
        return root
