"""Limits on what a connected peer can make our SCP hold or wait for.

pynetdicom has none of its own: one unauthenticated socket could make it hold 300 MiB, and a dozen sockets that send
three bytes each could block it for minutes.
"""

import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .dimse import send_without_delay

if TYPE_CHECKING:
    import ssl

    from pynetdicom import AE
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

    from .fast_receive import StreamReceiver

# Set to anything, this environment variable makes DIMSE go pynetdicom's own way throughout: it tells whose a fault is.
ORDINARY_WAY = "AIDICOMBRIDGE_ORDINARY_DIMSE"


_LOOK_SECONDS, _GARBAGE_SECONDS = 0.02, 30


class _Shared(list[Any]):
    """Presentation contexts that nobody changes: pynetdicom's deep copy for each association takes 0.1 s."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


@dataclass(frozen=True)
class ScpLimits:
    """Limits of one SCP.

    Attributes
    ----------
    pdu_bytes
        Largest PDU taken. A-ASSOCIATE-RQ with 128 contexts stays below 100 KiB; data PDUs follow the size we announce.
    pdu_seconds
        Most seconds from the first byte of a PDU's header or body to its last.
    message_bytes
        Most bytes of one DIMSE message, command and data set. Instances go to the disk as they come.
    buffered_bytes
        Most bytes of a message that is kept in memory: all but instances.
    associations
        Most associations at once.
    idle_seconds
        Most seconds of silence within an association, or before its request.
    """

    pdu_bytes: int = 2**20
    pdu_seconds: float = 15.0
    message_bytes: int = 4 * 2**30
    buffered_bytes: int = 4 * 2**20
    associations: int = 10
    idle_seconds: float = 30.0


class ConnectionGuard:
    """Bounds the reads of one accepted connection; a breach closes it.

    Parameters
    ----------
    association
        A pynetdicom association whose connection has just been opened.
    heard
        Called with the number of bytes whenever some have come.

    Attributes
    ----------
    most_bytes
        Of the message that is being received.
    """

    def __init__(self, association: Any, limits: ScpLimits, heard: Callable[[int], None] | None = None) -> None:
        self._association = association
        self._connection = association.dul.socket  # a pynetdicom AssociationSocket
        self.limits = limits
        self._heard = heard
        self.most_bytes = limits.message_bytes
        self._message_bytes = 0
        self._put_back = b""

    @property
    def has_put_back(self) -> bool:
        """Whether there is something to read that the connection does not know of."""
        return bool(self._put_back)

    def put_back(self, data: bytes) -> None:
        """Let the next reads begin with bytes that were read already."""
        self._put_back = data + self._put_back
        self._message_bytes -= len(data)  # they will be counted again

    def receive(self, count: int) -> bytearray:
        """Read exactly ``count`` bytes, fewer only if the peer closed the connection.

        Raises
        ------
        OSError
            A limit was crossed. pynetdicom then closes the connection as if the peer had.
        """
        received = bytearray()
        try:
            if count > self.limits.pdu_bytes:
                raise OSError(f"a PDU of {count} bytes is larger than allowed")
            received = bytearray(count)
            with memoryview(received) as view:
                read = self._receive_into(view)
            del received[read:]
        except OSError:
            received = bytearray()
            raise
        finally:
            # pynetdicom would hold the place of a connection that ends before its A-ASSOCIATE-RQ (states 1 and 2) until
            # the association timeout: port scans and health checks would soon keep everybody else out.
            if len(received) < count and self._association.dul.state_machine.current_state in ("Sta1", "Sta2"):
                self._association.dul.to_user_queue.put(None)
        return received

    def receive_into(self, buffer: memoryview, count: int) -> bool:
        """Read exactly ``count`` bytes; False if the peer closed the connection. Raises OSError as :meth:`receive`."""
        if count > self.limits.pdu_bytes:
            raise OSError(f"a PDU of {count} bytes is larger than allowed")
        return self._receive_into(buffer[:count]) == count

    def _receive_into(self, view: memoryview) -> int:
        """Fill the view and return how many bytes came before the peer closed the connection."""
        self._message_bytes += len(view)
        if self._message_bytes > self.most_bytes:
            raise OSError(f"a DIMSE message is longer than {self.most_bytes} bytes")
        read = min(len(self._put_back), len(view))
        if read:
            view[:read] = self._put_back[:read]
            self._put_back = self._put_back[read:]
        connection = self._connection.socket
        if read == len(view):
            return read
        deadline = time.monotonic() + self.limits.pdu_seconds
        left = self.limits.pdu_seconds
        try:
            while read < len(view):
                connection.settimeout(left)
                some = connection.recv_into(view[read:])
                if not some:
                    break
                read += some
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"a PDU took longer than {self.limits.pdu_seconds} s")
        finally:
            # Also bounds writing to a peer that no longer reads.
            connection.settimeout(self.limits.idle_seconds)
        if self._heard is not None:
            self._heard(read)
        return read

    def message_received(self, _event: "Event | None") -> None:
        """Start the byte count anew: one DIMSE message is complete."""
        self._message_bytes = 0


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
    server = entity.make_server(
        address,
        evt_handlers=[(evt.EVT_CONN_OPEN, _guard_connection, [limits, may_connect, receiver]), *handlers],
        ssl_context=tls,
        server_class=_server_class(limits.pdu_seconds),
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
                _hang_up(association)  # an abort before the request or after a rejection breaks pynetdicom's thread


def _server_class(handshake_seconds: float) -> "type[ThreadedAssociationServer]":
    """Return pynetdicom's server, which here makes a TLS handshake on the thread of its own connection.

    pynetdicom makes it on the thread that accepts connections: one silent socket would keep everybody else out.
    """
    from pynetdicom.transport import ThreadedAssociationServer

    class Server(ThreadedAssociationServer):
        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            listening: Any = self.socket
            connection, address = listening.accept()
            if self.ssl_context is not None:
                connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def finish_request(self, request: Any, client_address: Any) -> None:
            if self.ssl_context is not None:
                try:
                    listening: Any = self.socket
                    _shake_hands(request, time.monotonic() + handshake_seconds, lambda: listening.fileno() < 0)
                except OSError:  # ssl.SSLError is one
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
    limits: ScpLimits,
    may_connect: Callable[[str], bool] | None,
    receiver: "StreamReceiver | None",
) -> None:
    """Put a guard between a new connection and pynetdicom (handler of EVT_CONN_OPEN)."""
    send_without_delay(event)
    address: Any = event.address  # type: ignore[attr-defined]
    if may_connect is not None and not may_connect(str(address[0])):
        _hang_up(event.assoc)  # the guard below then reads its end
    guard_association(event.assoc, limits, receiver)


def _hang_up(association: Any) -> None:
    connection = association.dul.socket.socket
    if connection is not None:  # else it is closed already
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def guard_association(association: Any, limits: ScpLimits, receiver: "StreamReceiver | None") -> None:
    """Put a guard between an association's connection and pynetdicom, and the fast way in where there is a receiver."""
    from pynetdicom import evt

    from .fast_receive import FastReceive

    guard = ConnectionGuard(association, limits, receiver.heard if receiver is not None else None)
    association.dul.socket.recv = guard.receive
    association.bind(evt.EVT_DIMSE_RECV, guard.message_received)
    if receiver is not None and not os.environ.get(ORDINARY_WAY):
        guard.most_bytes = limits.buffered_bytes
        FastReceive(association, receiver, guard)
