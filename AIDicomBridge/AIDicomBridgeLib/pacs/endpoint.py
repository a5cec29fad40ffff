"""Where a PACS answers, checked when it is written down and safe to print: no secret is ever shown."""

import ipaddress
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ..errors import EndpointError

FORMS = "Write dimse://AETITLE@host:port, or https://host/dicom-web."
_CREDENTIALS_ADVICE = (
    "Leave them out of the address and set AIDICOMBRIDGE_DICOMWEB_HOST and either AIDICOMBRIDGE_DICOMWEB_TOKEN or"
    " AIDICOMBRIDGE_DICOMWEB_USER and AIDICOMBRIDGE_DICOMWEB_PASSWORD in the environment."
)
_RETRIEVE_WORDS = {"auto": "auto", "get": "C-GET", "c-get": "C-GET", "move": "C-MOVE", "c-move": "C-MOVE"}


@dataclass(frozen=True)
class TlsFiles:
    """TLS for DIMSE (PS3.15 B.12): always verified, TLS 1.2 or newer.

    Attributes
    ----------
    ca_file
        Certificates to trust, PEM; None for the system's.
    certificate_file, key_file
        Our own certificate and key, PEM, where the peer asks for one.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True)
class DimseEndpoint:
    """A PACS that speaks DIMSE.

    Attributes
    ----------
    name
        What reports and errors call it; ``AETITLE@host:port`` if left empty.
    host, port, ae_title
        Where the PACS listens and its AE title (the called one).
    calling_ae_title
        Our own AE title; many PACS serve only those they know.
    tls
        TLS settings; None for a plain connection.
    retrieve
        ``"C-GET"``, ``"C-MOVE"`` or ``"auto"``: C-GET, and C-MOVE where the peer does not offer it.
    move_port, move_host
        Port and address on which our own receiver listens during a C-MOVE. The PACS must have them on record for
        ``calling_ae_title``. 0: no C-MOVE.
    profile
        Name of the destination profile by which results for this peer are written; empty for the default.
    connect_timeout_s, association_timeout_s, dimse_timeout_s
        Most seconds for the TCP connection, for each step of the association, and for silence during an operation.
    """

    name: str
    host: str
    port: int
    ae_title: str
    calling_ae_title: str = "AIDICOMBRIDGE"
    tls: TlsFiles | None = None
    _: KW_ONLY
    retrieve: str = "auto"
    move_port: int = 0
    move_host: str = "127.0.0.1"
    profile: str = ""
    connect_timeout_s: float = 10.0
    association_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", _checked_host(self.host))
        object.__setattr__(self, "move_host", _checked_host(self.move_host))
        object.__setattr__(self, "ae_title", _checked_ae_title(self.ae_title))
        object.__setattr__(self, "calling_ae_title", _checked_ae_title(self.calling_ae_title))
        _check_port(self.port, lowest=1)
        _check_port(self.move_port, lowest=0)
        object.__setattr__(self, "name", self.name or self._default_name)
        if self.retrieve not in ("auto", "C-GET", "C-MOVE"):
            raise EndpointError(f"the retrieve method {self.retrieve!r} is unknown", advice="Use auto, get or move.")
        if self.retrieve == "C-MOVE" and not self.move_port:
            raise EndpointError(
                "C-MOVE needs a port on which we receive",
                peer=self.name,
                advice="Add move_port, and have the PACS administrator enter our AE title with this host and port.",
            )
        _check_profile(self)
        _check_timeouts(self)

    @property
    def _default_name(self) -> str:
        return f"{self.ae_title}@{_bracketed(self.host)}:{self.port}"

    @property
    def address(self) -> str:
        """The endpoint as text without secrets; :func:`parse_endpoint` turns it back into an equal endpoint."""
        query = {} if self.name == self._default_name else {"name": self.name}
        query |= _changed(self, {"calling_ae_title": "calling", "retrieve": "retrieve"})
        query |= _changed(self, {name: name for name in ("move_port", "move_host", "profile", *_TIMEOUTS)})
        if self.tls is not None:
            query["tls"] = "1"
            query |= {item.name: value for item in fields(self.tls) if (value := getattr(self.tls, item.name))}
        ae_title = quote(self.ae_title, safe="")
        return f"dimse://{ae_title}@{_bracketed(self.host)}:{self.port}{_query_text(query)}"


@dataclass(frozen=True)
class DicomWebEndpoint:
    """A PACS that speaks DICOMweb (PS3.18).

    Attributes
    ----------
    name
        What reports and errors call it; the URL if left empty.
    url
        The service's base URL, e.g. ``https://pacs.example/dicom-web``.
    auth
        ``(user, password)`` for Basic, a text for a Bearer token, or None. Never shown, saved or compared.
    ca_file
        Certificates to trust instead of the system's, PEM. Certificates are always verified.
    profile
        Name of the destination profile by which results for this peer are written; empty for the default.
    connect_timeout_s, timeout_s
        Most seconds for the connection, and for silence on it.
    """

    name: str
    url: str
    auth: tuple[str, str] | str | None = field(default=None, repr=False, compare=False)
    _: KW_ONLY
    ca_file: str | None = None
    profile: str = ""
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
        except ValueError:
            raise EndpointError("the URL cannot be read", advice=FORMS) from None
        if parts.username is not None or parts.password is not None:
            raise EndpointError("the address holds a user name or password", advice=_CREDENTIALS_ADVICE)
        try:
            port = parts.port
        except ValueError:
            raise EndpointError("the port of the URL is no number from 1 to 65535", advice=FORMS) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(
                "the URL of a DICOMweb service begins with https:// or http:// and a host", advice=FORMS
            )
        if parts.query or parts.fragment:
            raise EndpointError("the URL of a DICOMweb service has no query and no fragment", advice=FORMS)
        host = _bracketed(_checked_host(parts.hostname)) + (f":{port}" if port else "")
        object.__setattr__(self, "url", f"{parts.scheme}://{host}{parts.path.rstrip('/')}")
        object.__setattr__(self, "name", self.name or self.url)
        if self.auth is not None and parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise EndpointError(
                "credentials would cross the network unencrypted",
                peer=self.url,
                advice="Use the https:// address of the service, or no credentials.",
            )
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            raise EndpointError(f"the certificate file {self.ca_file} does not exist", peer=self.url)
        _check_profile(self)
        _check_timeouts(self)

    @property
    def address(self) -> str:
        """The endpoint as text without secrets; :func:`parse_endpoint` turns it back into an equal endpoint."""
        query = {} if self.name == self.url else {"name": self.name}
        query |= _changed(self, {name: name for name in ("ca_file", "profile", "connect_timeout_s", "timeout_s")})
        return f"{self.url}{_query_text(query)}"


Endpoint = DimseEndpoint | DicomWebEndpoint


def parse_endpoint(
    text: str, *, auth: tuple[str, str] | str | None = None, environ: Mapping[str, str] | None = None
) -> Endpoint:
    """Return the endpoint that a text describes.

    Parameters
    ----------
    text
        ``dimse://AETITLE@host:port`` with, optionally, ``?calling=AETITLE&retrieve=auto|get|move&move_port=N``;
        ``https://host/dicom-web``; or what an endpoint's ``address`` gave.
    auth
        Credentials for DICOMweb: a bearer token, or (user, password).
    environ
        Where to look for them if ``auth`` is not given, e.g. ``os.environ``; see :func:`dicomweb_auth`.

    Raises
    ------
    EndpointError
        The text is no address, or breaks a rule of its kind; the message says which.
    """
    try:
        parts = urlsplit(text.strip())
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise EndpointError("the address cannot be read", advice=FORMS) from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise EndpointError("an option of the address is given twice", advice=FORMS)
    if parts.password is not None or (parts.scheme in ("http", "https") and parts.username is not None):
        raise EndpointError("the address holds a user name or password", advice=_CREDENTIALS_ADVICE)
    if parts.scheme == "dimse":
        return _parse_dimse(parts.username, parts.hostname, parts.netloc, parts.path, options)
    if parts.scheme in ("http", "https"):
        if auth is None and environ is not None:
            auth = dicomweb_auth(environ, text)
        return _parse_dicomweb(parts._replace(query="").geturl(), options, auth)
    raise EndpointError("the address begins with neither dimse:// nor https://", advice=FORMS)


def dicomweb_auth(environ: Mapping[str, str], address: str) -> tuple[str, str] | str | None:
    """Return the environment's DICOMweb credentials for this address: a token, a (user, password), or None.

    They go to the host that ``AIDICOMBRIDGE_DICOMWEB_HOST`` names (``host`` or ``host:port``) and to no other: a loop
    between two archives must not show one of them the other's token.

    Raises
    ------
    EndpointError
        There are credentials and no host that they are for.
    """
    token = environ.get("AIDICOMBRIDGE_DICOMWEB_TOKEN")
    user = environ.get("AIDICOMBRIDGE_DICOMWEB_USER")
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not (token or user):
        return None
    host = environ.get("AIDICOMBRIDGE_DICOMWEB_HOST", "").lower()
    if not host:
        raise EndpointError(
            "the environment holds DICOMweb credentials, but not the host that they are for",
            advice="Set AIDICOMBRIDGE_DICOMWEB_HOST to that host.",
        )
    if host not in ((parts.hostname or "").lower(), parts.netloc.lower()):
        return None
    return token or (str(user), environ.get("AIDICOMBRIDGE_DICOMWEB_PASSWORD", ""))


_TIMEOUTS = ("connect_timeout_s", "association_timeout_s", "dimse_timeout_s")


def _parse_dimse(
    ae_title: str | None, host: str | None, netloc: str, path: str, options: dict[str, str]
) -> DimseEndpoint:
    _, _, port = netloc.rpartition("@")[2].rpartition(":")
    if not ae_title or not host or not port:
        raise EndpointError("the address lacks the AE title, the host or the port", advice=FORMS)
    if path not in ("", "/"):
        raise EndpointError("a DIMSE address has no path", advice=FORMS)
    tls_names = [item.name for item in fields(TlsFiles)]
    _refuse_unknown(
        options, ("name", "calling", "retrieve", "move_port", "move_host", "profile", "tls", *tls_names, *_TIMEOUTS)
    )
    tls_files = {name: options[name] for name in tls_names if name in options}
    retrieve = options.get("retrieve", "auto")
    return DimseEndpoint(
        options.get("name", ""),
        host,
        _port(port, "the port"),
        unquote(ae_title),
        options.get("calling", "AIDICOMBRIDGE"),
        TlsFiles(**tls_files) if options.get("tls", "0") == "1" or tls_files else None,
        retrieve=_RETRIEVE_WORDS.get(retrieve.lower(), retrieve),
        move_port=_port(options.get("move_port", "0"), "the option move_port"),
        move_host=options.get("move_host", "127.0.0.1"),
        profile=options.get("profile", ""),
        **{name: _number(options[name], name) for name in _TIMEOUTS if name in options},
    )


def _parse_dicomweb(url: str, options: dict[str, str], auth: tuple[str, str] | str | None) -> DicomWebEndpoint:
    timeouts = ("connect_timeout_s", "timeout_s")
    _refuse_unknown(options, ("name", "ca_file", "profile", *timeouts))
    return DicomWebEndpoint(
        options.get("name", ""),
        url,
        auth,
        ca_file=options.get("ca_file"),
        profile=options.get("profile", ""),
        **{name: _number(options[name], name) for name in timeouts if name in options},
    )


def _refuse_unknown(options: dict[str, str], known: tuple[str, ...]) -> None:
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise EndpointError(
            f"the address has the unknown option {unknown[0]!r}", advice=f"Known options: {', '.join(known)}."
        )


def _port(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise EndpointError(f"{what} is no number from 0 to 65535", advice=FORMS)
    return int(text)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EndpointError(f"the option {name} is no number") from None


def _changed(endpoint: Endpoint, shown_as: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that differ from their defaults, under the names that the address uses."""
    defaults = {item.name: item.default for item in fields(endpoint)}
    return {
        shown: str(getattr(endpoint, name))
        for name, shown in shown_as.items()
        if getattr(endpoint, name) != defaults[name]
    }


def _query_text(query: Mapping[str, str]) -> str:
    return f"?{urlencode(query)}" if query else ""


def _checked_host(host: str) -> str:
    """Return a host name or IP address without brackets, in small letters; the resolver can take every label of it."""
    cleaned = host.strip().strip("[]").lower()
    if not cleaned or not all(character.isalnum() or character in "-_.:" for character in cleaned):
        raise EndpointError("the host is empty or holds characters that no host name has", advice=FORMS)
    try:
        if ":" in cleaned:
            ipaddress.IPv6Address(cleaned)
        else:
            cleaned.encode("idna")
    except ValueError:  # UnicodeError is one
        raise EndpointError("the host is neither a host name nor an IP address", advice=FORMS) from None
    return cleaned


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _checked_ae_title(text: str) -> str:
    """Return an AE title without its padding (PS3.5 6.2: at most 16 characters, no backslash, no control codes)."""
    cleaned = text.strip(" ")
    if not 1 <= len(cleaned) <= 16 or not cleaned.isascii() or not cleaned.isprintable() or "\\" in cleaned:
        raise EndpointError(
            f"the AE title {text!r} cannot be used",
            advice="An AE title has 1 to 16 ASCII characters and no backslash; capitals matter.",
        )
    return cleaned


def _check_port(port: int, *, lowest: int) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not lowest <= port <= 65535:
        raise EndpointError(f"the port {port} is not between {lowest} and 65535", advice=FORMS)


def _check_profile(endpoint: Endpoint) -> None:
    """Refuse what cannot be a profile's name; which profiles there are is not known here."""
    if endpoint.profile and not (endpoint.profile.isascii() and endpoint.profile.replace("-", "").isalnum()):
        raise EndpointError(
            f"the profile {endpoint.profile!r} is no name",
            peer=endpoint.name,
            advice="Write profile=ohif, for example.",
        )


def _check_timeouts(endpoint: Endpoint) -> None:
    for item in fields(endpoint):
        if item.name.endswith("timeout_s") and not 0 < getattr(endpoint, item.name) < 1e6:
            raise EndpointError(f"{item.name} must be a number of seconds above 0", peer=endpoint.name)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
