"""Where a PACS answers, checked when it is written down and safe to print: no secret is ever shown."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from ..errors import DependencyError, EndpointError
from .credentials import CREDENTIALS_ADVICE, Auth, environment_auth, is_token
from .endpoint_rules import (
    FORMS,
    bracketed,
    check_parallel,
    check_port,
    check_profile,
    check_timeouts,
    checked_ae_title,
    checked_host,
    is_loopback,
    number_of,
    port_number,
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
        ``calling_ae_title``. 0: no C-MOVE. An address of this machine alone is refused for a PACS on another.
    move_from
        Host that sends what is moved; ``host`` where empty. Connections from elsewhere are closed.
    profile
        Name of the destination profile by which results for this peer are written; empty for the default.
    connect_timeout_s, association_timeout_s, dimse_timeout_s, total_timeout_s
        Most seconds for the TCP connection, for each step of the association, for silence during an operation, and for
        a whole retrieve or store.
    root
        ``"study"`` or ``"patient"``: the information model of queries and retrievals (PS3.4 C.6).
    associations
        Most associations at once to send or retrieve on.
    auth
        (user, passcode) for user identity negotiation (PS3.7 D.3.3.7); the passcode may be empty. Never shown, saved
        or compared.
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
    move_from: str = ""
    profile: str = ""
    connect_timeout_s: float = 10.0
    association_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0
    total_timeout_s: float = 6 * 3600.0
    root: str = "study"
    associations: int = 1
    auth: tuple[str, str] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", checked_host(self.host))
        object.__setattr__(self, "move_host", checked_host(self.move_host))
        object.__setattr__(self, "move_from", checked_host(self.move_from) if self.move_from else "")
        object.__setattr__(self, "ae_title", checked_ae_title(self.ae_title))
        object.__setattr__(self, "calling_ae_title", checked_ae_title(self.calling_ae_title))
        check_port(self.port, lowest=1)
        check_port(self.move_port, lowest=0)
        object.__setattr__(self, "name", self.name or self._default_name)
        if self.retrieve not in ("auto", "C-GET", "C-MOVE"):
            raise EndpointError(f"the retrieve method {self.retrieve!r} is unknown", advice="Use auto, get or move.")
        if self.retrieve == "C-MOVE" and not self.move_port:
            raise EndpointError(
                "C-MOVE needs a port on which we receive",
                peer=self.name,
                advice="Add move_port, and have the PACS administrator enter our AE title with this host and port.",
            )
        if self.move_port and is_loopback(self.move_host) and not is_loopback(self.move_from or self.host):
            raise EndpointError(
                f"the PACS cannot reach us at {self.move_host}, where we would receive what it moves",
                peer=self.name,
                advice="Give as move_host the address of this machine that the PACS has on record for us, or 0.0.0.0.",
            )
        if self.root not in ("study", "patient"):
            raise EndpointError(f"the root {self.root!r} is unknown", peer=self.name, advice="Use study or patient.")
        check_parallel(self.associations, "associations", self.name)
        if self.auth is not None and self.auth[1] and self.tls is None and not is_loopback(self.host):
            raise EndpointError(
                "a passcode would cross the network unencrypted", peer=self.name, advice="Use TLS, or no passcode."
            )
        check_profile(self)
        check_timeouts(self)

    @property
    def _default_name(self) -> str:
        return f"{self.ae_title}@{bracketed(self.host)}:{self.port}"

    @property
    def address(self) -> str:
        """The endpoint as text without secrets; :func:`parse_endpoint` turns it back into an equal endpoint."""
        query = {} if self.name == self._default_name else {"name": self.name}
        query |= _changed(self, {"calling_ae_title": "calling"} | {name: name for name in _PLAIN_OPTIONS})
        if self.tls is not None:
            query["tls"] = "1"
            query |= {item.name: value for item in fields(self.tls) if (value := getattr(self.tls, item.name))}
        ae_title = quote(self.ae_title, safe="")
        return f"dimse://{ae_title}@{bracketed(self.host)}:{self.port}{_query_text(query)}"


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
    connections
        Most requests at once that send; a retrieve has one, beside which it is listed.
    profile
        Name of the destination profile by which results for this peer are written; empty for the default.
    connect_timeout_s, timeout_s
        Most seconds for the connection, and for silence on it.
    """

    name: str
    url: str
    auth: Auth = field(default=None, repr=False, compare=False)
    _: KW_ONLY
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    connections: int = 1
    profile: str = ""
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0
    total_timeout_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
        except ValueError:
            raise EndpointError("the URL cannot be read", advice=FORMS) from None
        if parts.username is not None or parts.password is not None:
            raise EndpointError("the address holds a user name or password", advice=CREDENTIALS_ADVICE["dicomweb"])
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
        host = bracketed(checked_host(parts.hostname)) + (f":{port}" if port else "")
        object.__setattr__(self, "url", f"{parts.scheme}://{host}{parts.path.rstrip('/')}")
        object.__setattr__(self, "name", self.name or self.url)
        if isinstance(self.auth, str) and not is_token(self.auth):
            raise EndpointError(
                "the token holds characters that no token has, perhaps a line break at its end", peer=self.url
            )
        if self.auth is not None and parts.scheme == "http" and not is_loopback(parts.hostname):
            raise EndpointError(
                "credentials would cross the network unencrypted",
                peer=self.url,
                advice="Use the https:// address of the service, or no credentials.",
            )
        check_parallel(self.connections, "connections", self.name)
        check_profile(self)
        check_timeouts(self)

    @property
    def address(self) -> str:
        """The endpoint as text without secrets; :func:`parse_endpoint` turns it back into an equal endpoint."""
        query = {} if self.name == self.url else {"name": self.name}
        query |= _changed(self, {name: name for name in WEB_OPTIONS if name != "name"})
        return f"{self.url}{_query_text(query)}"


Endpoint = DimseEndpoint | DicomWebEndpoint


def parse_endpoint(text: str, *, auth: Auth = None, environ: Mapping[str, str] | None = None) -> Endpoint:
    """Return the endpoint that a text describes.

    Parameters
    ----------
    text
        ``dimse://AETITLE@host:port`` with, optionally, ``?calling=AETITLE&retrieve=auto|get|move&move_port=N``;
        ``https://host/dicom-web``; what an endpoint's ``address`` gave; or the name of a saved endpoint.
    auth
        Credentials: see the attribute of the endpoint.
    environ
        Where to look for them if ``auth`` is not given, e.g. ``os.environ``; see
        :func:`~.credentials.environment_auth`. What is kept for a saved endpoint comes after it.

    Raises
    ------
    EndpointError
        The text is no address, or breaks a rule of its kind; the message says which.
    """
    if ":" not in text:
        return _saved(text.strip(), auth, environ)
    try:
        parts = urlsplit(text.strip())
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise EndpointError("the address cannot be read", advice=FORMS) from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise EndpointError("an option of the address is given twice", advice=FORMS)
    if parts.password is not None or (parts.scheme in ("http", "https") and parts.username is not None):
        kind = "dimse" if parts.scheme == "dimse" else "dicomweb"
        raise EndpointError("the address holds a user name or password", advice=CREDENTIALS_ADVICE[kind])
    if auth is None and environ is not None:
        auth = environment_auth(environ, text)
    if parts.scheme == "dimse":
        return _parse_dimse(parts, options, auth)
    if parts.scheme in ("http", "https"):
        return _parse_dicomweb(parts._replace(query="").geturl(), options, auth)
    raise EndpointError("the address begins with neither dimse:// nor https://", advice=FORMS)


def _saved(name: str, auth: Auth, environ: Mapping[str, str] | None) -> Endpoint:
    from .saved_endpoints import SavedEndpoints

    try:
        saved = SavedEndpoints.default()
        known = name in dict(saved)
    except DependencyError:  # nobody can have saved anything then
        known = False
    if not known:
        raise EndpointError(
            "the address begins with neither dimse:// nor https://, and no endpoint is saved under that name",
            advice=f"{FORMS} 'aidicombridge endpoints list' shows what is saved.",
        )
    if auth is None and environ is not None:
        auth = environment_auth(environ, saved.get_address(name))
    return saved.get(name, auth)


_TIMEOUTS = ("connect_timeout_s", "association_timeout_s", "dimse_timeout_s", "total_timeout_s")
_WEB_TIMEOUTS = ("connect_timeout_s", "timeout_s", "total_timeout_s")
_TLS_OPTIONS = tuple(item.name for item in fields(TlsFiles))
_PLAIN_OPTIONS = ("retrieve", "move_port", "move_host", "move_from", "profile", "root", "associations", *_TIMEOUTS)
DIMSE_OPTIONS = ("name", "calling", "tls", *_TLS_OPTIONS, *_PLAIN_OPTIONS)
WEB_OPTIONS = ("name", *_TLS_OPTIONS, "profile", "connections", *_WEB_TIMEOUTS)


def _parse_dimse(parts: SplitResult, options: dict[str, str], auth: Auth) -> DimseEndpoint:
    ae_title, host, path = parts.username, parts.hostname, parts.path
    _, _, port = parts.netloc.rpartition("@")[2].rpartition(":")
    if auth is not None and not isinstance(auth, tuple):
        raise EndpointError("DIMSE takes a user and a passcode, no token", advice="Give (user, passcode).")
    if not ae_title or not host or not port:
        raise EndpointError("the address lacks the AE title, the host or the port", advice=FORMS)
    if path not in ("", "/"):
        raise EndpointError("a DIMSE address has no path", advice=FORMS)
    _refuse_unknown(options, DIMSE_OPTIONS)
    tls_files = {name: options[name] for name in _TLS_OPTIONS if name in options}
    retrieve = options.get("retrieve", "auto")
    return DimseEndpoint(
        options.get("name", ""),
        host,
        port_number(port, "the port"),
        unquote(ae_title),
        options.get("calling", "AIDICOMBRIDGE"),
        TlsFiles(**tls_files) if options.get("tls", "0") == "1" or tls_files else None,
        retrieve=_RETRIEVE_WORDS.get(retrieve.lower(), retrieve),
        move_port=port_number(options.get("move_port", "0"), "the option move_port"),
        move_host=options.get("move_host", "127.0.0.1"),
        move_from=options.get("move_from", ""),
        profile=options.get("profile", ""),
        root=options.get("root", "study"),
        associations=port_number(options.get("associations", "1"), "the option associations"),
        auth=auth,
        **{name: number_of(options[name], name) for name in _TIMEOUTS if name in options},
    )


def _parse_dicomweb(url: str, options: dict[str, str], auth: Auth) -> DicomWebEndpoint:
    _refuse_unknown(options, WEB_OPTIONS)
    return DicomWebEndpoint(
        options.get("name", ""),
        url,
        auth,
        ca_file=options.get("ca_file"),
        certificate_file=options.get("certificate_file"),
        key_file=options.get("key_file"),
        connections=port_number(options.get("connections", "1"), "the option connections"),
        profile=options.get("profile", ""),
        **{name: number_of(options[name], name) for name in _WEB_TIMEOUTS if name in options},
    )


def _refuse_unknown(options: dict[str, str], known: tuple[str, ...]) -> None:
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise EndpointError(
            f"the address has the unknown option {unknown[0]!r}", advice=f"Known options: {', '.join(known)}."
        )


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
