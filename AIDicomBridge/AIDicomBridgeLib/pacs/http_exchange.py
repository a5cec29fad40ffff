"""One HTTP exchange that can be ended from outside, wherever it hangs: while it sends, waits or reads.

A socket's timeout begins anew with every byte, so a peer that drips would be waited for without end. Here a watcher
shuts the connection down as soon as the time is over or the person cancels.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..errors import BridgeError
from ..progress import CancelToken
from .tls import web_context

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

_LOOK_SECONDS = 0.1
_PIECE_BYTES = 2**17


class _WithoutQueries(logging.Filter):
    """Takes the queries out of the URLs that urllib3 logs: they hold patients' names and IDs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(str(arg).partition("?")[0] if "?" in str(arg) else arg for arg in record.args)
        return True


class HttpConnections:
    """Connections to servers, kept for the next request; certificates are always verified.

    Parameters
    ----------
    ca_file, certificate_file, key_file
        As the attributes of :class:`~.endpoint.DicomWebEndpoint`.
    connect_timeout_s, timeout_s
        Most seconds for a connection, and for silence on it.
    """

    def __init__(
        self,
        *,
        ca_file: str | None,
        certificate_file: str | None = None,
        key_file: str | None = None,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        import requests

        logger = logging.getLogger("urllib3.connectionpool")
        if not any(isinstance(item, _WithoutQueries) for item in logger.filters):
            logger.addFilter(_WithoutQueries())
        self._session = requests.Session()
        # A callable, so that requests never looks for credentials of its own in a netrc file.
        self._session.auth = lambda request: request
        self._current = threading.local()
        adapter = _watched_adapter(self._current)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)
        if certificate_file:
            self._session.cert = (certificate_file, key_file) if key_file else certificate_file
        self._verify = ca_file or True
        self._timeout = (connect_timeout_s, timeout_s)

    def close(self) -> None:
        """Close what is kept."""
        self._session.close()

    @contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: "bytes | Iterable[bytes] | None",
        cancel: CancelToken,
        named: Callable[[Exception], BridgeError],
    ) -> Iterator["HttpAnswer"]:
        """Send one request and give its answer, whatever the status; redirects are not followed.

        Parameters
        ----------
        body
            Bytes, or an iterable with a length in bytes.
        cancel
            Ends the exchange wherever it is.
        named
            Turns a failure of the connection into the error to raise.

        Raises
        ------
        JobCancelled, DeadlineError
            As ``cancel`` has it.
        """
        with _Watch(self._current, cancel):
            failure: Exception | None = None
            response: requests.Response | None = None
            cancel.raise_if_cancelled()
            try:
                response = self._session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=self._timeout,
                    verify=self._verify,
                )
            except _failures() as error:
                failure = error
            if response is None:
                cancel.raise_if_cancelled()
                # Raised here, so that no text of requests hangs on it: it holds the URL, and with it patients' names.
                raise named(failure or OSError())
            with response:
                cancel.raise_if_cancelled()  # a connection shut down within the headers seems to have ended there
                yield HttpAnswer(response, cancel, named)


class HttpAnswer:
    """The answer of an exchange, its body not read yet.

    Attributes
    ----------
    status
        The HTTP status.
    """

    def __init__(
        self, response: "requests.Response", cancel: CancelToken, named: Callable[[Exception], BridgeError]
    ) -> None:
        self.status = response.status_code
        self._response = response
        self._cancel = cancel
        self._named = named

    def header(self, name: str) -> str:
        """Return a header, or an empty text."""
        return str(self._response.headers.get(name, ""))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, at most 128 KiB at a time; nothing that has come is waited with.

        Raises
        ------
        UnreachableError
            The connection breaks off, or the body is shorter than it was announced.
        JobCancelled, DeadlineError
            The person cancels, or the time is over.
        """
        raw = self._response.raw
        encoded = bool(self.header("Content-Encoding"))
        while True:
            failure: Exception | None = None
            piece = b""
            try:
                piece = raw.read1(_PIECE_BYTES, decode_content=encoded)
            except _failures() as error:
                failure = error
            self._cancel.raise_if_cancelled()
            if failure is not None:
                raise self._named(failure)
            if not piece:
                return
            yield piece


class _Watch:
    """Breaks the connection that its thread uses off when it is cancelled; a context manager."""

    def __init__(self, current: threading.local, cancel: CancelToken) -> None:
        self.connection: Any = None  # in use at the moment
        self._current = current
        self._cancel = cancel
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "_Watch":
        self._current.watch = self
        threading.Thread(target=self._watch, name="aidicombridge-http", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._current.watch = None
        with self._lock:  # from here on the connection may be another exchange's
            self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if self._cancel.cancelled:
                with self._lock:
                    sock = getattr(self.connection, "sock", None)
                    if sock is not None and not self._ended.is_set():
                        with suppress(OSError):
                            # Not the method of an SSLSocket, which takes its session away from the reading thread.
                            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _watched_adapter(current: threading.local) -> "HTTPAdapter":
    """Return what gives requests connections that tell the watch of their thread which one is in use."""
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    pools = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": _watched(connection, current)})
        for scheme, pool, connection in (
            ("http", HTTPConnectionPool, HTTPConnection),
            ("https", HTTPSConnectionPool, HTTPSConnection),
        )
    }

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, ssl_context=web_context())
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=web_context())
            manager.pool_classes_by_scheme = pools
            return manager

    return Adapter()


def _watched(base: Any, current: threading.local) -> Any:
    class Connection(base):
        def request(self, *args: Any, **kwargs: Any) -> None:
            if (watch := getattr(current, "watch", None)) is not None:
                watch.connection = self
            super().request(*args, **kwargs)

    return Connection


def _failures() -> tuple[type[Exception], ...]:
    """Return what requests and urllib3 raise when a connection fails."""
    import requests
    import urllib3.exceptions

    return requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError
