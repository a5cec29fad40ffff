"""Look-alike of Slicer's Segment Editor: one slice to paint on, and one brush.

What a stroke does is left to Slicer's own ``vtkSlicerSegmentEditorLogic``, which slicer-core has: it masks, keeps other
segments free of what was painted, extends the labelmap, and sends the events.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QMouseEvent, QPixmap
from PySide6.QtWidgets import QLabel, QSpinBox, QVBoxLayout, QWidget
from vtk.util.numpy_support import vtk_to_numpy

from .node_widgets import qMRMLNodeComboBox, qMRMLSegmentsTableView

PIXELS_PER_VOXEL = 6
BRUSH_RADIUS_VOXELS = 4


class Slice(QLabel):
    """One slice, first row on top; a drag with the left button is a stroke of the brush."""

    def __init__(self, editor: "qMRMLSegmentEditorWidget") -> None:
        super().__init__()
        self._editor = editor
        self._spots: list[tuple[int, int]] = []

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._spots = []
        self.mouseMoveEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        spot = event.position()
        self._spots.append((int(spot.y()) // PIXELS_PER_VOXEL, int(spot.x()) // PIXELS_PER_VOXEL))

    def mouseReleaseEvent(self, _event: QMouseEvent) -> None:
        self._editor.paint(self._spots)


class qMRMLSegmentEditorWidget(QWidget):
    """The editor: choose a segment in the table and a slice, then paint."""

    def __init__(self, parent: QWidget | None = None) -> None:
        import slicer

        super().__init__(parent)
        self._parameters = slicer.vtkMRMLSegmentEditorNode()
        slicer.mrmlScene.AddNode(self._parameters)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSegmentEditorNode(self._parameters)
        self.segmentationNodeComboBox = qMRMLNodeComboBox()
        self.segmentationNodeComboBox.setNodeTypes(("vtkMRMLSegmentationNode",))
        self.segmentationNodeComboBox.setMRMLScene(slicer.mrmlScene)
        self.segmentsTableView = qMRMLSegmentsTableView()
        self.sliceSpinBox = QSpinBox()
        self.slice = Slice(self)
        self.slice.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        column = QVBoxLayout(self)
        for widget in (self.segmentationNodeComboBox, self.segmentsTableView, self.sliceSpinBox, self.slice):
            column.addWidget(widget)
        self.segmentationNodeComboBox.currentNodeChanged.connect(self.setSegmentationNode)
        self.sliceSpinBox.valueChanged.connect(self._draw)

    # What Slicer's has

    def segmentationNode(self) -> Any:
        return self._logic.GetSegmentationNode()

    def setSegmentationNode(self, node: Any) -> None:
        self._logic.SetSegmentationNode(node)
        self.segmentationNodeComboBox.setCurrentNode(node)
        self.segmentsTableView.setSegmentationNode(node)

    def sourceVolumeNode(self) -> Any:
        return self._logic.GetSourceVolumeNode()

    def setSourceVolumeNode(self, node: Any) -> None:
        self._logic.SetSourceVolumeNode(node)
        if node is not None:
            columns, rows, slices = node.GetImageData().GetDimensions()
            self.sliceSpinBox.setRange(0, slices - 1)
            self.slice.setFixedSize(columns * PIXELS_PER_VOXEL, rows * PIXELS_PER_VOXEL)
        self._draw()

    # What it takes

    def paint(self, spots: list[tuple[int, int]]) -> None:
        """Paint discs around spots, (row, column) of the shown slice, into the chosen segment."""
        logic = self._logic
        (segment_id,) = self.segmentsTableView.selectedSegmentIDs()
        logic.SetCurrentSegmentID(segment_id)
        assert logic.ResetModifierLabelmapToDefault(), "Slicer's editor does not take the segmentation"
        labelmap = logic.GetModifierLabelmap()
        first_column, _, first_row, _, first_slice, _ = labelmap.GetExtent()
        columns, rows, slices = labelmap.GetDimensions()
        voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(slices, rows, columns)
        row, column = np.ogrid[first_row : first_row + rows, first_column : first_column + columns]
        for center_row, center_column in spots:
            disc = (row - center_row) ** 2 + (column - center_column) ** 2 <= BRUSH_RADIUS_VOXELS**2
            voxels[self.sliceSpinBox.value - first_slice][disc] = 1
        labelmap.Modified()
        logic.SaveStateForUndo()
        logic.ModifySegmentByLabelmap(
            self.segmentationNode(), segment_id, labelmap, logic.ModificationModeAdd, True, False
        )
        self._draw()

    def _draw(self, *_: Any) -> None:
        import slicer

        volume = self.sourceVolumeNode()
        if volume is None:
            return
        shown = slicer.util.arrayFromVolume(volume)[self.sliceSpinBox.value].astype(float)
        low, high = np.percentile(shown, (1, 99))
        grey = np.clip((shown - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
        grey = np.ascontiguousarray(np.kron(grey, np.ones((PIXELS_PER_VOXEL, PIXELS_PER_VOXEL), np.uint8)))
        height, width = grey.shape
        self.slice.setPixmap(QPixmap(QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8)))


class SegmentEditorRepresentation(QWidget):
    """The widget that Slicer puts the module's into."""

    def __init__(self) -> None:
        super().__init__()
        self._python = SimpleNamespace(editor=qMRMLSegmentEditorWidget())
        QVBoxLayout(self).addWidget(self._python.editor)

    def self(self) -> Any:
        return self._python


class SegmentEditorModule:
    """``slicer.modules.segmenteditor``: its widget is made when it is first asked for, as in Slicer."""

    name = "SegmentEditor"

    def __init__(self) -> None:
        self._representation: SegmentEditorRepresentation | None = None

    def logic(self) -> None:
        return None

    def widgetRepresentation(self) -> Any:
        if self._representation is None:
            self._representation = SegmentEditorRepresentation()
        return self._representation

    def close(self) -> None:
        """Forget the widget, which the window deletes if it shows it."""
        self._representation = None
