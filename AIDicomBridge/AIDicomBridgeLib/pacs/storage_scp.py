"""Receiving C-STORE requests into an InstanceStore: in our own SCPs, and on the association of a C-GET."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..errors import BridgeError, ConflictError, DiskSpaceError, EndpointError
from ..series.arrivals import StoredInstance
from ..series.dicom_file import is_uid
from ..series.incoming import IncomingInstance
from ..series.instance_store import InstanceStore
from .dimse import application_entity, is_storage_class, offered_syntaxes, public_storage_classes
from .guarded_server import guarded_server
from .scp_guard import ScpLimits

if TYPE_CHECKING:
    import ssl

    from pynetdicom.events import Event

# DIMSE statuses of C-STORE (PS3.4 table B.2-1, PS3.7 annex C).
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
DUPLICATE_INSTANCE = 0x0111
INVALID_INSTANCE = 0x0117
_log = logging.getLogger(__name__)


class Receiver:
    """Turns C-STORE requests into stored instances and remembers what was refused; any thread may call it.

    Parameters
    ----------
    store
        Where instances go, byte for byte as they came.
    study_uid
        Refuse instances of other studies; None takes all.
    on_stored
        Called with every instance stored, on the thread that received it.
    durable
        Answer success only when the instance is safe on disk; otherwise the caller has to sync the store.

    Attributes
    ----------
    refusals
        SOP Instance UID -> why it was not stored.
    failure
        The error that makes going on useless (the disk is full); the caller raises it.
    heard_bytes
        All that has come so far on the associations that this receiver serves.
    """

    def __init__(
        self,
        store: InstanceStore,
        *,
        study_uid: str | None = None,
        on_stored: Callable[[StoredInstance], None] | None = None,
        durable: bool = True,
    ) -> None:
        self._durable = durable
        self._store = store
        self._study_uid = study_uid
        self._on_stored = on_stored
        self._lock = threading.Lock()
        self.refusals: dict[str, str] = {}
        self.failure: Exception | None = None
        self.received_bytes = 0
        self.heard_bytes = 0

    def heard(self, byte_count: int) -> None:
        """Count bytes as they come, whatever becomes of them: the peer is alive."""
        self.heard_bytes += byte_count

    def receive(self, event: "Event") -> int:
        """Store one instance and return the DIMSE status to answer (handler of EVT_C_STORE)."""
        request: Any = event.request
        sop_class_uid, sop_instance_uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        if not is_uid(sop_instance_uid) or not is_uid(sop_class_uid):
            _log.warning("an instance with an invalid UID was refused")
            return INVALID_INSTANCE
        syntax = str(event.context.transfer_syntax)
        incoming = self.begin(sop_class_uid, sop_instance_uid, syntax)
        if isinstance(incoming, int):
            return incoming
        try:
            incoming.write(event.encoded_dataset(include_meta=False))
        except DiskSpaceError as error:
            return self.refuse(sop_instance_uid, error)
        return self.end(incoming)

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> IncomingInstance | int:
        """Return where the data set of an instance goes, or the status with which it is refused."""
        if self.failure is not None:
            return OUT_OF_RESOURCES
        try:
            return self._store.receiving(
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                study_uid=self._study_uid,
            )
        except BridgeError as error:
            return self.refuse(sop_instance_uid, error)

    def end(self, incoming: IncomingInstance) -> int:
        """Keep what has arrived, and return the DIMSE status."""
        try:
            stored = self._store.keep(incoming, durable=self._durable)
        except BridgeError as error:
            return self.refuse(incoming.sop_instance_uid, error)
        with self._lock:
            self.received_bytes += incoming.byte_count
            self.refusals.pop(incoming.sop_instance_uid, None)
        if self._on_stored is not None:
            self._on_stored(stored)
        return SUCCESS

    def refuse(self, sop_instance_uid: str, error: BridgeError) -> int:
        """Remember why an instance was not stored, and return the DIMSE status."""
        if isinstance(error, ConflictError):
            return self._refuse(sop_instance_uid, error, DUPLICATE_INSTANCE)
        if isinstance(error, DiskSpaceError):
            self.failure = error
            return self._refuse(sop_instance_uid, error, OUT_OF_RESOURCES)
        return self._refuse(sop_instance_uid, error, CANNOT_UNDERSTAND)

    def _refuse(self, sop_instance_uid: str, error: BridgeError, status: int) -> int:
        _log.warning("instance refused: %s", error)
        with self._lock:
            self.refusals[sop_instance_uid] = error.what
        return status


class StorageScp:
    """A short-lived C-STORE SCP for one pending C-MOVE: one peer, one study, then gone. A context manager.

    Parameters
    ----------
    receiver
        Where instances go.
    ae_title
        Our AE title: the move destination that the peer calls.
    peer_ae_title
        The only AE title that may call.
    host, port
        Address to listen on; the peer must have it on record for ``ae_title``.
    sop_classes
        SOP Classes that the study holds, beside which every public one is taken.
    peer_host
        The only host that may connect; None for any.
    tls
        Serve over TLS with this context; a plain connection where not given.
    compressed_first
        Of several transfer syntaxes in one presentation context take a compressed one rather than an uncompressed one.

    Attributes
    ----------
    turned_away
        Who was not let in and why, in words; at most three.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        ae_title: str,
        peer_ae_title: str,
        host: str,
        port: int,
        sop_classes: Iterable[str],
        peer_host: str | None = None,
        tls: "ssl.SSLContext | None" = None,
        compressed_first: bool = False,
        limits: ScpLimits | None = None,
    ) -> None:
        self._receiver = receiver
        self._limits = limits or ScpLimits()
        self._address = (host, port)
        self._peer_ae_title = peer_ae_title
        self._running = ExitStack()
        self._peer_host = peer_host
        self._tls = tls
        self.turned_away: list[str] = []
        self._entity = application_entity(
            ae_title,
            association_timeout_s=self._limits.idle_seconds,
            dimse_timeout_s=self._limits.idle_seconds,
        )
        self._entity.require_calling_aet = [peer_ae_title]
        # Peers that do not say which SOP Classes a study holds may send any; what is taken is decided by the study.
        syntaxes = offered_syntaxes(compressed_first=compressed_first)
        for sop_class in dict.fromkeys([*public_storage_classes(), *sop_classes]):
            if is_storage_class(sop_class):
                self._entity.add_supported_context(sop_class, list(syntaxes))

    def __enter__(self) -> "StorageScp":
        from pynetdicom import evt

        handlers = [(evt.EVT_C_STORE, self._receiver.receive), (evt.EVT_REJECTED, self._remember_rejected)]
        try:
            self._running.enter_context(
                guarded_server(
                    self._entity,
                    self._address,
                    handlers,
                    self._limits,
                    self._may_connect,
                    tls=self._tls,
                    receiver=self._receiver,
                )
            )
        except OSError as error:
            raise EndpointError(
                f"we cannot receive on {self._address[0]}:{self._address[1]}: {error.strerror}",
                advice="Choose another move_port, and tell the PACS administrator.",
            ) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()

    def _may_connect(self, address: str) -> bool:
        if self._peer_host is None or address in _addresses_of(self._peer_host):
            return True
        self._remember(f"a connection from {address}, since it expects the host {self._peer_host},")
        return False

    def _remember_rejected(self, event: "Event") -> None:
        request: Any = event.assoc.requestor.primitive
        title = str(request.calling_ae_title).strip()
        if title != self._peer_ae_title:
            self._remember(f"{title!r}, since it expects {self._peer_ae_title!r},")

    def _remember(self, who: str) -> None:
        if len(self.turned_away) < 3:
            self.turned_away.append(who)


def _addresses_of(host: str) -> set[str]:
    """Return the IP addresses of a host, IPv4 ones also as they look on an IPv6 socket."""
    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()
    return found | {f"::ffff:{address}" for address in found if ":" not in address}
