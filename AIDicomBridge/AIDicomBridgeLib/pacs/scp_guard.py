"""Limits on what a connected peer can make us hold or wait for.

pynetdicom has none of its own: one unauthenticated socket could make it hold 300 MiB, and a dozen sockets that send
three bytes each could block it for minutes.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynetdicom.events import Event

    from .fast_receive import StreamReceiver

# Set to anything, this environment variable makes DIMSE go pynetdicom's own way throughout: it tells whose a fault is.
ORDINARY_WAY = "AIDICOMBRIDGE_ORDINARY_DIMSE"


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
    total_bytes
        Of all that was read, or begun to be read.
    """

    def __init__(self, association: Any, limits: ScpLimits, heard: Callable[[int], None] | None = None) -> None:
        self._association = association
        self._connection = association.dul.socket  # a pynetdicom AssociationSocket
        self.limits = limits
        self._heard = heard
        self.most_bytes = limits.message_bytes
        self._message_bytes = self.total_bytes = 0
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
        self.total_bytes += len(view)
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


def guard_association(association: Any, limits: ScpLimits, receiver: "StreamReceiver | None") -> ConnectionGuard:
    """Put a guard between an association's connection and pynetdicom, and the fast way in where there is a receiver."""
    from pynetdicom import evt

    from .fast_receive import FastReceive

    guard = ConnectionGuard(association, limits, receiver.heard if receiver is not None else None)
    association.dul.socket.recv = guard.receive
    association.bind(evt.EVT_DIMSE_RECV, guard.message_received)
    ordinary = bool(os.environ.get(ORDINARY_WAY))
    if receiver is None or not ordinary:
        guard.most_bytes = limits.buffered_bytes
    if receiver is not None and not ordinary:
        FastReceive(association, receiver, guard)
    return guard
