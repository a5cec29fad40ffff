"""Bearer tokens that an OAuth 2.0 server gives to a client (RFC 6749 section 4.4), fetched when one is needed."""

import json
import threading
from typing import Any
from urllib.parse import quote

from ..errors import EndpointError, UnreachableError
from .credentials import OAuthClient
from .endpoint import DicomWebEndpoint

_MOST_ANSWER_BYTES = 2**20


class OAuthTokens:
    """The token in use for one endpoint; any thread may ask for it."""

    def __init__(self, endpoint: DicomWebEndpoint) -> None:
        assert isinstance(endpoint.auth, OAuthClient)  # noqa: S101 - asked by the caller
        self._endpoint = endpoint
        self._client = endpoint.auth
        self._lock = threading.Lock()
        self._token = ""

    @property
    def current(self) -> str:
        """The token, fetched if there is none yet; raises what :meth:`renew` raises."""
        with self._lock:
            if not self._token:
                self._token = self._fetch()
            return self._token

    def renew(self) -> None:
        """Fetch another token in the place of one that has expired.

        Raises
        ------
        UnreachableError
            The server of the token URL does not answer.
        EndpointError
            It gives us no token.
        """
        with self._lock:
            self._token = self._fetch()

    def _fetch(self) -> str:
        import requests

        client, endpoint = self._client, self._endpoint
        form = {"grant_type": "client_credentials", **({"scope": client.scope} if client.scope else {})}
        try:
            # A session of its own, which sends nothing but this; its credentials are not those of the service.
            with requests.Session() as session:
                session.trust_env = False
                response = session.post(
                    client.token_url,
                    data=form,
                    auth=(quote(client.client_id, safe=""), quote(client.client_secret, safe="")),  # RFC 6749 2.3.1
                    headers={"Accept": "application/json"},
                    allow_redirects=False,
                    stream=True,
                    timeout=(endpoint.connect_timeout_s, endpoint.timeout_s),
                    verify=endpoint.ca_file or True,
                )
                with response:
                    body = bytearray()
                    for piece in response.iter_content(2**16):
                        body += piece
                        if len(body) > _MOST_ANSWER_BYTES:
                            raise ValueError("no token is that long")
                answer: Any = json.loads(body)
        except (requests.RequestException, ValueError):  # which may hold the secret, or the token
            raise UnreachableError(
                "the token URL does not answer as an OAuth 2.0 server",
                peer=endpoint.name,
                advice="Check the token URL, and that its certificate is trusted.",
            ) from None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if response.status_code != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise EndpointError(
                "the OAuth 2.0 server gives us no token",
                peer=endpoint.name,
                status=f"HTTP {response.status_code}",
                advice="Check client ID, secret and scope.",
            )
        return token
