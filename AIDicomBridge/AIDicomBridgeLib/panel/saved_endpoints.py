"""The archives that the person has saved here, and those on record with the command line and Slicer's DICOM module.

Only addresses are kept in the application's settings, never a credential; those live in memory until Slicer ends, or
where the command line has put them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BridgeError, DependencyError
from ..pacs import saved_endpoints as command_line
from ..pacs.endpoint import DicomWebEndpoint, DimseEndpoint, Endpoint, parse_endpoint

COMMAND_LINE, SLICER = "command line", "Slicer"
KEY = "AIDicomBridge/Endpoints"
LARGEST_SERVER_COUNT = 1000  # settings can be damaged


@dataclass(frozen=True)
class SavedEndpoint:
    """An endpoint and who keeps it.

    Attributes
    ----------
    keeper
        Empty for the person's own; else whose list we only read: :data:`COMMAND_LINE` or :data:`SLICER`.
    queried, stored_to
        Whether it is ticked in Slicer's for query and retrieve, and for storage; always for the others.
    """

    endpoint: Endpoint
    keeper: str = ""
    queried: bool = True
    stored_to: bool = True


class SavedEndpoints:
    """Endpoints by name, in the application's settings.

    Parameters
    ----------
    settings
        A QSettings.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._credentials: dict[str, tuple[str, str] | str] = {}

    def __iter__(self) -> Iterator[SavedEndpoint]:
        """Yield the person's own, then those of the command line and of Slicer whose address is not among them."""
        own = [SavedEndpoint(endpoint) for endpoint in self._own()]
        addresses = set()
        for saved in (*own, *endpoints_of_command_line(), *servers_of_slicer(self._settings)):
            if saved.endpoint.address not in addresses:
                addresses.add(saved.endpoint.address)
                yield saved

    def save(self, endpoint: Endpoint, replaced: Endpoint | None = None) -> None:
        """Keep an endpoint, in the place of another or at the end."""
        gone = {endpoint.address, replaced.address if replaced else endpoint.address}
        kept = self._own()
        place = next((n for n, one in enumerate(kept) if one.address in gone), len(kept))
        kept = [one for one in kept if one.address not in gone]
        kept.insert(min(place, len(kept)), endpoint)
        self._write(kept)

    def remove(self, endpoint: Endpoint) -> None:
        """Forget one of the person's own."""
        self._write([one for one in self._own() if one.address != endpoint.address])
        self._credentials.pop(endpoint.address, None)

    def set_credentials(self, endpoint: Endpoint, user: str, secret: str) -> None:
        """Remember, in memory only, how to log in: user and password, or a token if there is no user."""
        self._credentials.pop(endpoint.address, None)
        if secret or user:
            self._credentials[endpoint.address] = (user, secret) if user else secret

    def credentials(self, endpoint: Endpoint) -> tuple[str, str]:
        """Return user and secret as they were entered; empty texts where there are none."""
        known = self._credentials.get(endpoint.address, ("", ""))
        return known if isinstance(known, tuple) else ("", known)

    def with_credentials(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint ready to connect: with what was entered here, else what the command line keeps for it.

        Raises
        ------
        EndpointError, FolderError
            The credentials would cross the network unencrypted, or what is kept cannot be read.
        """
        auth = self._credentials.get(endpoint.address)
        if auth and isinstance(endpoint, DicomWebEndpoint):
            return replace(endpoint, auth=auth)
        try:
            return command_line.SavedEndpoints.default().with_secret(endpoint)
        except DependencyError:  # without the package that knows its folder nothing was kept there
            return endpoint

    def _own(self) -> list[Endpoint]:
        found = []
        for address in _json(self._settings.value(KEY), list):
            try:
                found.append(parse_endpoint(str(address)))
            except BridgeError:
                continue  # damaged by hand, or of a newer version: the others still serve
        return found

    def _write(self, endpoints: list[Endpoint]) -> None:
        # One text: QSettings gives a list of one entry back as a text, and its type differs between Qt versions.
        self._settings.setValue(KEY, json.dumps([endpoint.address for endpoint in endpoints]))


def endpoints_of_command_line() -> list[SavedEndpoint]:
    """Return those that ``aidicombridge endpoints add`` has saved; none where their file cannot be found or read."""
    found = []
    try:
        kept = list(command_line.SavedEndpoints.default())
    except BridgeError:  # whoever uses an endpoint is told, see with_credentials
        return []
    for name, address in kept:
        try:
            found.append(SavedEndpoint(replace(parse_endpoint(address), name=name), COMMAND_LINE))
        except BridgeError:
            continue  # damaged by hand, or of a newer version: the others still serve
    return found


def servers_of_slicer(settings: Any) -> list[SavedEndpoint]:
    """Return the servers in Slicer's DICOM settings that are ticked there and complete.

    The two examples that the DICOM module starts with, one of them a public server, are not ticked.
    """
    try:
        count = min(int(settings.value("DICOM/ServerNodeCount") or 0), LARGEST_SERVER_COUNT)
        # Where Slicer's own listener is on, the port is taken: then C-GET is all that is left.
        taken = str(settings.value("DICOM/StorageEnabled")).lower() in ("true", "1")
        storage_port = 0 if taken else int(settings.value("DICOM/StoragePort") or 11112)
    except (TypeError, ValueError):
        return []
    found = []
    for number in range(count):
        server = _json(settings.value(f"DICOM/ServerNodes/{number}"), dict)
        by_move = server.get("Retrieve Protocol") == "CMOVE" and storage_port > 0
        try:
            queried, stored_to = (int(server.get(f"{use}CheckState") or 0) > 0 for use in ("QueryRetrieve", "Storage"))
            endpoint = DimseEndpoint(
                str(server.get("Name", "")),
                str(server.get("Address", "")),
                int(server.get("Port") or 0),
                str(server.get("Called AETitle", "")),
                str(server.get("Calling AETitle") or "AIDICOMBRIDGE"),
                retrieve="C-MOVE" if by_move else "auto",
                move_port=storage_port if by_move else 0,
                move_host="0.0.0.0" if by_move else "127.0.0.1",  # noqa: S104 - where Slicer's own receiver listens
            )
        except (BridgeError, TypeError, ValueError):
            continue
        if queried or stored_to:
            found.append(SavedEndpoint(endpoint, SLICER, queried, stored_to))
    return found


def _json(text: Any, kind: type) -> Any:
    """Return what a JSON text holds, if it is of that kind; else an empty one.

    CTK keeps its servers as QByteArray, which PythonQt hands over as an object of its own whose ``data`` is bytes.
    """
    try:
        value = json.loads(text.data() if hasattr(text, "data") else text)
    except (TypeError, ValueError):
        return kind()
    return value if isinstance(value, kind) else kind()
