"""Look-alikes of the few widgets of Slicer that a panel needs.

They have the properties, methods and signals that Python code uses, with Slicer's defaults. They do not look like the
real ones, and have no popups, menus, drag and drop or renaming.
"""

from functools import partial
from typing import Any

from PySide6.QtCore import SIGNAL, Property, QObject, QSignalBlocker, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from .ctk_widgets import stored
from .pythonqt import close_class


def _forget(observed: list[tuple[Any, int]], *_: Any) -> None:
    for thing, tag in observed:
        thing.RemoveObserver(tag)
    observed.clear()


@close_class
class qMRMLWidget(QWidget):
    """A widget that hands the scene on to those that are connected to it."""

    mrmlSceneChanged = Signal(object)
    cpp_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}  # noqa: RUF012

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@close_class
class qMRMLNodeComboBox(QWidget):
    """Chooses one node of given classes, and follows the scene. Disabled while it has none."""

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    mrmlSceneChanged = Signal(object)
    cpp_signals = {  # noqa: RUF012
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated(PyObject)",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded(PyObject)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved(PyObject)",
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observed: list[tuple[Any, int]] = []
        self.destroyed.connect(partial(_forget, self._observed))
        self._types: list[str] = []
        self._none = False
        self._none_text = "None"
        self._nodes: list[Any] = []
        self._current: Any = None
        self._combo = QComboBox(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._combo)
        self._combo.currentIndexChanged.connect(self._chosen)
        self._combo.activated.connect(lambda _: self.nodeActivated.emit(self._current))
        self.setEnabled(False)

    # What Slicer's has

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        import slicer

        if scene is self._scene:
            return
        _forget(self._observed)
        self._scene = scene
        if scene is not None:
            events = {
                slicer.vtkMRMLScene.NodeAddedEvent: self._node_added,
                slicer.vtkMRMLScene.NodeRemovedEvent: self._node_removed,
                slicer.vtkMRMLScene.EndBatchProcessEvent: self._refill,
            }
            self._observed += [(scene, scene.AddObserver(event, function)) for event, function in events.items()]
        self._refill()
        self.setEnabled(scene is not None)
        self.mrmlSceneChanged.emit(scene)

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        node = self._scene.GetNodeByID(node) if isinstance(node, str) and self._scene else node
        self._choose(node if node in self._nodes else None)

    def setCurrentNodeID(self, node_id: str) -> None:
        self.setCurrentNode(node_id)

    def setCurrentNodeIndex(self, index: int) -> None:
        self._choose(self._nodes[index] if 0 <= index < len(self._nodes) else None)

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index]

    def comboBox(self) -> QComboBox:
        return self._combo

    def setNodeTypes(self, types: Any) -> None:
        self._types = list(types)
        self._refill()

    def setNoneEnabled(self, enabled: bool) -> None:
        self._none = enabled
        self._refill()

    def setNoneDisplay(self, text: str) -> None:
        self._none_text = text
        self._refill()

    nodeTypes = Property("QStringList", lambda self: tuple(self._types), setNodeTypes)
    noneEnabled = Property(bool, lambda self: self._none, setNoneEnabled)
    noneDisplay = Property(str, lambda self: self._none_text, setNoneDisplay)
    currentNodeID = Property(str, lambda self: self._current.GetID() if self._current else "", setCurrentNodeID)
    addEnabled, setAddEnabled = stored(bool, "addEnabled", True)
    removeEnabled, setRemoveEnabled = stored(bool, "removeEnabled", True)
    editEnabled, setEditEnabled = stored(bool, "editEnabled", False)
    renameEnabled, setRenameEnabled = stored(bool, "renameEnabled", False)
    showHidden, setShowHidden = stored(bool, "showHidden", False)
    showChildNodeTypes, setShowChildNodeTypes = stored(bool, "showChildNodeTypes", True)
    selectNodeUponCreation, setSelectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName, setBaseName = stored(str, "baseName", "")

    # What it takes

    def _shows(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if self.showChildNodeTypes:
            return any(node.IsA(name) for name in self._types)
        return node.GetClassName() in self._types

    def _node_added(self, *_: Any) -> None:
        if self._scene.IsBatchProcessing():
            return
        before = list(self._nodes)
        self._refill()
        for node in [node for node in self._nodes if node not in before]:
            self._observed.append((node, node.AddObserver("ModifiedEvent", self._renamed)))
            self.nodeAdded.emit(node)

    def _node_removed(self, *_: Any) -> None:
        if not self._scene.IsBatchProcessing():
            self._refill()

    def _renamed(self, node: Any, _: str) -> None:
        if node in self._nodes:
            self._combo.setItemText(self._nodes.index(node) + self._none, node.GetName())

    def _refill(self, *_: Any) -> None:
        scene = self._scene
        every = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())] if scene is not None else []
        gone = self._nodes.index(self._current) if self._current in self._nodes else 0
        self._nodes = [node for node in every if self._shows(node)]
        with QSignalBlocker(self._combo):
            self._combo.clear()
            if self._none:
                self._combo.addItem(self._none_text)
            for node in self._nodes:
                self._combo.addItem(node.GetName())
            self._combo.setCurrentIndex(self._row(self._current))
        if self._current in self._nodes:
            self._choose(self._current)
        elif self._current is not None and self._nodes:
            # As Qt does in any combo box whose current row is removed: the next one moves up, or the last is taken.
            self._choose(self._nodes[min(gone, len(self._nodes) - 1)])
        else:
            self._choose(self._nodes[0] if self._nodes and not self._none else None)

    def _row(self, node: Any) -> int:
        if node in self._nodes:
            return self._nodes.index(node) + self._none
        return 0 if self._none else -1

    def _choose(self, node: Any) -> None:
        with QSignalBlocker(self._combo):
            self._combo.setCurrentIndex(self._row(node))
        if node is not self._current:
            self._current = node
            self.currentNodeChanged.emit(node)
            QObject.emit(self, SIGNAL("currentNodeChanged(bool)"), node is not None)
            self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _chosen(self, row: int) -> None:
        number = row - self._none
        self._choose(self._nodes[number] if 0 <= number < len(self._nodes) else None)


@close_class
class qMRMLSegmentsTableView(QWidget):
    """Lists the segments of one node with a tick for "visible"; follows the node."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._observed: list[tuple[Any, int]] = []
        self.destroyed.connect(partial(_forget, self._observed))
        self._table = QTableWidget(0, 2, self)
        self._table.setHorizontalHeaderLabels(["", "Name"])
        self._table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        QVBoxLayout(self).addWidget(self._table)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        import slicer

        _forget(self._observed)
        self._node = node
        changes = slicer.vtkSegmentation
        events = (
            *(changes.SegmentAdded, changes.SegmentRemoved, changes.SegmentModified),
            slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent,
        )
        if node is not None:
            self._observed += [(node, node.AddObserver(event, self._refill)) for event in events]
        self._refill()

    def segmentCount(self) -> int:
        return self._table.rowCount

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return tuple(self._node.GetSegmentation().GetNthSegmentID(row) for row in rows)

    def _refill(self, *_: Any) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        self._table.setRowCount(segmentation.GetNumberOfSegments() if segmentation else 0)
        for row in range(self._table.rowCount):
            name = segmentation.GetNthSegment(row).GetName()
            if self._table.item(row, 1) is None or self._table.item(row, 1).text() != name:
                self._table.setItem(row, 1, QTableWidgetItem(name))
            self._show_visibility(row, segmentation.GetNthSegmentID(row))

    def _show_visibility(self, row: int, segment_id: str) -> None:
        display = self._node.GetDisplayNode()
        box = self._table.cellWidget(row, 0)
        if box is None:
            box = QCheckBox()
            box.toggled.connect(lambda on, row=row: self._set_visible(row, on))
            self._table.setCellWidget(row, 0, box)
        with QSignalBlocker(box):
            box.setChecked(bool(display) and bool(display.GetSegmentVisibility(segment_id)))

    def _set_visible(self, row: int, on: bool) -> None:
        display = self._node.GetDisplayNode()
        if display:
            display.SetSegmentVisibility(self._node.GetSegmentation().GetNthSegmentID(row), on)
