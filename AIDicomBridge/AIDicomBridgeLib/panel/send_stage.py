"""Stage 4, Send: a segmentation, with all its edits, goes to an archive as DICOM, and is proved to have arrived."""

import shutil
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..delivery.deliver import DeliveryReport
from ..errors import BridgeError, ConflictError, JobCancelled, NotFoundError
from ..mrml.segment_layers import refuse_edits_of
from ..mrml.segmentation_node import image_files_of, label_layers_from, noted_provenance, reference_volume_node
from ..mrml.slicer_packages import ensure_packages
from ..mrml.source_files import SourceFiles
from ..pacs.endpoint import Endpoint
from ..private_folder import PrivateFolder
from ..results.label_layers import LabelLayer
from ..series.source_series import SourceSeries
from ..series.subject import Subject
from .availability import set_available
from .confirmation import Confirmation, subject_lines
from .endpoint_chooser import EndpointChooser
from .outbox_list import OutboxList
from .profile_chooser import ProfileChooser
from .saved_endpoints import SavedEndpoints
from .stage_status import StageStatus
from .tables import prepare_table, show_rows
from .task_runner import Call, Flow, TaskRunner, in_bites

RESULT_COLUMN_WIDTHS = (100, 190)


@dataclass(frozen=True)
class Sending:
    """What a person has been asked to confirm; ``question`` is what was shown, with patient, study and segments."""

    segmentation_node: Any
    question: str
    outputs: tuple[str, ...]
    profile: str
    series_description: str | None
    endpoint: Endpoint


class SendStage:
    """Asks, makes the DICOM objects, sends them, and shows what became of each.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    sources
        Knows which files a volume node came from.
    folder
        For the objects until they are in the outbox.
    """

    def __init__(
        self, ui: Any, runner: TaskRunner, saved: SavedEndpoints, sources: SourceFiles, folder: PrivateFolder
    ) -> None:
        self._ui, self._runner, self._saved = ui, runner, saved
        self._sources, self._folder = sources, folder
        self._kinds = {"seg": _("Segmentation"), "sr": _("Measurements"), "sc": _("Picture")}
        kept = _("What has been sent stays in the archive; what has not been sent may wait in the outbox.")
        self.status = StageStatus("send", ui.sendCollapsibleButton.layout(), runner, kept)
        self.confirmation = Confirmation(ui)
        self.profiles = ProfileChooser(ui, self._inputs_changed)
        self.chooser = EndpointChooser(
            saved,
            *(ui.destinationComboBox, ui.sendCredentials, ui.sendUserLineEdit, ui.sendPasswordLineEdit),
            offers=lambda entry: entry.stored_to,
            rows=(ui.sendCredentialsLabel,),
            on_change=self._inputs_changed,
        )
        self.outbox = OutboxList(ui, runner, saved, self.status, self.confirmation, self.chooser)
        prepare_table(ui.resultsTable, RESULT_COLUMN_WIDTHS)
        ui.descriptionLineEdit.connect("textChanged(QString)", lambda _text: self._inputs_changed())
        ui.segmentationComboBox.connect("currentNodeChanged(vtkMRMLNode*)", lambda _node: self._inputs_changed())
        ui.sendButton.connect("clicked()", self.ask)
        self.clear()

    def missing_destination(self) -> str:
        """Return why nothing can be sent whatever is segmented, or an empty text."""
        if not self.profiles.outputs:
            return _("Choose at least one kind of object to send.")
        return self.chooser.missing

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        ui = self._ui
        self.chooser.show_credentials()
        self.profiles.follow(self.chooser.endpoint)
        self.profiles.update()
        none = "" if ui.segmentationComboBox.currentNode() else _("Choose or make a segmentation first.")
        tip = _("Shows what would be sent where; nothing is sent before you confirm it.")
        set_available(ui.sendButton, tip, busy, none, self.missing_destination())
        self.confirmation.update(busy)
        self.outbox.update(busy)

    def ask(self) -> None:
        """Show what would be sent, of whom and where; refuse at once what cannot be sent."""
        self.withdraw()
        try:
            with self.status.running(_("Checking the segmentation...")):
                node = self._ui.segmentationComboBox.currentNode()
                endpoint = self.chooser.connectable()
                source, layers = self._source_and_layers(node)
        except BridgeError:
            return  # the stage shows it
        self.status.clear()
        sending = Sending(
            node,
            self._question(source, layers, endpoint),
            self.profiles.outputs,
            self.profiles.profile.name,
            self._ui.descriptionLineEdit.text.strip() or None,
            endpoint,
        )
        self.confirmation.ask(
            sending.question,
            *(_("Send now"), _("Do not send"), _("Send exactly this.")),
            then=lambda: self._runner.start(self._send_flow(sending)),
        )

    def withdraw(self) -> None:
        """Take the question back; nothing is sent."""
        self.confirmation.withdraw()

    def clear(self) -> None:
        """Forget what was sent, and the description: a person may have named the patient in it."""
        self._ui.descriptionLineEdit.setText("")
        self.withdraw()
        self._show_results([], None)
        self.status.clear()

    def _inputs_changed(self) -> None:
        self.withdraw()  # a confirmation holds for what was shown only
        self._runner.notify()

    def _send_flow(self, sending: Sending) -> Flow:
        results: list[Any] = []
        report: Any = None
        put = False
        self._show_results(results, None)
        place = Path(tempfile.mkdtemp(dir=self._folder.path))
        try:
            with self.status.running(_("Making the DICOM objects...")):
                ensure_packages("pynetdicom", "platformdirs")
                node = sending.segmentation_node
                source, layers = self._source_and_layers(node)  # as it is now
                if self._question(source, layers, sending.endpoint) != sending.question:
                    raise ConflictError(
                        "what would be sent is no longer what was confirmed", advice="Press Send and look at it again."
                    )
                subject = Subject.of(source.headers[0])
                yield from in_bites(self._hand_over(node, layers))
                results = yield Call(
                    "export",
                    files=image_files_of(node, source),
                    layers=layers,
                    provenance=noted_provenance(node),
                    folder=place / "results",
                    outputs=sending.outputs,
                    profile=sending.profile,
                    endpoint=sending.endpoint,
                    series_description=sending.series_description,
                )
                self._show_results(results, None)
                made = yield Call("subjects", files=[result.path for result in results])
                subject.refuse_others(made)  # the files may have been changed since their headers were read here
                outbox = {"endpoint": sending.endpoint, "outbox_folder": self.outbox.folder()}
                self.outbox.expect_changes()
                put = True
                yield Call("put", files=[result.path for result in results], **outbox)
                self.status.say(_("Sending, and asking the archive for what it has received..."))
                uids = [result.sop_instance_uid for result in results]
                report = yield Call("deliver", only=uids, **outbox)
                self._show_results(results, report)
                yield from self.outbox.refresh_flow()
        except (BridgeError, JobCancelled):
            if report is None:
                self._show_results(results, None, _("broken off: look in the outbox") if put else _("not sent"))
            raise
        finally:
            shutil.rmtree(place, ignore_errors=True)
        self._conclude(report, sending.endpoint)

    def _hand_over(self, node: Any, layers: tuple[LabelLayer, ...]) -> Generator[None, None, None]:
        """Give the label arrays to the worker, a plane a step; refuse what is edited between two of them."""
        refuse_edits = refuse_edits_of(node)
        for layer in layers:
            for _plane in self._runner.worker.file_in_steps(layer.array):
                yield
                refuse_edits()

    def _conclude(self, report: DeliveryReport, endpoint: Endpoint) -> None:
        if report.complete:
            self.status.say(
                _("All {count} objects have arrived at {name}: it was asked for each of them again.").format(
                    count=len(report.receipts), name=endpoint.name
                )
            )
            return
        sentence = _("{arrived} of {all} objects have arrived at {name}; the others wait in the outbox.").format(
            arrived=len(report.receipts), all=len(report.receipts) + len(report.remaining), name=endpoint.name
        )
        self.status.warn(f"{sentence} {report.error or ''}".strip(), "\n".join(d.reason for d in report.remaining))

    def _source_and_layers(self, node: Any) -> tuple[SourceSeries, tuple[LabelLayer, ...]]:
        """Return what the segmentation was made of and its label arrays as they are now."""
        if not slicer.mrmlScene.IsNodePresent(node):
            raise NotFoundError("the segmentation was removed from the scene")
        source = self._sources.source_of(reference_volume_node(node), getattr(slicer, "dicomDatabase", None))
        return source, label_layers_from(node, source)

    def _question(self, source: SourceSeries, layers: tuple[LabelLayer, ...], endpoint: Endpoint) -> str:
        header = source.headers[0]
        segments = [segment for layer in layers for segment in layer.segments]
        lines = [
            *subject_lines(Subject.of(header)),
            _("Images: {modality} {number}, {description}").format(
                modality=source.modality,
                number=header.get("SeriesNumber") or "-",
                description=header.get("SeriesDescription") or "-",
            ),
            _("Segments: {names}").format(names=", ".join(segment.name for segment in segments)),
            _("Send as: {kinds}. {how}").format(
                kinds=", ".join(self.profiles.kinds[kind].text for kind in self.profiles.outputs),
                how=self.profiles.describe(),
            ),
            _("Series description: {text}").format(
                text=self._ui.descriptionLineEdit.text.strip() or _("made from the model's name")
            ),
            _("Destination: {name}").format(name=endpoint.name),
            f"    {endpoint.address.partition('?')[0]}",
        ]
        return "\n".join(lines)

    def _show_results(self, results: list[Any], report: DeliveryReport | None, otherwise: str = "") -> None:
        """List what became of each object; ``otherwise`` of those of which the report knows nothing."""
        arrived = {receipt.sop_instance_uid: receipt for receipt in report.receipts} if report else {}
        waiting = {delivery.sop_instance_uid: delivery for delivery in report.remaining} if report else {}
        table = self._ui.resultsTable
        show_rows(table, len(results))
        for row, result in enumerate(results):
            uid = result.sop_instance_uid
            outcome, tip = otherwise or _("made and checked"), ""
            if uid in arrived:
                compared = arrived[uid].proof == "compared"
                outcome = _("arrived, unchanged") if compared else _("arrived, as listed")
                equal = _("The archive has handed it out again, equal to what was sent.") if compared else ""
                tip = arrived[uid].note or equal
            elif uid in waiting:
                outcome = _("in the outbox: {state}").format(state=waiting[uid].state.value)
                tip = waiting[uid].reason
            if result.warnings:
                counted = _("{outcome}; warnings: {count}")
                outcome = counted.format(outcome=outcome, count=len(result.warnings))
                tip = "\n".join(filter(None, (tip, *result.warnings)))
            for column, cell in enumerate((self._kinds.get(result.kind, result.kind), outcome, uid)):
                item = qt.QTableWidgetItem(cell)
                item.setToolTip(tip or cell)
                table.setItem(row, column, item)
