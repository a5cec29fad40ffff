"""Opening a DIMSE association, with every way in which that can fail told apart."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import AssociationError, BridgeError, NoContextAcceptedError, UnreachableError
from .dimse import MAXIMUM_CONTEXTS, MAXIMUM_PDU_BYTES, application_entity, send_without_delay
from .endpoint import DimseEndpoint
from .reactor_pause import pause_reliably
from .scp_guard import ScpLimits, guard_association
from .tls import calling_context

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from .fast_receive import StreamReceiver


@contextmanager
def associate(
    endpoint: DimseEndpoint,
    contexts: "Sequence[PresentationContext]",
    *,
    roles: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, ...]] = (),
    receiver: "StreamReceiver | None" = None,
) -> "Iterator[Association]":
    """Open an association for the length of a ``with`` block, then release it; abort it if the block fails.

    Parameters
    ----------
    endpoint
        The peer.
    contexts
        Presentation contexts to ask for, at most 128.
    roles
        SCP/SCU role selection items of pynetdicom.
    handlers
        Further pynetdicom event handlers.
    receiver
        Takes what the peer stores on this association (C-GET) straight from the socket.

    Raises
    ------
    UnreachableError
        Unknown host, refused connection, untrusted certificate, or no answer in time.
    AssociationError
        The peer rejected the association (the message names its reason and both AE titles) or broke it off.
    """
    from pynetdicom import evt

    if len(contexts) > MAXIMUM_CONTEXTS:
        raise ValueError(f"{len(contexts)} presentation contexts do not fit into one association")
    entity = application_entity(
        endpoint.calling_ae_title,
        association_timeout_s=endpoint.association_timeout_s,
        dimse_timeout_s=endpoint.dimse_timeout_s,
        connect_timeout_s=endpoint.connect_timeout_s,
    )
    tls = (calling_context(endpoint.tls, endpoint.name), endpoint.host) if endpoint.tls is not None else None
    connected: list[bool] = []
    started = time.monotonic()

    def on_open(event: Any) -> None:
        connected.append(True)
        send_without_delay(event)
        guard_association(event.assoc, ScpLimits(idle_seconds=endpoint.dimse_timeout_s), receiver)

    try:
        association = entity.associate(
            endpoint.host,
            endpoint.port,
            contexts=list(contexts),
            ae_title=endpoint.ae_title,
            max_pdu=MAXIMUM_PDU_BYTES,
            ext_neg=[*roles, *_user_identity(endpoint)],
            tls_args=tls,
            evt_handlers=[(evt.EVT_CONN_OPEN, on_open), *handlers],
        )
    except (OSError, UnicodeError) as error:  # the host name cannot be resolved
        raise _unreachable(endpoint, f"the host {endpoint.host} is unknown") from error
    if not association.is_established:
        raise _failure(endpoint, association, connected=bool(connected), waited_s=time.monotonic() - started)
    pause_reliably(association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _user_identity(endpoint: DimseEndpoint) -> list[Any]:
    """Return what says who we are (PS3.7 D.3.3.7). A positive response is asked for, so that it is not ignored."""
    from pynetdicom.pdu_primitives import UserIdentityNegotiation

    if endpoint.auth is None:
        return []
    user, passcode = endpoint.auth
    item = UserIdentityNegotiation()
    item.user_identity_type = 2 if passcode else 1
    item.primary_field = user.encode()
    if passcode:
        item.secondary_field = passcode.encode()
    item.positive_response_requested = True
    return [item]


def confirms_identity(association: "Association") -> bool:
    """Return whether the peer has confirmed user and passcode (PS3.7 D.3.3.7.2); else it may not have looked."""
    from pynetdicom.pdu_primitives import UserIdentityNegotiation

    answer: Any = association.acceptor.primitive
    return any(isinstance(item, UserIdentityNegotiation) for item in answer.user_information)


def _failure(
    endpoint: DimseEndpoint, association: "Association", *, connected: bool, waited_s: float
) -> UnreachableError | AssociationError:
    where = f"{endpoint.host}:{endpoint.port}"
    if not connected:
        return _unreachable(endpoint, _why_not_connected(endpoint))
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        return AssociationError(
            f"the association was rejected: {_rejection(answer)} (we called {endpoint.ae_title!r} as"
            f" {endpoint.calling_ae_title!r})",
            peer=endpoint.name,
            status=f"A-ASSOCIATE-RJ {answer.result}/{answer.result_source}/{answer.diagnostic}",
            advice=_rejection_advice(endpoint, answer),
        )
    if association.rejected_contexts:
        return NoContextAcceptedError(
            "the peer accepts none of the presentation contexts asked for",
            peer=endpoint.name,
            advice="The PACS does not offer this service, or not to our AE title.",
        )
    if waited_s < endpoint.association_timeout_s:
        return AssociationError(
            "the peer broke the connection off while the association was being negotiated",
            peer=endpoint.name,
            advice="Check that a DICOM service listens there, and whether it asks for TLS.",
        )
    return _unreachable(
        endpoint, f"{where} takes the connection but did not answer within {endpoint.association_timeout_s:g} s"
    )


def _unreachable(endpoint: DimseEndpoint, what: str) -> UnreachableError:
    advice = "Check host and port, and that the PACS runs and no firewall is in between."
    if what.startswith("TLS"):
        advice = (
            "Leave the TLS options out if that port is a plain one; else give the certificate of the hospital's"
            " authority as ca_file, and certificate_file and key_file if the PACS asks for ours."
        )
    return UnreachableError(what, peer=endpoint.name, advice=advice)


def _why_not_connected(endpoint: DimseEndpoint) -> str:
    """Connect once more without DICOM: pynetdicom tells only that it failed, not why."""
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=endpoint.connect_timeout_s):
            if endpoint.tls is not None:
                return f"TLS with {where} failed: its certificate is not trusted or it does not speak TLS"
            return f"the connection to {where} failed once and would now succeed"
    except TimeoutError:
        return f"{where} did not answer within {endpoint.connect_timeout_s:g} s"
    except ConnectionRefusedError:
        return f"nothing listens on {where} (connection refused)"
    except (OSError, UnicodeError) as error:
        return f"there is no connection to {where} ({getattr(error, 'strerror', None) or error})"


def rejected_title(error: BridgeError) -> str:
    """Return which AE title the peer does not know, ``"called"`` or ``"calling"``; empty if it is another failure."""
    status = str(error.status or "")
    if not status.startswith("A-ASSOCIATE-RJ"):
        return ""
    return {"1/7": "called", "1/3": "calling"}.get(status.partition("/")[2], "")


def _rejection(answer: Any) -> str:
    """Return the reason of an A-ASSOCIATE-RJ in words (PS3.8 table 9-21)."""
    try:
        return str(answer.reason_str).lower().replace("ae", "AE")
    except (AttributeError, KeyError, ValueError):  # a reason that the standard does not define
        return "no reason given"


def _rejection_advice(endpoint: DimseEndpoint, answer: Any) -> str:
    source_and_reason = (answer.result_source, answer.diagnostic)
    if source_and_reason == (1, 7):
        return f"Correct the AE title of the PACS: it is not {endpoint.ae_title!r}. Capitals matter."
    if source_and_reason == (1, 3):
        return f"Ask the PACS administrator to register our AE title {endpoint.calling_ae_title!r} with this host."
    if source_and_reason[0] == 3:
        return "The PACS is busy; try again later."
    if endpoint.auth is not None:
        return "Check user and passcode, or ask the PACS administrator; the log of the PACS says more."
    return "Ask the PACS administrator why; the log of the PACS says more."
