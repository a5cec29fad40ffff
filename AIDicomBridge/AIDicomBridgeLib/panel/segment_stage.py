"""Stage 3, Segment: a model turns the volume into a segmentation node."""

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import DependencyError, NotFoundError
from ..models.card import ModelCard
from ..models.catalogue import Catalogue
from ..models.weights import WeightsFolder
from ..mrml.segment_summary import summarize_segments
from ..mrml.segmentation_node import segmentation_node_from
from ..mrml.slicer_packages import ensure_packages, ensure_torch
from ..mrml.source_files import SourceFiles
from ..mrml.volume_node import image_volume_from
from .availability import set_available
from .load_stage import LoadStage
from .stage_status import StageStatus
from .tables import prepare_table, show_rows
from .task_runner import Call, Flow, TaskRunner
from .views import open_segment_editor, show_surfaces

DEVICES = ("auto", "cpu", "cuda")
# Slicer makes surfaces on the main thread: with 52 million voxels 2 s for three smooth segments, 10 s for four noisy
# ones. Beyond this size the window is held up only if the person asks for it.
SURFACE_VOXEL_LIMIT = 20_000_000
COLUMN_WIDTHS = (24, 160, 90)
# A brush stroke fires several events; the table is counted anew when they stop.
RECOUNT_DELAY_MS = 300


class SegmentStage:
    """Runs a model on the chosen volume and lists what came out.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    sources
        Knows which files a volume node came from.

    Attributes
    ----------
    on_model_chosen
        Called with the model's name when a person chooses another.
    """

    def __init__(self, ui: Any, runner: TaskRunner, load: LoadStage, sources: SourceFiles) -> None:
        self._ui, self._runner, self._load, self._sources = ui, runner, load, sources
        self._cards = dict(Catalogue.load())
        self.on_model_chosen: Callable[[str], None] | None = None
        self._observed: tuple[Any, list[int]] | None = None
        self._recount = qt.QTimer()
        self._recount.setSingleShot(True)
        self._recount.setInterval(RECOUNT_DELAY_MS)
        self._recount.connect("timeout()", self._show_segments)
        self.status = StageStatus("segment", ui.segmentCollapsibleButton.layout(), runner)
        ui.cardLabel.setTextFormat(qt.Qt.PlainText)
        for name in self._cards:
            ui.modelComboBox.addItem(name)
        for device in DEVICES:
            ui.deviceComboBox.addItem(device)
        ui.deviceComboBox.setToolTip(_("auto: the GPU if PyTorch sees one, else the CPU."))
        ui.show3DCheckBox.setToolTip(
            _("Make surfaces of the segments. For a large volume it is left to you: the window waits for them.")
        )
        ui.modelComboBox.connect("currentIndexChanged(int)", lambda _index: self._model_chosen())
        ui.fetchWeightsButton.connect("clicked()", lambda: runner.start(self._fetch_flow()))
        ui.segmentButton.connect("clicked()", lambda: runner.start(self.flow()))
        ui.editSegmentsButton.connect("clicked()", self._edit)
        ui.show3DCheckBox.connect("toggled(bool)", self._show_3d)
        ui.segmentationComboBox.connect("currentNodeChanged(vtkMRMLNode*)", self._observe)
        prepare_table(ui.segmentsTable, COLUMN_WIDTHS)
        self._show_segments()

    @property
    def card(self) -> ModelCard | None:
        """The card of the chosen model."""
        return self._cards.get(self._ui.modelComboBox.currentText)

    def choose_model(self, name: str) -> None:
        """Choose a model by name; an unknown name, of another version's scene, changes nothing."""
        if name in self._cards:
            self._ui.modelComboBox.setCurrentIndex(list(self._cards).index(name))

    def missing_model(self) -> str:
        """Return why the chosen model cannot run, or an empty text."""
        if self.card is None:
            return _("Choose a model first.")
        return "" if self._weights_state()[0] else _("Fetch the weights of the model first.")

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        ui, card = self._ui, self.card
        no_volume = "" if self._load.volume_node else _("Choose or load a volume in stage 2 first.")
        set_available(ui.segmentButton, _("Run the model on the volume."), busy, no_volume, self.missing_model())
        none = "" if ui.segmentationComboBox.currentNode() else _("There is no segmentation yet.")
        set_available(
            ui.editSegmentsButton, _("Draw, erase, rename, and choose what a segment is; then come back."), none
        )
        present, sentence = self._weights_state()
        unneeded = _("There is nothing to fetch.") if present else ""
        set_available(ui.fetchWeightsButton, _("Download the weights and check their SHA-256."), busy, unneeded)
        ui.weightsLabel.setText(sentence)
        if card is not None:
            use = _("Not for diagnostic use.") if card.not_for_diagnostic_use else ""
            facts = _("For {modalities}. License: {licence}. {use}").format(
                modalities=", ".join(card.modalities), licence=card.licence, use=use
            )
            ui.cardLabel.setText(f"{card.title}, {card.version}. {card.description}\n{facts}")
            ui.cardLabel.setToolTip(_("Cite: {citation}").format(citation=card.citation))

    def flow(self) -> Flow:
        """Run the model on the chosen volume; return the segmentation node."""
        with self.status.running(_("Segmenting...")):
            ensure_packages("platformdirs", "safetensors")
            if self.card.network is not None:
                ensure_torch()
            volume_node = self._load.volume_node
            source = self._sources.source_of(volume_node, getattr(slicer, "dicomDatabase", None))
            image_volume_from(volume_node, source)  # refuses a volume that is not on its source's grid any more
            labels = yield Call(
                "segment",
                paths=list(source.paths),
                model=self._ui.modelComboBox.currentText,
                device=self._ui.deviceComboBox.currentText,
            )
            if not slicer.mrmlScene.IsNodePresent(volume_node):
                raise NotFoundError("the volume was removed from the scene while it was being segmented")
            node = segmentation_node_from(labels, slicer.mrmlScene, volume_node=volume_node)
        self._ui.segmentationComboBox.setCurrentNode(node)
        self.status.say(_("Done. Correct it if need be: what you see is what is sent."))
        if labels.labels.size > SURFACE_VOXEL_LIMIT:
            self._ui.show3DCheckBox.setChecked(False)
        else:
            show_surfaces(node, self._ui.show3DCheckBox.checked)
        return node

    def close(self) -> None:
        """Stop watching the segmentation."""
        self._recount.stop()
        self._unobserve()

    def _model_chosen(self) -> None:
        if self.on_model_chosen is not None:
            self.on_model_chosen(self._ui.modelComboBox.currentText)
        self._runner.notify()

    def _fetch_flow(self) -> Flow:
        with self.status.running(_("Fetching the weights...")):
            ensure_packages("platformdirs", "safetensors")
            yield Call("fetch_weights", model=self._ui.modelComboBox.currentText)
        self.status.say(_("The weights are here, and are the ones that the model's card names."))

    def _weights_state(self) -> tuple[bool, str]:
        """Return whether the chosen model can run as far as weights go, and a sentence on them."""
        card = self.card
        if card is None or card.weights is None:
            return True, _("none needed: the model is a set of rules")
        try:
            present = WeightsFolder.default().is_present(card)
        except DependencyError:
            present = False
        size_mb = card.weights.size / 1e6
        text = _("on this machine ({size:.1f} MB)") if present else _("not on this machine ({size:.1f} MB to fetch)")
        return present, text.format(size=size_mb)

    def _edit(self) -> None:
        open_segment_editor(self._ui.segmentationComboBox.currentNode())

    def _show_3d(self, shown: bool) -> None:
        node = self._ui.segmentationComboBox.currentNode()
        if node is not None:
            show_surfaces(node, shown)

    def _observe(self, node: Any) -> None:
        """Keep the table to the segmentation that is chosen, through every edit."""
        self._unobserve()
        if node is not None:
            segmentation = node.GetSegmentation()
            events = (
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
                slicer.vtkSegmentation.SourceRepresentationModified,
            )
            tags = [segmentation.AddObserver(event, self._segmentation_modified) for event in events]
            self._observed = (segmentation, tags)
        self._show_segments()

    def _unobserve(self) -> None:
        if self._observed is not None:
            segmentation, tags = self._observed
            for tag in tags:
                segmentation.RemoveObserver(tag)
            self._observed = None

    def _segmentation_modified(self, *_arguments: object) -> None:
        self._recount.start()

    def _show_segments(self) -> None:
        table, node = self._ui.segmentsTable, self._ui.segmentationComboBox.currentNode()
        found = summarize_segments(node) if node is not None else []
        show_rows(table, len(found))
        for row, segment in enumerate(found):
            swatch = qt.QTableWidgetItem()
            swatch.setBackground(qt.QBrush(qt.QColor(*segment.color_rgb)))
            volume = qt.QTableWidgetItem(f"{segment.volume_ml:.1f}")
            volume.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            meaning = qt.QTableWidgetItem(segment.meaning or _("no terminology: cannot be sent"))
            if not segment.meaning:
                meaning.setToolTip(_("Double-click the segment's colour in the Segment Editor and choose what it is."))
            for column, item in enumerate((swatch, qt.QTableWidgetItem(segment.name), volume, meaning)):
                table.setItem(row, column, item)
