"""A combo box of endpoints, with room for credentials where the chosen one speaks DICOMweb."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ..pacs.endpoint import DicomWebEndpoint, Endpoint
from .saved_endpoints import COMMAND_LINE, SLICER, SavedEndpoint, SavedEndpoints


class EndpointChooser:
    """Lets a person choose one endpoint.

    Parameters
    ----------
    combo, credentials, user, secret
        The combo box; the row of the credentials with its two fields.
    offers
        Which of the saved ones can be chosen here.
    rows
        Further widgets that are shown with the credentials only.
    on_change
        Called when another endpoint is chosen.
    """

    def __init__(
        self,
        saved: SavedEndpoints,
        combo: Any,
        credentials: Any,
        user: Any,
        secret: Any,
        offers: Callable[[SavedEndpoint], bool],
        rows: tuple[Any, ...],
        on_change: Callable[[], None],
    ) -> None:
        self._saved = saved
        self._combo, self._user, self._secret = combo, user, secret
        self._offers = offers
        self._rows = (credentials, *rows)
        self._on_change = on_change
        self._entries: list[SavedEndpoint] = []
        for field in (user, secret):
            field.setToolTip(_("Asked for by some DICOMweb services. Kept in memory only, until Slicer ends."))
            field.connect("textEdited(QString)", self._remember_credentials)
        combo.connect("currentIndexChanged(int)", self._changed)
        self.refresh()

    @property
    def entry(self) -> SavedEndpoint | None:
        """What is chosen, or None."""
        index = self._combo.currentIndex
        return self._entries[index] if 0 <= index < len(self._entries) else None

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that is chosen, without credentials, or None."""
        return self.entry.endpoint if self.entry else None

    def connectable(self) -> Endpoint:
        """Return the chosen endpoint with its credentials.

        Raises
        ------
        EndpointError
            The credentials would cross the network unencrypted.
        """
        if self.endpoint is None:
            raise LookupError("no endpoint is chosen")
        return self._saved.with_credentials(self.endpoint)

    @property
    def missing(self) -> str:
        """Why no endpoint is chosen; an empty text if one is."""
        if self.endpoint is not None:
            return ""
        return _("Choose an archive first.") if self._entries else _("No archive is known yet: press Add in stage 1.")

    def refresh(self, chosen: Endpoint | None = None, replaced: tuple[Endpoint, Endpoint] | None = None) -> None:
        """List what is saved now and choose an endpoint, or keep the choice: it never becomes another by itself.

        Parameters
        ----------
        chosen
            The endpoint to choose.
        replaced
            One that was changed, and what it is now: whoever had chosen it has chosen that.
        """
        wanted = chosen or self.endpoint
        if replaced and wanted and wanted.address == replaced[0].address:
            wanted = replaced[1]
        first_time = not self._entries  # nothing was chosen that could be gone
        self._entries = self._offered()
        otherwise = 0 if first_time and self._entries and not self._entries[0].keeper else -1
        self._combo.blockSignals(True)
        self._combo.clear()
        for entry in self._entries:
            name = entry.endpoint.name
            self._combo.addItem(self._named(entry, name))
        addresses = [entry.endpoint.address for entry in self._entries]
        index = addresses.index(wanted.address) if wanted and wanted.address in addresses else otherwise
        self._combo.setCurrentIndex(index)
        self._combo.blockSignals(False)
        self._changed()

    @staticmethod
    def _named(entry: SavedEndpoint, name: str) -> str:
        if entry.keeper == SLICER:
            return _("{name} (from Slicer)").format(name=name)
        return _("{name} (from the command line)").format(name=name) if entry.keeper else name

    def look(self) -> None:
        """List anew if something else is saved than is listed: Slicer's DICOM module may have changed its servers."""
        if self._offered() != self._entries:
            self.refresh()

    def _offered(self) -> list[SavedEndpoint]:
        return [entry for entry in self._saved if self._offers(entry)]

    def show_credentials(self) -> None:
        """Show what is known for the chosen endpoint; it may have been entered at another chooser."""
        known = self._saved.credentials(self.endpoint) if self.endpoint else ("", "")
        for field, text in zip((self._user, self._secret), known, strict=True):
            if field.text != text:  # else the text cursor would jump while a person types
                field.setText(text)

    def _changed(self, _index: int = -1) -> None:
        endpoint = self.endpoint
        tip = endpoint.address if endpoint else self.missing
        if self.entry is not None and self.entry.keeper == SLICER:
            tip = _("{address}\nFrom Slicer's DICOM settings, which are only read.").format(address=tip)
        elif self.entry is not None and self.entry.keeper == COMMAND_LINE:
            tip = _("{address}\nSaved by the command line, with its secret if it has one.").format(address=tip)
        self._combo.setToolTip(tip)
        self.show_credentials()
        for row in self._rows:
            row.setVisible(isinstance(endpoint, DicomWebEndpoint))
        self._on_change()

    def _remember_credentials(self, _text: str) -> None:
        if self.endpoint is not None:
            self._saved.set_credentials(self.endpoint, self._user.text, self._secret.text)
            self._on_change()
