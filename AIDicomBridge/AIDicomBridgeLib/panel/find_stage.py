"""Stage 1, Find: which archive, which study, which series."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ..mrml.slicer_packages import ensure_packages
from ..pacs.endpoint import Endpoint
from ..pacs.records import SeriesRecord, StudyRecord
from .availability import set_available
from .endpoint_chooser import EndpointChooser
from .endpoint_form import EndpointForm
from .saved_endpoints import SavedEndpoints
from .stage_status import StageStatus
from .task_runner import Call, Flow, TaskRunner

ANY_MODALITY = 0
MODALITIES = ("CT", "MR", "PT")
# Most studies that a query may bring into the tree: more than a person reads, and a guard against an empty query.
STUDY_LIMIT = 500
_RESULT_MODALITIES = {"SEG", "SR", "OT", "PR", "KO", "RTSTRUCT", "RTDOSE", "RTPLAN", "DOC", "REG", "SC"}
_COLUMN_WIDTHS = (85, 65, 55)  # of those after the first, which takes what is left


class FindStage:
    """Queries an archive and lets a person choose one series.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    on_endpoints_changed
        Called when an endpoint was added, changed or removed.
    """

    def __init__(
        self, ui: Any, runner: TaskRunner, saved: SavedEndpoints, on_endpoints_changed: Callable[[], None]
    ) -> None:
        self._ui, self._runner, self._saved = ui, runner, saved
        self._on_endpoints_changed = on_endpoints_changed
        self._origin: Endpoint | None = None  # where the studies shown were found
        self._studies: dict[str, StudyRecord] = {}
        self._series: dict[str, list[SeriesRecord]] = {}
        self._items: dict[str, Any] = {}
        self.status = StageStatus("find", ui.findCollapsibleButton.layout(), runner)
        self._form = EndpointForm(ui, self._save_endpoint)
        ui.modalityComboBox.addItem(_("any"))
        for modality in MODALITIES:
            ui.modalityComboBox.addItem(modality)
        header = ui.studyTree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column, width in enumerate(_COLUMN_WIDTHS, start=1):
            ui.studyTree.setColumnWidth(column, width)
        self.chooser = EndpointChooser(
            saved,
            *(ui.endpointComboBox, ui.findCredentials, ui.findUserLineEdit, ui.findPasswordLineEdit),
            rows=(ui.findCredentialsLabel,),
            on_change=runner.notify,
        )
        ui.addEndpointButton.connect("clicked()", self._form.show)
        ui.editEndpointButton.connect("clicked()", self._edit_endpoint)
        ui.removeEndpointButton.connect("clicked()", self._remove_endpoint)
        ui.testEndpointButton.connect("clicked()", lambda: runner.start(self._test_flow()))
        ui.findButton.connect("clicked()", lambda: runner.start(self._find_flow()))
        for field in (ui.patientNameLineEdit, ui.patientIDLineEdit, ui.accessionLineEdit, ui.studyDateLineEdit):
            field.connect("returnPressed()", ui.findButton.click)
        ui.studyDateLineEdit.setToolTip(_("YYYYMMDD, or a range YYYYMMDD-YYYYMMDD of which either end may be missing."))
        ui.patientNameLineEdit.setToolTip(_("* and ? stand for any letters."))
        ui.studyTree.connect("itemSelectionChanged()", runner.notify)

    @property
    def selected_series(self) -> tuple[Endpoint, StudyRecord, SeriesRecord] | None:
        """The series that is chosen, with its study and where it was found; None if none is."""
        uid = self._selected_uid()
        for study_uid, listed in self._series.items():
            for series in listed:
                if series.series_uid == uid and self._origin is not None:
                    return self._origin, self._studies[study_uid], series
        return None

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        ui, entry = self._ui, self.chooser.entry
        self.chooser.show_credentials()
        missing = "" if entry else _("No archive is known yet: press Add.")
        foreign = (
            _("This one is kept in Slicer's DICOM settings; remove it there.") if entry and entry.from_slicer else ""
        )
        set_available(ui.findButton, _("List the studies that match everything entered above."), busy, missing)
        set_available(ui.testEndpointButton, _("Ask the archive whether it answers us."), busy, missing)
        set_available(ui.editEndpointButton, _("Change how this archive is reached."), missing)
        set_available(ui.removeEndpointButton, _("Forget this archive."), missing, foreign)
        ui.addEndpointButton.setToolTip(_("Write down a further archive."))
        if not busy:
            self._fetch_series_of_selected_study()

    def clear(self) -> None:
        """Forget what was found."""
        self._studies, self._series, self._items, self._origin = {}, {}, {}, None
        self._ui.studyTree.clear()
        self.status.clear()

    def _find_flow(self) -> Flow:
        self.clear()
        with self.status.running(_("Asking the archive...")):
            ensure_packages("pynetdicom", "platformdirs")
            endpoint = self.chooser.connectable()
            studies = yield Call("find_studies", endpoint=endpoint, **self._keys())
        self._origin = endpoint
        self._show_studies(studies)

    def _test_flow(self) -> Flow:
        with self.status.running(_("Asking the archive whether it answers...")):
            ensure_packages("pynetdicom", "platformdirs")
            endpoint = self.chooser.connectable()
            yield Call("verify", endpoint=endpoint)
        self.status.say(_("{name} answers.").format(name=endpoint.name))

    def _series_flow(self, study_uid: str) -> Flow:
        self._series[study_uid] = []  # asked once, whatever comes of it
        with self.status.running(_("Asking for the series of the study...")):
            listed = yield Call("find_series", endpoint=self._origin, study_uid=study_uid)
        if study_uid in self._items:
            self._show_series(study_uid, listed)

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

    def _show_studies(self, studies: list[StudyRecord]) -> None:
        tree = self._ui.studyTree
        tree.setSortingEnabled(False)
        for study in studies:
            item = qt.QTreeWidgetItem(tree)
            patient = f"{study.patient_name} ({study.patient_id})" if study.patient_id else study.patient_name
            _fill(
                item,
                study.study_uid,
                ", ".join(text for text in (patient, study.study_description) if text) or _("Study"),
                iso_date(study.study_date),
                "/".join(study.modalities),
                study.instance_count,
                _("Accession number: {accession}\nSeries: {series}\nStudy UID: {uid}").format(
                    accession=study.accession_number or "-", series=study.series_count or "?", uid=study.study_uid
                ),
            )
            self._studies[study.study_uid] = study
            self._items[study.study_uid] = item
        tree.setSortingEnabled(True)
        if not studies:
            self.status.say(_("No study matches."))
        elif len(studies) >= STUDY_LIMIT:
            self.status.say(_("The first {count} studies; enter more to find fewer.").format(count=len(studies)))
        else:
            self.status.say(_("Studies found: {count}. Choose one to see its series.").format(count=len(studies)))
        if len(studies) == 1:
            tree.setCurrentItem(self._items[studies[0].study_uid])

    def _show_series(self, study_uid: str, listed: list[SeriesRecord]) -> None:
        self._series[study_uid] = listed
        parent, tree = self._items[study_uid], self._ui.studyTree
        tree.setSortingEnabled(False)
        images = []
        for series in listed:
            item = qt.QTreeWidgetItem(parent)
            title = f"{series.series_number}: {series.series_description}".strip(": ")
            tip = _("Body part: {part}\nSeries UID: {uid}").format(part=series.body_part or "-", uid=series.series_uid)
            _fill(
                item,
                series.series_uid,
                title or _("Series"),
                iso_date(series.series_date),
                series.modality,
                series.instance_count,
                tip,
            )
            self._items[series.series_uid] = item
            if series.modality not in _RESULT_MODALITIES:
                images.append(item)
        tree.setSortingEnabled(True)
        parent.setExpanded(True)
        self.status.say(_("Series in the study: {count}.").format(count=len(listed)))
        if len(images) == 1 and self._selected_uid() == study_uid:
            tree.setCurrentItem(images[0])

    def _selected_uid(self) -> str:
        chosen = self._ui.studyTree.selectedItems()
        return str(chosen[0].data(0, qt.Qt.UserRole)) if chosen else ""

    def _fetch_series_of_selected_study(self) -> None:
        uid = self._selected_uid()
        if uid in self._studies and uid not in self._series and not self._runner.busy:
            self._runner.start(self._series_flow(uid))

    def _edit_endpoint(self) -> None:
        entry = self.chooser.entry
        if entry is not None:
            self._form.show(entry.endpoint, replaces=not entry.from_slicer)

    def _save_endpoint(self, endpoint: Endpoint, replaced: Endpoint | None) -> None:
        self._saved.save(endpoint, replaced)
        self.chooser.refresh(endpoint)
        self._on_endpoints_changed()

    def _remove_endpoint(self) -> None:
        entry = self.chooser.entry
        if entry is not None and not entry.from_slicer:
            self._saved.remove(entry.endpoint)
            self.chooser.refresh()
            self._on_endpoints_changed()


def _fill(item: Any, uid: str, title: str, date: str, modality: str, count: int | None, tip: str) -> None:
    item.setData(0, qt.Qt.UserRole, uid)
    for column, text in enumerate((title, date, modality)):
        item.setText(column, text)
    for column in range(4):
        item.setToolTip(column, tip)
    if count is not None:
        item.setData(3, qt.Qt.DisplayRole, count)  # as a number, so that it sorts as one
    item.setTextAlignment(3, qt.Qt.AlignRight | qt.Qt.AlignVCenter)


def iso_date(text: str) -> str:
    """Return a DICOM date as 2026-01-02; anything else as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text
