"""The endpoints that a person has saved under a name: a text file that can be read and edited, without secrets."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import EndpointError, FolderError, NotFoundError
from ..user_folder import configuration_folder
from .credentials import Auth, SecretStore, write_privately
from .endpoint import DimseEndpoint, Endpoint, parse_endpoint

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_HEADER = (
    "# The endpoints of AIDicomBridge: name = address. No secrets here: 'aidicombridge endpoints add' keeps them.\n"
)


class SavedEndpoints:
    """Endpoints by name, in ``endpoints.toml`` of a folder; their secrets are kept elsewhere.

    Parameters
    ----------
    folder
        Where the file lies; made when something is saved.
    keyring
        See :class:`~.credentials.SecretStore`.
    """

    def __init__(self, folder: Path, keyring: Any = None) -> None:
        self.path = folder / "endpoints.toml"
        self._secrets = SecretStore(folder / "secrets.json", keyring)

    @classmethod
    def default(cls) -> "SavedEndpoints":
        """Return those of the person who runs this program; raises DependencyError if the folder is not known."""
        return cls(configuration_folder())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield name and address of each, in the order of the file."""
        return iter(self._read()["endpoints"].items())

    def get(self, name: str, auth: Auth = None) -> Endpoint:
        """Return a saved endpoint, with its secret, ready to connect.

        Parameters
        ----------
        auth
            Take this instead of the secret that is kept.

        Raises
        ------
        NotFoundError
            None is saved under this name.
        EndpointError
            The saved address is not valid any more, or the secret cannot be had.
        """
        kept = self._read()
        if name not in kept["endpoints"]:
            known = ", ".join(kept["endpoints"]) or "none"
            raise NotFoundError(f"no endpoint is saved as {name!r}", advice=f"Saved are: {known}.")
        endpoint = parse_endpoint(kept["endpoints"][name], auth=auth)
        return replace(self._with_secret(endpoint, kept), name=name)

    def with_secret(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint with the secret that is kept for its address; as it is where there is none."""
        return self._with_secret(endpoint, self._read())

    def add(self, name: str, endpoint: Endpoint, auth: Auth = None) -> str:
        """Save an endpoint under a name, in the place of another of that name, and return where its secret is kept.

        Raises
        ------
        EndpointError
            The name is not usable, or the secret would cross the network unencrypted.
        FolderError
            The file cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise EndpointError(
                f"{name!r} is no name for an endpoint",
                advice="Use up to 64 letters, digits, spaces, dots, dashes; begin with a letter or digit.",
            )
        kept = self._read()
        kept["endpoints"][name] = replace(endpoint, name="", auth=None).address
        where = ""
        if auth is not None:
            checked: Any = auth
            replace(endpoint, auth=checked)  # refuses what would cross the network unencrypted
            where = self._secrets.keep(_key(endpoint), auth)
            kept["secrets"][_key(endpoint)] = where
        self._write(kept)
        return where

    def remove(self, name: str) -> None:
        """Forget an endpoint, and its secret unless another one uses it; raises NotFoundError."""
        key = _key_of(self.get_address(name))
        kept = self._read()
        del kept["endpoints"][name]
        if key and all(_key_of(address) != key for address in kept["endpoints"].values()):
            kept["secrets"].pop(key, None)
            self._secrets.forget(key)
        self._write(kept)

    def get_address(self, name: str) -> str:
        """Return the address that is saved under a name; raises NotFoundError."""
        addresses = self._read()["endpoints"]
        if name not in addresses:
            raise NotFoundError(f"no endpoint is saved as {name!r}")
        return addresses[name]

    def _with_secret(self, endpoint: Endpoint, kept: dict[str, dict[str, str]]) -> Endpoint:
        if endpoint.auth is not None or _key(endpoint) not in kept["secrets"]:
            return endpoint
        auth: Any = self._secrets.get(_key(endpoint))
        return replace(endpoint, auth=auth)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            with self.path.open("rb") as file:
                kept = tomllib.load(file)
        except FileNotFoundError:
            kept = {}
        except (OSError, ValueError) as error:
            raise FolderError(f"the file {self.path} cannot be read", advice="Correct it, or remove it.") from error
        return {
            table: {str(key): value for key, value in items.items() if isinstance(value, str)}
            for table in ("endpoints", "secrets")
            if isinstance(items := kept.get(table, {}), dict)
        } | {table: {} for table in ("endpoints", "secrets") if not isinstance(kept.get(table, {}), dict)}

    def _write(self, kept: dict[str, dict[str, str]]) -> None:
        lines = [_HEADER]
        for table, items in kept.items():
            lines.append(f"\n[{table}]\n")
            lines += [f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in items.items()]
        write_privately(self.path, "".join(lines))


def _key(endpoint: Endpoint) -> str:
    """Return what a secret belongs to: the service itself, whatever the endpoint's options are."""
    if isinstance(endpoint, DimseEndpoint):
        return DimseEndpoint("", endpoint.host, endpoint.port, endpoint.ae_title).address
    return endpoint.url


def _key_of(address: str) -> str:
    """Return the key of a saved address, whatever has become of its options; empty if it is none at all."""
    try:
        return _key(parse_endpoint(address.partition("?")[0]))
    except EndpointError:
        return ""
