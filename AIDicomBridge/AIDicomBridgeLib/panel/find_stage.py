"""Stage 1, Find: which archive, which study, which series."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from ..errors import BridgeError, JobCancelled
from ..mrml.slicer_packages import ensure_packages
from ..pacs.endpoint import Endpoint
from ..pacs.records import SeriesRecord, StudyRecord
from .availability import set_available
from .doctor import DoctorTable
from .endpoint_chooser import EndpointChooser
from .endpoint_form import EndpointForm
from .saved_endpoints import SLICER, SavedEndpoints
from .stage_status import StageStatus
from .study_tree import StudyTree
from .task_runner import Call, Flow, TaskRunner

ANY_MODALITY = 0
MODALITIES = ("CT", "MR", "PT", "NM", "US", "MG", "XA", "CR", "DX", "RTSTRUCT", "SEG", "SR")
# Most studies that a query may bring into the tree: more than a person reads, and a guard against an empty query.
STUDY_LIMIT = 500


@dataclass(frozen=True)
class FoundSeries:
    """One series that is chosen, with its study and where it was found, without credentials."""

    endpoint: Endpoint
    study: StudyRecord
    series: SeriesRecord

    @property
    def title(self) -> str:
        """Modality, number and description, never the patient."""
        number = f"{self.series.series_number}: " if self.series.series_number else ""
        return f"{self.series.modality} {number}{self.series.series_description}".strip()


class FindStage:
    """Queries an archive and lets a person choose series.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    on_endpoints_changed
        Called when an endpoint was added or removed; with the old and the new one when it was changed.
    """

    def __init__(
        self, ui: Any, runner: TaskRunner, saved: SavedEndpoints, on_endpoints_changed: Callable[..., None]
    ) -> None:
        self._ui, self._runner, self._saved = ui, runner, saved
        self._on_endpoints_changed = on_endpoints_changed
        self._origin: Endpoint | None = None  # where the studies shown were found
        self._asked: set[str] = set()  # the studies whose series were asked for
        self.status = StageStatus("find", ui.findCollapsibleButton.layout(), runner)
        self._form = EndpointForm(ui, self._save_endpoint)
        self._doctor = DoctorTable(ui, lambda: runner.start(self._doctor_flow(store_test_object=True)))
        self._tree = StudyTree(ui.studyTree, runner.notify)
        ui.modalityComboBox.addItem(_("any"))
        for modality in MODALITIES:
            ui.modalityComboBox.addItem(modality)
        self.chooser = EndpointChooser(
            saved,
            *(ui.endpointComboBox, ui.findCredentials, ui.findUserLineEdit, ui.findPasswordLineEdit),
            offers=lambda entry: entry.queried,
            rows=(ui.findCredentialsLabel,),
            on_change=self._endpoint_chosen,
        )
        ui.addEndpointButton.connect("clicked()", self._form.show)
        ui.editEndpointButton.connect("clicked()", self._edit_endpoint)
        ui.removeEndpointButton.connect("clicked()", self._remove_endpoint)
        ui.testEndpointButton.connect("clicked()", lambda: runner.start(self._test_flow()))
        ui.doctorButton.connect("clicked()", lambda: runner.start(self._doctor_flow()))
        ui.findButton.connect("clicked()", lambda: runner.start(self._find_flow()))
        for field in (ui.patientNameLineEdit, ui.patientIDLineEdit, ui.accessionLineEdit, ui.studyDateLineEdit):
            field.connect("returnPressed()", ui.findButton.click)
        ui.studyDateLineEdit.setToolTip(_("YYYYMMDD, or a range YYYYMMDD-YYYYMMDD of which either end may be missing."))
        ui.patientNameLineEdit.setToolTip(_("* and ? stand for any letters."))

    @property
    def chosen(self) -> list[FoundSeries]:
        """The series that are chosen, from top to bottom."""
        if self._origin is None:
            return []
        return [FoundSeries(self._origin, study, series) for study, series in self._tree.chosen_series]

    def connectable(self, found: FoundSeries) -> Endpoint:
        """Return where a series was found, with the credentials that are known now.

        Raises
        ------
        EndpointError
            The credentials would cross the network unencrypted.
        """
        return self._saved.with_credentials(found.endpoint)

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        ui, entry = self._ui, self.chooser.entry
        self.chooser.show_credentials()
        missing = self.chooser.missing
        foreign, change = "", _("Change how this archive is reached.")
        if entry is not None and entry.keeper:
            change = _("Make an entry of your own from this one, which stays as it is where it is kept.")
            foreign = (
                _("This one is kept in Slicer's DICOM settings; remove it there.")
                if entry.keeper == SLICER
                else _("This one is kept by the command line; remove it there.")
            )
        set_available(ui.findButton, _("List the studies that match everything entered above."), busy, missing)
        set_available(ui.testEndpointButton, _("Ask the archive whether it answers us."), busy, missing)
        tip = _("Try every service of the archive that we use, and say what to change. Nothing is stored there.")
        set_available(ui.doctorButton, tip, busy, missing)
        self._doctor.update(busy, missing)
        set_available(ui.editEndpointButton, change, missing)
        set_available(ui.removeEndpointButton, _("Forget this archive."), missing, foreign)
        ui.addEndpointButton.setToolTip(
            _(
                "Write down a further archive. The servers of Slicer's DICOM module and the endpoints that the command "
                "line has saved are in the list by themselves."
            )
        )

    def list_series(self) -> None:
        """Ask for the series of the studies that are chosen, unless that was done or something runs."""
        new = [study.study_uid for study in self._tree.chosen_studies if study.study_uid not in self._asked]
        if new and not self._runner.busy:
            self._runner.start(self._series_flow(new))

    def clear(self) -> None:
        """Forget what was found."""
        self._origin, self._asked = None, set()
        self._tree.clear()
        self.status.clear()

    def _find_flow(self) -> Flow:
        self.clear()
        with self.status.running(_("Asking the archive...")):
            ensure_packages("pynetdicom", "platformdirs")
            origin, endpoint = self.chooser.endpoint, self.chooser.connectable()
            studies = yield Call("find_studies", endpoint=endpoint, **self._keys())
        self._origin = origin  # without credentials: they may be entered anew until it is asked again
        if not studies:
            self.status.say(_("No study matches."))
        elif len(studies) >= STUDY_LIMIT:
            self.status.say(_("The first {count} studies; enter more to find fewer.").format(count=len(studies)))
        else:
            self.status.say(_("Studies found: {count}. Choose one to see its series.").format(count=len(studies)))
        self._tree.show_studies(studies)

    def _test_flow(self) -> Flow:
        with self.status.running(_("Asking the archive whether it answers...")):
            ensure_packages("pynetdicom", "platformdirs")
            endpoint = self.chooser.connectable()
            yield Call("verify", endpoint=endpoint)
        self.status.say(_("{name} answers.").format(name=endpoint.name))

    def _doctor_flow(self, store_test_object: bool = False) -> Flow:
        self._doctor.hide()
        with self.status.running(_("Trying the services of the archive...")):
            ensure_packages("pynetdicom", "platformdirs")
            endpoint = self.chooser.connectable()
            report = yield Call("diagnose", endpoint=endpoint, store_test_object=store_test_object)
        self._doctor.show(report)
        if report.healthy:
            self.status.say(_("{name}: every service that was tried works.").format(name=endpoint.name))
        else:
            self.status.warn(_("{name}: not every service works; the table says why.").format(name=endpoint.name))

    def _series_flow(self, study_uids: list[str]) -> Flow:
        self._asked |= set(study_uids)  # once, whatever comes of it
        count = 0
        with self.status.running(_("Asking for the series of the study...")):
            try:
                endpoint = self._saved.with_credentials(self._origin)
                for study_uid in study_uids:
                    listed = yield Call("find_series", endpoint=endpoint, study_uid=study_uid)
                    self._tree.show_series(study_uid, listed)
                    count += len(listed)
            except (BridgeError, JobCancelled):
                self._asked -= set(study_uids)
                self._ui.studyTree.clearSelection()  # choosing the study again asks again
                raise
        self.status.say(_("Series in the study: {count}.").format(count=count))

    def _keys(self) -> dict[str, object]:
        ui = self._ui
        texts = {
            "patient_name": ui.patientNameLineEdit.text,
            "patient_id": ui.patientIDLineEdit.text,
            "accession_number": ui.accessionLineEdit.text,
            "study_date": ui.studyDateLineEdit.text,
        }
        keys: dict[str, object] = {key: text.strip() for key, text in texts.items() if text.strip()}
        if ui.modalityComboBox.currentIndex != ANY_MODALITY:
            keys["modalities"] = MODALITIES[ui.modalityComboBox.currentIndex - 1]
        return keys | {"limit": STUDY_LIMIT}

    def _endpoint_chosen(self) -> None:
        self._doctor.hide()  # its report is of another archive
        self._runner.notify()

    def _edit_endpoint(self) -> None:
        entry = self.chooser.entry
        if entry is not None:
            self._form.show(entry.endpoint, replaces=not entry.keeper)

    def _save_endpoint(self, endpoint: Endpoint, replaced: Endpoint | None) -> None:
        self._saved.save(endpoint, replaced)
        self.chooser.refresh(endpoint)
        self._on_endpoints_changed((replaced, endpoint) if replaced else None)

    def _remove_endpoint(self) -> None:
        entry = self.chooser.entry
        if entry is not None and not entry.keeper:
            self._saved.remove(entry.endpoint)
            self.chooser.refresh()
            self._on_endpoints_changed()
