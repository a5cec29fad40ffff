"""What an endpoint logs in with, and where a secret is kept: never in an address, a settings file or a log."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import EndpointError, FolderError
from .endpoint_rules import is_loopback

SERVICE = "AIDicomBridge"
_ADVICE = (
    "Leave them out of the address: save the endpoint with 'aidicombridge endpoints add', or set {} in the environment."
)
CREDENTIALS_ADVICE = {
    "dimse": _ADVICE.format("AIDICOMBRIDGE_DIMSE_HOST, AIDICOMBRIDGE_DIMSE_USER and AIDICOMBRIDGE_DIMSE_PASSWORD"),
    "dicomweb": _ADVICE.format(
        "AIDICOMBRIDGE_DICOMWEB_HOST and either AIDICOMBRIDGE_DICOMWEB_TOKEN or AIDICOMBRIDGE_DICOMWEB_USER and"
        " AIDICOMBRIDGE_DICOMWEB_PASSWORD"
    ),
}


@dataclass(frozen=True)
class OAuthClient:
    """An OAuth 2.0 client (RFC 6749 section 4.4, client credentials), which fetches its own bearer tokens.

    Attributes
    ----------
    token_url
        Where tokens are given out; ``https://``, or this machine.
    client_id, client_secret
        Who we are there. The secret is never shown.
    scope
        What to ask for; empty for the server's default.
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.token_url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise EndpointError("the token URL does not begin with https://", advice="A secret is never sent in clear.")


Auth = tuple[str, str] | str | OAuthClient | None


def is_token(text: str) -> bool:
    """Return True for what can stand behind ``Bearer`` in a header: printable ASCII without blanks (RFC 6750)."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def environment_auth(environ: Mapping[str, str], address: str) -> tuple[str, str] | str | None:
    """Return the environment's credentials for this address: a token, a (user, password), or None.

    ``AIDICOMBRIDGE_DICOMWEB_...`` are for DICOMweb and ``AIDICOMBRIDGE_DIMSE_...`` for DIMSE. They go to the host that
    ``..._HOST`` names (``host`` or ``host:port``) and to no other: a loop between two archives must not show one of
    them the other's token.

    Raises
    ------
    EndpointError
        There are credentials and no host that they are for.
    """
    parts = urlsplit(address.strip())
    kinds = {"http": "DICOMWEB", "https": "DICOMWEB", "dimse": "DIMSE"}
    prefix = f"AIDICOMBRIDGE_{kinds.get(parts.scheme, 'NONE')}"
    token, user = environ.get(f"{prefix}_TOKEN"), environ.get(f"{prefix}_USER")
    if not (token or user):
        return None
    host = environ.get(f"{prefix}_HOST", "").lower()
    if not host:
        raise EndpointError(
            "the environment holds credentials, but not the host that they are for",
            advice=f"Set {prefix}_HOST to that host.",
        )
    if host not in ((parts.hostname or "").lower(), parts.netloc.lower().rpartition("@")[2]):
        return None
    return token or (str(user), environ.get(f"{prefix}_PASSWORD", ""))


class SecretStore:
    """Secrets by endpoint, in the system's keyring, or where there is none in a file that only its owner may read.

    Parameters
    ----------
    path
        That file.
    keyring
        A module or object with the functions of the package keyring; the package itself where not given.
    """

    def __init__(self, path: Path, keyring: Any = None) -> None:
        self._path = path
        self._keyring = keyring if keyring is not None else _system_keyring()

    def keep(self, key: str, auth: "tuple[str, str] | str | OAuthClient") -> str:
        """Keep a secret and return where: ``"keyring"`` or ``"file"``."""
        text = json.dumps({"client": asdict(auth)} if isinstance(auth, OAuthClient) else {"auth": auth})
        if self._keyring is not None:
            try:
                self._keyring.set_password(SERVICE, key, text)
                return "keyring"
            except Exception:  # noqa: BLE001 - backends raise what they like; none of it says that the file will not do
                self._keyring = None
        self._write({**self._read(), key: text})
        return "file"

    def get(self, key: str) -> Auth:
        """Return a secret; None if none is kept.

        Raises
        ------
        FolderError
            The file can be read by others, or is damaged.
        EndpointError
            The keyring does not give it.
        """
        text = self._read().get(key)
        if text is None and self._keyring is not None:
            try:
                text = self._keyring.get_password(SERVICE, key)
            except Exception as error:  # backends raise what they like, a locked keyring among them
                raise EndpointError(
                    "the system's keyring does not give the secret of this endpoint", advice="Unlock the keyring."
                ) from error
        if text is None:
            return None
        try:
            kept = json.loads(text)
            if "client" in kept:
                return OAuthClient(**kept["client"])
            return kept["auth"] if isinstance(kept["auth"], str) else (str(kept["auth"][0]), str(kept["auth"][1]))
        except (ValueError, TypeError, KeyError, IndexError):
            raise EndpointError(
                "the kept secret cannot be read", advice="Add the endpoint again to replace it."
            ) from None  # the text is a secret

    def forget(self, key: str) -> None:
        """Remove a secret from wherever it is."""
        kept = self._read()
        if kept.pop(key, None) is not None:
            self._write(kept)
        if self._keyring is not None:
            with suppress(Exception):  # it is not there, or there is no keyring after all
                self._keyring.delete_password(SERVICE, key)

    def _read(self) -> dict[str, str]:
        try:
            with self._path.open("rb") as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                    raise FolderError(
                        f"the file {self._path} holds secrets and can be read by others",
                        advice=f"Change the secrets, and run: chmod 600 {self._path}",
                    )
                kept = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            raise FolderError(f"the file {self._path} cannot be read", advice="Remove it.") from None
        return kept if isinstance(kept, dict) else {}

    def _write(self, kept: dict[str, str]) -> None:
        write_privately(self._path, json.dumps(kept))


def write_privately(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises
    ------
    FolderError
        It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FolderError(f"the file {path} cannot be written: {error.strerror}") from error


def _system_keyring() -> Any:
    try:
        return import_module("keyring")
    except ImportError:  # an optional package
        return None
