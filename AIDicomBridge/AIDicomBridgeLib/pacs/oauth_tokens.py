"""Bearer tokens that an OAuth 2.0 server gives to a client (RFC 6749 section 4.4), fetched when one is needed."""

import base64
import json
import threading
from contextlib import closing
from typing import Any
from urllib.parse import quote_plus, urlencode

from ..errors import EndpointError, UnreachableError
from ..progress import CancelToken
from .credentials import OAuthClient, is_token
from .endpoint import DicomWebEndpoint

_MOST_ANSWER_BYTES = 2**20


class OAuthTokens:
    """The token in use for one endpoint; any thread may ask for it."""

    def __init__(self, endpoint: DicomWebEndpoint, client: OAuthClient) -> None:
        self._endpoint = endpoint
        self._client = client
        self._lock = threading.Lock()
        self._token = ""

    def current(self, cancel: CancelToken) -> str:
        """Return the token, fetched if there is none.

        Raises
        ------
        UnreachableError
            The server of the token URL does not answer.
        EndpointError
            It gives us no token.
        JobCancelled, DeadlineError
            As ``cancel`` has it.
        """
        with self._lock:
            if not self._token:
                self._token = self._fetch(cancel)
            return self._token

    def forget(self, authorization: str) -> None:
        """Drop a token that was refused, given as the header that it was sent in, unless another took its place."""
        with self._lock:
            if authorization == f"Bearer {self._token}":
                self._token = ""

    def _fetch(self, cancel: CancelToken) -> str:
        from .http_exchange import HttpConnections

        client, endpoint = self._client, self._endpoint
        # RFC 6749 section 2.3.1: both are form-encoded before they become those of Basic.
        identity = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
        form = {"grant_type": "client_credentials", **({"scope": client.scope} if client.scope else {})}
        headers = {
            "Accept": "application/json",
            "Authorization": f"Basic {base64.b64encode(identity.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        # Connections of its own, without the certificate that is for the service.
        connections = HttpConnections(
            ca_file=endpoint.ca_file, connect_timeout_s=endpoint.connect_timeout_s, timeout_s=endpoint.timeout_s
        )
        body = bytearray()
        with (
            closing(connections),
            connections.exchange(
                "POST", client.token_url, headers, urlencode(form).encode(), cancel, self._unreachable
            ) as answer,
        ):
            for piece in answer.pieces():
                body += piece
                if len(body) > _MOST_ANSWER_BYTES:
                    raise self._unreachable()
        try:
            given: Any = json.loads(body)
        except (ValueError, RecursionError):  # which hold the body
            raise self._unreachable() from None
        token = given.get("access_token") if isinstance(given, dict) else None
        if answer.status != 200 or not isinstance(token, str) or not is_token(token):
            raise EndpointError(
                "the OAuth 2.0 server gives us no token",
                peer=endpoint.name,
                status=f"HTTP {answer.status}",
                advice="Check client ID, secret and scope.",
            )
        return token

    def _unreachable(self, _error: Exception | None = None) -> UnreachableError:
        return UnreachableError(
            "the token URL does not answer as an OAuth 2.0 server",
            peer=self._endpoint.name,
            advice="Check the token URL, and that its certificate is trusted.",
        )
