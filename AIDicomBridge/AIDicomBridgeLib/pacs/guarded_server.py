"""pynetdicom's server within limits: who may connect, how long anybody may hold a place, and a clean end."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .dimse import send_without_delay
from .scp_guard import ScpLimits, guard_association
from .scp_places import Places, hang_up

if TYPE_CHECKING:
    import ssl

    from pynetdicom import AE
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

    from .fast_receive import StreamReceiver

_LOOK_SECONDS, _GARBAGE_SECONDS = 0.02, 30
_HANDSHAKE_SECONDS = 5.0


class _Shared(list[Any]):
    """Presentation contexts that nobody changes: pynetdicom's deep copy for each association takes 0.1 s."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


@contextmanager
def guarded_server(
    entity: "AE",
    address: tuple[str, int],
    handlers: Sequence[tuple[Any, ...]],
    limits: ScpLimits,
    may_connect: Callable[[str], bool] | None = None,
    tls: "ssl.SSLContext | None" = None,
    receiver: "StreamReceiver | None" = None,
) -> Iterator[int]:
    """Serve on an address for the length of a ``with`` block, within limits; gives the port.

    Parameters
    ----------
    entity
        The application entity, with its supported contexts; peers must call it by its AE title.
    handlers
        pynetdicom event handlers.
    may_connect
        Whether connections from an IP address are let in; all are where not given.
    tls
        Serve over TLS with this context.
    receiver
        Takes C-STORE requests straight from the socket; the handler of EVT_C_STORE gets the unusual ones.

    Raises
    ------
    OSError
        The address cannot be bound.
    """
    from pynetdicom import evt

    entity.require_called_aet = True
    entity.maximum_associations = limits.associations
    places = Places(limits)
    server = entity.make_server(
        address,
        evt_handlers=[(evt.EVT_CONN_OPEN, _guard_connection, [places, may_connect, receiver]), *handlers],
        ssl_context=tls,
        server_class=_server_class(places),
    )
    # pynetdicom's own start_server looks every 0.5 s whether to stop, which every C-MOVE would wait for. After so many
    # looks it collects garbage: twice a minute, not once a second, since all threads wait for it.
    server._gc[1] = round(_GARBAGE_SECONDS / _LOOK_SECONDS)
    server.contexts = _Shared(server.contexts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": _LOOK_SECONDS}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        socketserver.BaseServer.shutdown(server)
        server.server_close()
        for association in entity.active_associations:
            if association.is_established:
                association.abort()
            else:
                hang_up(association)  # an abort before the request or after a rejection breaks pynetdicom's thread


def _server_class(places: Places) -> "type[ThreadedAssociationServer]":
    """Return pynetdicom's server, which here makes a TLS handshake on the thread of its own connection.

    pynetdicom makes it on the thread that accepts connections: one silent socket would keep everybody else out.
    Nor are there any threads for connections that are too many.
    """
    from pynetdicom.transport import ThreadedAssociationServer

    class Server(ThreadedAssociationServer):
        request_queue_size = (
            128  # connections that the system holds for us; of more than 5 it would drop some for seconds
        )

        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            listening: Any = self.socket
            connection, address = listening.accept()
            if self.ssl_context is not None:
                connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def verify_request(self, _request: Any, _client_address: Any) -> bool:
            return places.admit()

        def finish_request(self, request: Any, client_address: Any) -> None:
            if self.ssl_context is not None:
                try:
                    listening: Any = self.socket
                    seconds = min(places.limits.pdu_seconds, _HANDSHAKE_SECONDS)
                    _shake_hands(request, time.monotonic() + seconds, lambda: listening.fileno() < 0)
                except OSError:  # ssl.SSLError is one
                    places.give_up()
                    self.shutdown_request(request)
                    return
            super().finish_request(request, client_address)

    return Server


def _shake_hands(connection: "ssl.SSLSocket", deadline: float, ended: Callable[[], bool]) -> None:
    """Finish a TLS handshake; raises OSError if it fails, takes longer than the deadline, or the server ends."""
    connection.settimeout(0.1)
    while not ended() and time.monotonic() < deadline:
        with suppress(TimeoutError):  # the next call goes on where this one was
            connection.do_handshake()
            connection.settimeout(None)
            return
    raise TimeoutError("the TLS handshake was not finished")


def _guard_connection(
    event: "Event",
    places: Places,
    may_connect: Callable[[str], bool] | None,
    receiver: "StreamReceiver | None",
) -> None:
    """Put a guard between a new connection and pynetdicom (handler of EVT_CONN_OPEN)."""
    send_without_delay(event)
    address: Any = event.address  # type: ignore[attr-defined]
    if may_connect is not None and not may_connect(str(address[0])):
        hang_up(event.assoc)  # the guard below then reads its end
    places.take(event.assoc, guard_association(event.assoc, places.limits, receiver))
