"""The segments of the chosen segmentation, through every edit, each with its volume and what it is."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..mrml.segment_summary import SegmentSummary, summarize_in_steps
from ..series.source_series import SourceSeries
from .tables import prepare_table, show_rows
from .task_runner import BITE_S
from .terminology_dialog import TerminologyDialog

COLUMN_WIDTHS = (24, 160, 90)
# A brush stroke fires several events; the table is counted anew when they stop.
RECOUNT_DELAY_MS = 300


class SegmentList:
    """Keeps the table to one segmentation node.

    Parameters
    ----------
    table
        The table: colour, name, volume, meaning.
    source_of
        Gives the series that a segmentation node belongs to, or None while it is not known.

    Attributes
    ----------
    on_edited
        Called at every change of the segments.
    """

    def __init__(self, table: Any, source_of: Callable[[Any], SourceSeries | None]) -> None:
        self._table, self._source_of = table, source_of
        self._source: SourceSeries | None = None  # by which was counted
        self.on_edited: Callable[[], None] = lambda: None
        self._node_id = ""
        self._observed: tuple[Any, list[int]] | None = None
        self._dialog: TerminologyDialog | None = None
        self._shown, self._stale = True, False
        self._steps: Iterator[list[SegmentSummary] | None] = iter(())
        self._next_bite = qt.QTimer()
        self._next_bite.setSingleShot(True)
        self._next_bite.setInterval(0)
        self._next_bite.connect("timeout()", self._count)
        self._recount = qt.QTimer()
        self._recount.setSingleShot(True)
        self._recount.setInterval(RECOUNT_DELAY_MS)
        self._recount.connect("timeout()", self._show)
        prepare_table(table, COLUMN_WIDTHS)
        self._show()

    def watch(self, node: Any) -> None:
        """List the segments of another node, or of none."""
        self.close()
        self._node_id = node.GetID() if node is not None else ""
        if node is not None:
            # The node's own events, which it passes on: they outlast the vtkSegmentation of the moment.
            events = (
                slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent,
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
                slicer.vtkSegmentation.SourceRepresentationModified,
            )
            self._observed = (node, [node.AddObserver(event, self._modified) for event in events])
        show_rows(self._table, 0)  # until the counting is done: a row's button means a segment of its own node
        self._show()

    def show(self) -> None:
        """Take note that the panel is seen; what changed meanwhile is counted now."""
        self._shown = True
        if self._stale:
            self._show()

    def hide(self) -> None:
        """Take note that the panel is not seen: nothing is counted until it is. The Segment Editor needs the time."""
        self._shown = False

    def update(self) -> None:
        """Count anew if the series of the segmentation has become known, or is another one now."""
        node = self._node
        if node is not None and self._source_of(node) is not self._source:
            self._stale = True
            self._show()

    def close(self) -> None:
        """Let go of the node. Safe to call twice."""
        self._recount.stop()
        self._next_bite.stop()
        self._node_id = ""
        if self._dialog is not None:
            self._dialog.close()
            self._dialog = None
        if self._observed is not None:
            node, tags = self._observed
            for tag in tags:
                node.RemoveObserver(tag)
            self._observed = None

    @property
    def dialog(self) -> TerminologyDialog | None:
        """The dialog that was opened last, for tests."""
        return self._dialog

    @property
    def _node(self) -> Any:
        return slicer.mrmlScene.GetNodeByID(self._node_id) if self._node_id else None

    def _modified(self, *_arguments: object) -> None:
        self._next_bite.stop()
        self._stale = True
        if self._shown:
            self._recount.start()
        self.on_edited()

    def _show(self) -> None:
        if not self._shown and self._stale:
            return
        node = self._node
        self._stale = False
        self._source = self._source_of(node) if node is not None else None
        self._steps = summarize_in_steps(node, self._source) if node is not None else iter([[]])
        self._count()

    def _count(self) -> None:
        bite_end = time.monotonic() + BITE_S
        for found in self._steps:
            if found is not None:
                self._fill(found)
            elif time.monotonic() > bite_end:
                self._next_bite.start()
                return

    def _fill(self, found: list[SegmentSummary]) -> None:
        show_rows(self._table, len(found))
        for row, segment in enumerate(found):
            swatch = qt.QTableWidgetItem()
            swatch.setBackground(qt.QBrush(qt.QColor(*segment.color_rgb)))
            volume = qt.QTableWidgetItem(_volume_text(segment.volume_ml))
            volume.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            volume.setToolTip(self._how_counted(segment))
            name, meaning = (qt.QTableWidgetItem(text) for text in (segment.name, segment.meaning or _("not said yet")))
            for item in (name, meaning):
                item.setToolTip(item.text())  # the column may be too narrow for it
            for column, item in enumerate((swatch, name, volume, meaning)):
                self._table.setItem(row, column, item)
            if segment.meaning:
                self._table.removeCellWidget(row, len(COLUMN_WIDTHS))
            else:
                self._table.setCellWidget(row, len(COLUMN_WIDTHS), self._choose_button(segment))

    @staticmethod
    def _how_counted(segment: SegmentSummary) -> str:
        if segment.volume_ml is None:
            return _("A surface only. Before it can be sent: Segmentations module, Representations, Binary labelmap.")
        if segment.on_slices:
            return _("What lies on the slices of the series, as the measurement report states it.")
        return _(
            "All voxels of the segmentation as Slicer keeps it. Its series is not known here, or has another grid: a "
            "measurement report may state another volume."
        )

    def _choose_button(self, segment: SegmentSummary) -> Any:
        button = qt.QPushButton(_("Say what it is..."))
        button.setToolTip(_("A segment without a code from a terminology cannot be sent: its name is for people only."))
        button.connect("clicked()", lambda: self._choose(segment.segment_id))
        return button

    def _choose(self, segment_id: str) -> None:
        self._dialog = TerminologyDialog(self._table.window(), self._node_id, segment_id)
        self._dialog.open()


def _volume_text(volume_ml: float | None) -> str:
    """Return a volume with three digits at least, so that a small lesion is not shown as nothing."""
    if not volume_ml:
        return "-" if volume_ml is None else "0"
    return f"{volume_ml:.1f}" if volume_ml >= 10 else f"{volume_ml:#.3g}"
