"""The form in which an archive is written down or changed."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import ctk
from slicer.i18n import tr as _

from ..errors import BridgeError, EndpointError
from ..pacs.endpoint import DicomWebEndpoint, DimseEndpoint, Endpoint, TlsFiles
from ..results.profiles import DEFAULT_PROFILE, PROFILES

RETRIEVE_METHODS = ("auto", "C-GET", "C-MOVE")
# Rows of the form, by the beginning of their widgets' names: what both protocols need, then each protocol's own.
_FIELDS = {
    **{name: f"{name}LineEdit" for name in ("aeTitle", "host", "calling", "url", "moveHost")},
    **{name: f"{name}PathLineEdit" for name in ("caFile", "certificate", "key")},
    **{name: f"{name}SpinBox" for name in ("port", "movePort", "connectTimeout", "associationTimeout")},
    "silenceTimeout": "silenceTimeoutSpinBox",
    "retrieve": "retrieveComboBox",
    "endpointProfile": "endpointProfileComboBox",
    "tls": "tlsCheckBox",
}
_DIMSE_ROWS = {"aeTitle", "host", "port", "calling", "retrieve", "movePort"}
_MORE_DIMSE_ROWS = {"moveHost", "tls", "connectTimeout", "associationTimeout", "silenceTimeout", "endpointProfile"}
_TLS_ROWS = {"caFile", "certificate", "key"}
_DICOMWEB_ROWS = {"url"}
_MORE_DICOMWEB_ROWS = {"caFile", "connectTimeout", "silenceTimeout", "endpointProfile"}
# What the form shows of an endpoint that is not there yet; the host is never looked up.
_NEW_DIMSE = DimseEndpoint("new", "localhost", 104, "NEW")
_NEW_DICOMWEB = DicomWebEndpoint("new", "https://localhost")


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
        self._shown: Endpoint | None = None
        self._edited: Endpoint | None = None
        self._profiles: list[str] = []
        for method in RETRIEVE_METHODS:
            ui.retrieveComboBox.addItem(method)
        for name in _TLS_ROWS:
            self._field(name).filters = ctk.ctkPathLineEdit.Files
        self._explain()
        ui.protocolComboBox.connect("currentIndexChanged(int)", lambda _index: self._show_rows())
        for box in (ui.moreCheckBox, ui.tlsCheckBox):
            box.connect("toggled(bool)", lambda _checked: self._show_rows())
        ui.saveEndpointButton.connect("clicked()", self._save)
        ui.discardEndpointButton.connect("clicked()", self.hide)
        self.hide()

    def show(self, endpoint: Endpoint | None = None, replaces: bool = True) -> None:
        """Open the form, empty or with an endpoint, which the result is to replace or not."""
        ui = self._ui
        self._shown, self._edited = endpoint, endpoint if replaces else None
        dimse = endpoint if isinstance(endpoint, DimseEndpoint) else _NEW_DIMSE
        web = endpoint if isinstance(endpoint, DicomWebEndpoint) else _NEW_DICOMWEB
        shown = endpoint or _NEW_DIMSE
        ui.protocolComboBox.setCurrentIndex(1 if shown is web else 0)
        ui.endpointNameLineEdit.setText(endpoint.name if endpoint else "")
        ui.aeTitleLineEdit.setText("" if dimse is _NEW_DIMSE else dimse.ae_title)
        ui.hostLineEdit.setText("" if dimse is _NEW_DIMSE else dimse.host)
        ui.portSpinBox.setValue(dimse.port)
        ui.callingLineEdit.setText("" if dimse is _NEW_DIMSE else dimse.calling_ae_title)
        ui.retrieveComboBox.setCurrentIndex(RETRIEVE_METHODS.index(dimse.retrieve))
        ui.movePortSpinBox.setValue(dimse.move_port)
        ui.urlLineEdit.setText("" if web is _NEW_DICOMWEB else web.url)
        tls = dimse.tls or TlsFiles()
        ui.moveHostLineEdit.setText(dimse.move_host)
        ui.tlsCheckBox.setChecked(dimse.tls is not None)
        ui.caFilePathLineEdit.setCurrentPath((web.ca_file if shown is web else tls.ca_file) or "")
        ui.certificatePathLineEdit.setCurrentPath(tls.certificate_file or "")
        ui.keyPathLineEdit.setCurrentPath(tls.key_file or "")
        ui.connectTimeoutSpinBox.setValue(shown.connect_timeout_s)
        ui.associationTimeoutSpinBox.setValue(dimse.association_timeout_s)
        ui.silenceTimeoutSpinBox.setValue(web.timeout_s if shown is web else dimse.dimse_timeout_s)
        self._list_profiles(shown.profile)
        ui.moreCheckBox.setChecked(endpoint is not None and self._has_more(endpoint))
        self._complain("")
        self._show_rows()
        ui.endpointForm.setVisible(True)

    def hide(self) -> None:
        """Close the form; what was entered is forgotten."""
        self._ui.endpointForm.setVisible(False)

    @staticmethod
    def _has_more(endpoint: Endpoint) -> bool:
        """Return whether an endpoint differs from a new one in what is shown only on demand."""
        new = _NEW_DICOMWEB if isinstance(endpoint, DicomWebEndpoint) else _NEW_DIMSE
        always_shown = ("name", "url", "host", "port", "ae_title", "calling_ae_title", "retrieve", "move_port")
        further = [item.name for item in fields(endpoint) if item.compare and item.name not in always_shown]
        return any(getattr(endpoint, name) != getattr(new, name) for name in further)

    def _field(self, name: str) -> Any:
        return getattr(self._ui, _FIELDS[name])

    def _explain(self) -> None:
        tips = {
            "retrieve": _("auto: C-GET, and C-MOVE where the archive has no C-GET."),
            "movePort": _(
                "For C-MOVE: the port on which we receive. The archive must know our AE title with this host and port."
            ),
            "moveHost": _("For C-MOVE: the address of this machine on which we listen, as the archive reaches it."),
            "tls": _("Encrypt the connection; the archive's certificate is always verified."),
            "caFile": _("Certificates (PEM) to trust instead of the system's; empty for the system's."),
            "certificate": _("Our own certificate (PEM), where the archive asks for one."),
            "key": _("The private key (PEM) of our certificate."),
            "connectTimeout": _("Most seconds until the archive takes the connection."),
            "associationTimeout": _("Most seconds for each step in which the two sides agree on an association."),
            "silenceTimeout": _("Most seconds without a word from the archive while it works."),
            "endpointProfile": _("What this archive can take and show; decides how results are written for it."),
        }
        for name, tip in tips.items():
            self._field(name).setToolTip(tip)

    def _list_profiles(self, chosen: str) -> None:
        """List the profiles, with one that only an address names if need be, and choose."""
        self._profiles = ["", *(name for name in PROFILES if name != DEFAULT_PROFILE.name)]
        if chosen not in self._profiles:
            self._profiles.append(chosen)
        box = self._ui.endpointProfileComboBox
        box.clear()
        for name in self._profiles:
            box.addItem(name or _("any archive"))
        box.setCurrentIndex(self._profiles.index(chosen))

    def _show_rows(self) -> None:
        web = self._is_web()
        shown = _DICOMWEB_ROWS if web else _DIMSE_ROWS
        if self._ui.moreCheckBox.checked:
            shown = shown | (_MORE_DICOMWEB_ROWS if web else _MORE_DIMSE_ROWS)
            if not web and self._ui.tlsCheckBox.checked:
                shown |= _TLS_ROWS
        for name in _FIELDS:
            for widget in (getattr(self._ui, f"{name}Label"), self._field(name)):
                widget.setVisible(name in shown)

    def _is_web(self) -> bool:
        return bool(self._ui.protocolComboBox.currentIndex == 1)

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
        edits = (ui.caFilePathLineEdit, ui.certificatePathLineEdit, ui.keyPathLineEdit)
        ca_file, *files = (edit.currentPath.strip() or None for edit in edits)
        for path in (ca_file, *files):
            if path is not None and not Path(path).is_file():
                raise EndpointError(f"the file {path} does not exist")
        shared = {
            "profile": self._profiles[ui.endpointProfileComboBox.currentIndex],
            "connect_timeout_s": ui.connectTimeoutSpinBox.value,
        }
        silence_s = ui.silenceTimeoutSpinBox.value
        shown = self._shown  # what has no field here stays as it is
        if self._is_web():
            web = shown if isinstance(shown, DicomWebEndpoint) else _NEW_DICOMWEB
            url = ui.urlLineEdit.text.strip()
            return replace(web, name=name, url=url, ca_file=ca_file, timeout_s=silence_s, **shared)
        return replace(
            shown if isinstance(shown, DimseEndpoint) else _NEW_DIMSE,
            name=name,
            host=ui.hostLineEdit.text,
            port=ui.portSpinBox.value,
            ae_title=ui.aeTitleLineEdit.text,
            calling_ae_title=ui.callingLineEdit.text.strip() or "AIDICOMBRIDGE",
            tls=TlsFiles(ca_file, *files) if ui.tlsCheckBox.checked else None,
            retrieve=RETRIEVE_METHODS[ui.retrieveComboBox.currentIndex],
            move_port=ui.movePortSpinBox.value,
            move_host=ui.moveHostLineEdit.text,
            association_timeout_s=ui.associationTimeoutSpinBox.value,
            dimse_timeout_s=silence_s,
            **shared,
        )

    def _complain(self, sentence: str) -> None:
        self._ui.endpointFormStatus.setText(sentence)
        self._ui.endpointFormStatus.setVisible(bool(sentence))
