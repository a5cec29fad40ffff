"""The form in which an archive is written down or changed."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ..errors import BridgeError
from ..pacs.endpoint import DicomWebEndpoint, DimseEndpoint, Endpoint

RETRIEVE_METHODS = ("auto", "C-GET", "C-MOVE")
_DIMSE_FIELDS = (
    *("aeTitleLabel", "aeTitleLineEdit", "hostLabel", "hostLineEdit", "portLabel", "portSpinBox"),
    *("callingLabel", "callingLineEdit", "retrieveLabel", "retrieveComboBox", "movePortLabel", "movePortSpinBox"),
)
_DICOMWEB_FIELDS = ("urlLabel", "urlLineEdit")


class EndpointForm:
    """Shows one endpoint's fields in place, and hands over the endpoint that they describe.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    on_save
        Called with the new endpoint and the one that it replaces, or None.
    """

    def __init__(self, ui: Any, on_save: Callable[[Endpoint, Endpoint | None], None]) -> None:
        self._ui = ui
        self._on_save = on_save
        self._edited: Endpoint | None = None
        for method in RETRIEVE_METHODS:
            ui.retrieveComboBox.addItem(method)
        ui.retrieveComboBox.setToolTip(_("auto: C-GET, and C-MOVE where the archive has no C-GET."))
        ui.movePortSpinBox.setToolTip(
            _("For C-MOVE: the port on which we receive. The archive must know our AE title with this host and port.")
        )
        ui.protocolComboBox.connect("currentIndexChanged(int)", self._show_fields)
        ui.saveEndpointButton.connect("clicked()", self._save)
        ui.discardEndpointButton.connect("clicked()", self.hide)
        self.hide()

    def show(self, endpoint: Endpoint | None = None, replaces: bool = True) -> None:
        """Open the form, empty or with an endpoint, which the result is to replace or not."""
        ui = self._ui
        self._edited = endpoint if replaces else None
        dimse = endpoint if isinstance(endpoint, DimseEndpoint) else None
        web = endpoint if isinstance(endpoint, DicomWebEndpoint) else None
        ui.protocolComboBox.setCurrentIndex(1 if web else 0)
        ui.endpointNameLineEdit.setText(endpoint.name if endpoint else "")
        ui.aeTitleLineEdit.setText(dimse.ae_title if dimse else "")
        ui.hostLineEdit.setText(dimse.host if dimse else "")
        ui.portSpinBox.setValue(dimse.port if dimse else 104)
        ui.callingLineEdit.setText(dimse.calling_ae_title if dimse else "")
        ui.retrieveComboBox.setCurrentIndex(RETRIEVE_METHODS.index(dimse.retrieve) if dimse else 0)
        ui.movePortSpinBox.setValue(dimse.move_port if dimse else 0)
        ui.urlLineEdit.setText(web.url if web else "")
        self._complain("")
        self._show_fields()
        ui.endpointForm.setVisible(True)

    def hide(self) -> None:
        """Close the form; what was entered is forgotten."""
        self._ui.endpointForm.setVisible(False)

    def _show_fields(self, _index: int = 0) -> None:
        web = self._ui.protocolComboBox.currentIndex == 1
        for name in _DIMSE_FIELDS:
            getattr(self._ui, name).setVisible(not web)
        for name in _DICOMWEB_FIELDS:
            getattr(self._ui, name).setVisible(web)

    def _save(self) -> None:
        try:
            endpoint = self._endpoint()
        except BridgeError as error:
            self._complain(str(error))
            return
        self.hide()
        self._on_save(endpoint, self._edited)

    def _endpoint(self) -> Endpoint:
        ui = self._ui
        name = ui.endpointNameLineEdit.text.strip()
        if ui.protocolComboBox.currentIndex == 1:
            return DicomWebEndpoint(name, ui.urlLineEdit.text.strip())
        return DimseEndpoint(
            name,
            ui.hostLineEdit.text,
            ui.portSpinBox.value,
            ui.aeTitleLineEdit.text,
            ui.callingLineEdit.text.strip() or "AIDICOMBRIDGE",
            retrieve=RETRIEVE_METHODS[ui.retrieveComboBox.currentIndex],
            move_port=ui.movePortSpinBox.value,
        )

    def _complain(self, sentence: str) -> None:
        self._ui.endpointFormStatus.setText(sentence)
        self._ui.endpointFormStatus.setVisible(bool(sentence))
