"""HTTP to a DICOMweb service: verified, with deadlines, never redirected elsewhere, failures as named errors."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ..errors import EndpointError, QueryError, UnreachableError
from ..progress import CancelToken, check_cancel
from .credentials import OAuthClient
from .endpoint import DicomWebEndpoint
from .oauth_tokens import OAuthTokens

if TYPE_CHECKING:
    import requests

_MOST_JSON_BYTES = 256 * 2**20
_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)


class _WithoutQueries(logging.Filter):
    """Takes the queries out of the URLs that urllib3 logs: they hold patients' names and IDs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(str(arg).partition("?")[0] if "?" in str(arg) else arg for arg in record.args)
        return True


class HttpSession:
    """A requests session bound to one DICOMweb endpoint."""

    def __init__(self, endpoint: DicomWebEndpoint) -> None:
        import requests

        self._endpoint = endpoint
        logger = logging.getLogger("urllib3.connectionpool")
        if not any(isinstance(item, _WithoutQueries) for item in logger.filters):
            logger.addFilter(_WithoutQueries())
        self._session = requests.Session()
        # A callable, so that requests never looks for credentials of its own in a netrc file.
        self._session.auth = self._authorise
        if endpoint.certificate_file:
            own = (endpoint.certificate_file, endpoint.key_file) if endpoint.key_file else endpoint.certificate_file
            self._session.cert = own
        self._tokens = OAuthTokens(endpoint) if isinstance(endpoint.auth, OAuthClient) else None

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def request(
        self, method: str, path: str, *, accept: str, query: str = "", body: bytes | None = None, content_type: str = ""
    ) -> "requests.Response":
        """Send a request and return the response with its body not read yet.

        Parameters
        ----------
        path, query
            Below the service's URL, percent-encoded.

        Raises
        ------
        UnreachableError
            No connection, an untrusted certificate, or no answer in time.
        EndpointError
            401 or 403, or a redirect to somewhere else.
        """
        import requests

        url = f"{self._endpoint.url}{path}{'?' if query else ''}{query}"
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = content_type
        renewed = False
        for _ in range(_MOST_REDIRECTS + 2):
            try:
                response = self._session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=(self._endpoint.connect_timeout_s, self._endpoint.timeout_s),
                    verify=self._endpoint.ca_file or True,
                )
            except (requests.RequestException, ValueError) as error:  # urllib3's LocationParseError is a ValueError
                raise self.unreachable(error) from None  # its text holds the URL: names in it, or a token
            if response.status_code == 401 and self._tokens is not None and not renewed:
                response.close()  # the token has expired; a second refusal would mean more
                self._tokens.renew()
                renewed = True
                continue
            if response.status_code not in _REDIRECTS:
                self._check_authorised(response)
                return response
            url = self._redirected(method, url, response)
        raise EndpointError("the service redirects in a circle", peer=self._endpoint.name)

    def get_json(self, path: str, query: str = "", cancel: CancelToken | None = None) -> list[Mapping[str, Any]]:
        """Return the list of DICOM JSON objects that a GET gives; empty for 204.

        Raises
        ------
        QueryError
            Another status than 200 or 204, or a body that is not a list of JSON objects.
        """
        response = self.request("GET", path, query=query, accept="application/dicom+json")
        with response:
            if response.status_code == 204:
                return []
            if response.status_code != 200:
                raise QueryError(
                    "the query was refused",
                    peer=self._endpoint.name,
                    status=f"HTTP {response.status_code}",
                    advice="Check the path of the service's URL." if response.status_code == 404 else None,
                )
            objects = self.read_json(response, cancel)
        if not isinstance(objects, list) or not all(isinstance(item, Mapping) for item in objects):
            raise QueryError("the answer is not a list of DICOM JSON objects", peer=self._endpoint.name)
        return objects

    def read_json(self, response: "requests.Response", cancel: CancelToken | None = None) -> Any:
        """Return a response's body as JSON; XML and the like are not parsed at all.

        Raises
        ------
        QueryError
            The body is not JSON, or too large.
        """
        import requests

        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in ("application/dicom+json", "application/json"):
            raise QueryError(
                f"the answer is {kind or 'of no stated type'} instead of DICOM JSON",
                peer=self._endpoint.name,
                advice="Check that the URL is that of the DICOMweb service.",
            )
        body = bytearray()
        try:
            for piece in response.iter_content(2**20):
                check_cancel(cancel)
                body += piece
                if len(body) > _MOST_JSON_BYTES:
                    raise QueryError("the answer is too long", peer=self._endpoint.name, advice="Narrow the query.")
        except requests.RequestException as error:
            raise self.unreachable(error) from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):  # which hold the body
            raise QueryError("the answer is not valid JSON", peer=self._endpoint.name) from None

    def unreachable(self, error: Exception) -> UnreachableError:
        """Return what a failure of requests means, without the URL's query, which may hold a patient's name."""
        import requests

        host = urlsplit(self._endpoint.url).netloc
        if isinstance(error, requests.exceptions.SSLError):
            return UnreachableError(
                f"TLS with {host} failed: its certificate is not trusted or not for this host",
                peer=self._endpoint.name,
                advice="If the hospital has its own certificate authority, give its certificate as ca_file.",
            )
        if isinstance(error, requests.exceptions.Timeout):
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

    def _authorise(self, request: Any) -> Any:
        auth = self._endpoint.auth
        if isinstance(auth, tuple):
            from requests.auth import HTTPBasicAuth

            return HTTPBasicAuth(auth[0].encode(), auth[1].encode())(request)
        if auth is not None:
            token = auth if self._tokens is None else self._tokens.current
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    def _check_authorised(self, response: "requests.Response") -> None:
        if response.status_code not in (401, 403):
            return
        response.close()
        raise EndpointError(
            "the service asks for other credentials" if self._endpoint.auth else "the service asks for credentials",
            peer=self._endpoint.name,
            status=f"HTTP {response.status_code}",
            advice="Enter user and password, or a token (on the command line AIDICOMBRIDGE_DICOMWEB_HOST with"
            " AIDICOMBRIDGE_DICOMWEB_TOKEN, or with AIDICOMBRIDGE_DICOMWEB_USER and AIDICOMBRIDGE_DICOMWEB_PASSWORD);"
            " if they are right, ask for the permission.",
        )

    def _redirected(self, method: str, url: str, response: "requests.Response") -> str:
        """Return where a redirect leads if that is the same origin; credentials and data go nowhere else."""
        status = response.status_code
        target = urljoin(url, response.headers.get("Location", ""))
        response.close()
        here, there = urlsplit(url), urlsplit(target)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc) or method != "GET":
            raise EndpointError(
                f"the service redirects to {there.scheme}://{there.hostname}",
                peer=self._endpoint.name,
                status=f"HTTP {status}",
                advice="If that is right, enter the address it redirects to.",
            )
        return target
