"""HTTP to a DICOMweb service: verified, with deadlines, never redirected elsewhere, failures as named errors."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ..errors import EndpointError, QueryError, UnreachableError
from ..progress import CancelToken
from .credentials import OAuthClient
from .endpoint import DicomWebEndpoint
from .oauth_tokens import OAuthTokens

if TYPE_CHECKING:
    from .http_exchange import HttpAnswer

_MOST_JSON_BYTES = 256 * 2**20
_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)


class HttpSession:
    """HTTP bound to one DICOMweb endpoint. Whatever hangs in it ends when it is cancelled or its time is over."""

    def __init__(self, endpoint: DicomWebEndpoint) -> None:
        from .http_exchange import HttpConnections

        self._endpoint = endpoint
        self._connections = HttpConnections(
            ca_file=endpoint.ca_file,
            certificate_file=endpoint.certificate_file,
            key_file=endpoint.key_file,
            connect_timeout_s=endpoint.connect_timeout_s,
            timeout_s=endpoint.timeout_s,
        )
        self._tokens = OAuthTokens(endpoint, endpoint.auth) if isinstance(endpoint.auth, OAuthClient) else None

    def close(self) -> None:
        """Close the kept connections."""
        self._connections.close()

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        cancel: CancelToken,
        *,
        accept: str,
        query: str = "",
        body: Iterable[bytes] | None = None,
        content_type: str = "",
    ) -> Iterator["HttpAnswer"]:
        """Send a request and give the answer, its body not read yet.

        Parameters
        ----------
        path, query
            Below the service's URL, percent-encoded.
        cancel
            Ends all of it, until the last byte of the answer; a :class:`~.deadline.Deadline`, so that it does end.
        body
            Something of known length that can be gone through again.

        Raises
        ------
        UnreachableError
            No connection, an untrusted certificate, or no answer in time.
        EndpointError
            401 or 403, a redirect to somewhere else, or a certificate file that is not there.
        JobCancelled, DeadlineError
            As ``cancel`` has it.
        """
        self._check_files()
        url = f"{self._endpoint.url}{path}{'?' if query else ''}{query}"
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = content_type
        renewed = False
        for _ in range(_MOST_REDIRECTS + 2):
            with ExitStack() as stack:
                authorised = headers | self._authorization(cancel)
                answer = stack.enter_context(
                    self._connections.exchange(method, url, authorised, body, cancel, self._unreachable)
                )
                if answer.status == 401 and self._tokens is not None and not renewed:
                    renewed = True  # the token has expired; a second refusal would mean more
                    self._tokens.forget(authorised["Authorization"])
                elif answer.status in _REDIRECTS:
                    url = self._redirected(method, url, answer)
                else:
                    self._check_authorised(answer.status)
                    yield answer
                    return
        raise EndpointError("the service redirects in a circle", peer=self._endpoint.name)

    def get_json(self, path: str, query: str, cancel: CancelToken) -> list[Mapping[str, Any]]:
        """Return the list of DICOM JSON objects that a GET gives; empty for 204.

        Raises
        ------
        QueryError
            Another status than 200 or 204, or a body that is not a list of JSON objects.
        """
        with self.request("GET", path, cancel, query=query, accept="application/dicom+json") as answer:
            if answer.status == 204:
                return []
            if answer.status != 200:
                raise QueryError(
                    "the query was refused",
                    peer=self._endpoint.name,
                    status=f"HTTP {answer.status}",
                    advice="Check the path of the service's URL." if answer.status == 404 else None,
                )
            objects = self.read_json(answer)
        if not isinstance(objects, list) or not all(isinstance(item, Mapping) for item in objects):
            raise QueryError("the answer is not a list of DICOM JSON objects", peer=self._endpoint.name)
        return objects

    def read_json(self, answer: "HttpAnswer") -> Any:
        """Return an answer's body as JSON; XML and the like are not parsed at all.

        Raises
        ------
        QueryError
            The body is not JSON, or too large.
        """
        kind = answer.header("Content-Type").partition(";")[0].strip().lower()
        if kind not in ("application/dicom+json", "application/json"):
            raise QueryError(
                f"the answer is {kind or 'of no stated type'} instead of DICOM JSON",
                peer=self._endpoint.name,
                advice="Check that the URL is that of the DICOMweb service.",
            )
        body = bytearray()
        for piece in answer.pieces():
            body += piece
            if len(body) > _MOST_JSON_BYTES:
                raise QueryError("the answer is too long", peer=self._endpoint.name, advice="Narrow the query.")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):  # which hold the body
            raise QueryError("the answer is not valid JSON", peer=self._endpoint.name) from None

    def _unreachable(self, error: Exception) -> UnreachableError:
        """Return what a failure of requests means, without the URL's query, which may hold a patient's name."""
        import requests
        import urllib3.exceptions

        host = urlsplit(self._endpoint.url).netloc
        if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
            return UnreachableError(
                f"TLS with {host} failed: its certificate is not trusted or not for this host",
                peer=self._endpoint.name,
                advice="If the hospital has its own certificate authority, give its certificate as ca_file.",
            )
        if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
            return UnreachableError(
                f"{host} did not answer in time",
                peer=self._endpoint.name,
                advice="Check that the service runs; raise timeout_s if it is slow.",
            )
        if "NameResolutionError" in repr(error) or "getaddrinfo" in repr(error):
            what = f"the host {urlsplit(self._endpoint.url).hostname} is unknown"
        elif "refused" in repr(error):
            what = f"nothing listens on {host} (connection refused)"
        else:
            what = f"the connection to {host} broke off"
        return UnreachableError(what, peer=self._endpoint.name, advice="Check the URL and that the service runs.")

    def _authorization(self, cancel: CancelToken) -> dict[str, str]:
        auth = self._endpoint.auth
        if auth is None:
            return {}
        if isinstance(auth, tuple):
            return {"Authorization": f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"}
        return {"Authorization": f"Bearer {auth if isinstance(auth, str) else self._token(cancel)}"}

    def _token(self, cancel: CancelToken) -> str:
        assert self._tokens is not None  # noqa: S101 - made with the session
        return self._tokens.current(cancel)

    def _check_files(self) -> None:
        for path in (self._endpoint.ca_file, self._endpoint.certificate_file, self._endpoint.key_file):
            if path is not None and not Path(path).is_file():
                raise EndpointError(f"the certificate file {path} does not exist", peer=self._endpoint.name)

    def _check_authorised(self, status: int) -> None:
        if status not in (401, 403):
            return
        raise EndpointError(
            "the service asks for other credentials" if self._endpoint.auth else "the service asks for credentials",
            peer=self._endpoint.name,
            status=f"HTTP {status}",
            advice="Enter user and password, or a token (on the command line AIDICOMBRIDGE_DICOMWEB_HOST with"
            " AIDICOMBRIDGE_DICOMWEB_TOKEN, or with AIDICOMBRIDGE_DICOMWEB_USER and AIDICOMBRIDGE_DICOMWEB_PASSWORD);"
            " if they are right, ask for the permission.",
        )

    def _redirected(self, method: str, url: str, answer: "HttpAnswer") -> str:
        """Return where a redirect leads if that is the same origin; credentials and data go nowhere else."""
        target = urljoin(url, answer.header("Location"))
        here, there = urlsplit(url), urlsplit(target)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc) or method != "GET":
            raise EndpointError(
                f"the service redirects to {there.scheme}://{there.hostname}",
                peer=self._endpoint.name,
                status=f"HTTP {answer.status}",
                advice="If that is right, enter the address it redirects to.",
            )
        return target
