"""Receiving C-STORE requests straight from the socket into the store, inside pynetdicom's association.

pynetdicom hands every 16 to 128 KiB from one thread to another through objects and queues, and both threads poll:
seven times the time of the transfer itself. Here its network thread, when the next message is a C-STORE request, reads
the request and its data set itself, writes the pieces to a file and sends the response. Every other message is put back
and goes pynetdicom's own way.
"""

import select
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import BridgeError
from ..series.dicom_file import is_uid
from .scp_guard import ConnectionGuard

if TYPE_CHECKING:
    from ..series.incoming import IncomingInstance

_P_DATA = 4
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 annex E.2)
_C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_C_GET_RESPONSE, _PENDING = 0x8010, 0xFF00
_NO_DATA_SET = 0x0101
_INVALID_INSTANCE, _SOP_CLASS_NOT_SUPPORTED = 0x0117, 0x0122
_MOST_COMMAND_BYTES = 4096
# How long to look for the next message before pynetdicom's loop gets its turn: the peer needs that long to send it.
_LINGER_SECONDS = 0.003
_LOOK_SECONDS = 0.1


class StreamReceiver(Protocol):
    """Takes instances piece by piece; see :class:`~.storage_scp.Receiver`."""

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> "IncomingInstance | int":
        """Return where the data set goes, or the status with which it is refused."""

    def end(self, incoming: "IncomingInstance") -> int:
        """Keep what has arrived, and return the status."""

    def refuse(self, sop_instance_uid: str, error: BridgeError) -> int:
        """Remember why an instance cannot be taken, and return the status."""

    def heard(self, byte_count: int) -> None:
        """Take note that the peer has sent bytes: it is alive, however long its instance takes."""


class _InvalidPduError(Exception):
    pass


class _LeftError(Exception):  # pynetdicom has read, and handles, what came instead of a piece of the data set
    pass


class FastReceive:
    """Takes over the reading of one association; see the module.

    Parameters
    ----------
    association
        A pynetdicom association whose connection has just been opened.
    receiver
        Where instances go.
    guard
        The limits of the connection, which hold here too.
    """

    def __init__(self, association: Any, receiver: StreamReceiver, guard: ConnectionGuard) -> None:
        self._association = association
        self._dul = association.dul
        self._receiver = receiver
        self._guard = guard
        self._ordinary = self._dul._is_transport_event
        self._contexts: dict[int, Any] | None = None
        self._buffer = memoryview(bytearray())  # grows with the PDUs that come; strangers get none
        self._pdu, self._at = self._buffer, 0  # the PDU at hand, and how far it has been read
        self._has_stored = False  # the last message was an instance that was kept
        self._dul._is_transport_event = self._transport_event

    def _transport_event(self) -> bool:
        """Stand in for pynetdicom's look at the socket (PS3.8 state 6: data transfer)."""
        dul = self._dul
        if dul.state_machine.current_state != "Sta6" or dul.socket is None or dul.socket.socket is None:
            return bool(self._ordinary())
        if self._association.dimse.message is not None:  # pynetdicom is in the middle of one
            if not self._guard.has_put_back:
                return bool(self._ordinary())
            dul._read_pdu_data()
            return True
        try:
            if not self._is_readable(0):
                return False
            with self._reactor_paused():
                while self._receive_one():
                    if dul._kill_thread or not dul.to_provider_queue.empty() or not self._is_readable(_LINGER_SECONDS):
                        break
        except _LeftError:
            self._has_stored = False
        except _InvalidPduError:
            dul.event_queue.put("Evt19")  # pynetdicom aborts the association
        except (OSError, ValueError):  # closed, or a limit of the guard was crossed; select's word for a closed socket
            dul.event_queue.put("Evt17")
        return True

    @contextmanager
    def _reactor_paused(self) -> Iterator[None]:
        """Keep an acceptor's other thread, which looks for messages every millisecond, from taking our turns."""
        if not self._association.is_acceptor:
            yield
            return
        self._association._reactor_checkpoint.clear()
        try:
            yield
        finally:
            self._association._reactor_checkpoint.set()

    def _is_readable(self, seconds: float) -> bool:
        connection = self._dul.socket.socket if self._dul.socket is not None else None
        if connection is None:
            return False
        if self._guard.has_put_back or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return True
        return bool(select.select([connection], [], [], seconds)[0])

    def _receive_one(self) -> bool:
        """Take one C-STORE request with its data set; False if the message was left to pynetdicom."""
        taken: list[bytes] = []
        command, context_id, flags = bytearray(), 0, 0
        self._pdu = self._buffer[:0]
        while flags != _COMMAND | _LAST:
            try:
                context_id, flags, piece = self._next_pdv(taken)
            except _InvalidPduError:
                return self._leave(taken)
            command += piece
            if not flags & _COMMAND or len(command) > _MOST_COMMAND_BYTES:
                return self._leave(taken)
        elements = _command_elements(bytes(command))
        if self._has_stored and _is_pending_get(elements):  # says nothing that the instance itself has not said
            self._has_stored = False
            return True
        self._has_stored = False
        try:
            numbers = [struct.unpack("<H", elements[element])[0] for element in (0x0100, 0x0110, 0x0800)]
            names = elements[0x0002], elements[0x1000]
        except (KeyError, struct.error):
            return self._leave(taken)
        if self._contexts is None:
            self._contexts = {c.context_id: c for c in self._association.accepted_contexts if c.as_scp}
        context = self._contexts.get(context_id)
        if context is None or numbers[0] != _C_STORE_REQUEST or numbers[2] == _NO_DATA_SET:
            return self._leave(taken)
        del taken
        status = self._receive_instance(context, *(name.rstrip(b"\0 ").decode("latin-1") for name in names))
        self._guard.message_received(None)
        self._dul.socket.socket.sendall(_response(context_id, numbers[1], names, status))
        self._has_stored = status == 0
        return True

    def _leave(self, taken: list[bytes]) -> bool:
        """Put bytes back and let pynetdicom read the PDU that begins with them."""
        self._guard.put_back(b"".join(taken))
        self._dul._read_pdu_data()
        return False

    def _receive_instance(self, context: Any, sop_class_uid: str, sop_instance_uid: str) -> int:
        """Write the pieces of a data set where they belong; return the status, when all have come."""
        incoming: IncomingInstance | int = _INVALID_INSTANCE
        if context.abstract_syntax != sop_class_uid:
            incoming = _SOP_CLASS_NOT_SUPPORTED
        elif is_uid(sop_class_uid) and is_uid(sop_instance_uid):
            incoming = self._receiver.begin(sop_class_uid, sop_instance_uid, str(context.transfer_syntax[0]))
        flags, whole = 0, False
        self._guard.most_bytes = self._guard.limits.message_bytes  # what is not kept in memory may be long
        try:
            while not flags & _LAST:
                context_id, flags, piece = self._next_pdv()
                if context_id != context.context_id or flags & ~_LAST:
                    raise _InvalidPduError
                if not isinstance(incoming, int):
                    try:
                        incoming.write(piece)
                    except BridgeError as error:
                        incoming = self._receiver.refuse(sop_instance_uid, error)
            if self._at < len(self._pdu):
                raise _InvalidPduError
            whole = True
        finally:
            self._guard.most_bytes = self._guard.limits.buffered_bytes
            if not whole and not isinstance(incoming, int):
                incoming.discard()
        return incoming if isinstance(incoming, int) else self._receiver.end(incoming)

    def _next_pdv(self, taken: list[bytes] | None = None) -> tuple[int, int, memoryview]:
        """Return presentation context, message control header and content of the next piece of a message.

        Parameters
        ----------
        taken
            Takes the bytes of the PDUs that are read.

        Raises
        ------
        _InvalidPduError
            What comes is no P-DATA-TF PDU, or a damaged one.
        """
        if self._at >= len(self._pdu):
            if taken is None:
                self._await_data()
            self._read_pdu(taken)
        if len(self._pdu) - self._at < 6:
            raise _InvalidPduError
        length, context_id, flags = struct.unpack_from(">LBB", self._pdu, self._at)
        start, self._at = self._at + 6, self._at + 4 + length
        if length < 2 or self._at > len(self._pdu):
            raise _InvalidPduError
        return context_id, flags, self._pdu[start : self._at]

    def _read_pdu(self, taken: list[bytes] | None) -> None:
        header = self._guard.receive(6)
        self._dul._idle_timer.restart()
        length = struct.unpack(">L", header[2:])[0] if len(header) == 6 else 0
        if len(header) < 6 or header[0] != _P_DATA or length > self._guard.limits.pdu_bytes:
            if taken is None:
                self._leave([bytes(header)])
                raise _LeftError
            taken.append(bytes(header))
            raise _InvalidPduError
        if length > len(self._buffer):
            self._buffer = memoryview(bytearray(length))
        self._pdu, self._at = self._buffer[:length], 0
        if not self._guard.receive_into(self._pdu, length):
            raise OSError("the connection was closed in the middle of a PDU")
        if taken is not None:
            taken += [bytes(header), bytes(self._pdu)]

    def _await_data(self) -> None:
        """Wait for the peer within the limit of silence; our own abort ends the wait."""
        end = time.monotonic() + self._guard.limits.idle_seconds
        while not self._is_readable(_LOOK_SECONDS):
            if self._dul._kill_thread or self._association._sent_abort or time.monotonic() > end:
                break
        if self._dul._kill_thread or self._association._sent_abort:
            raise OSError("we have aborted the association")
        if time.monotonic() > end:
            raise OSError("the peer fell silent in the middle of a data set")


def _command_elements(data: bytes) -> dict[int, bytes]:
    """Return the elements of a command set (group 0000, implicit VR little endian) by element number."""
    elements, at = {}, 0
    while len(data) - at >= 8:
        group, element, length = struct.unpack_from("<HHL", data, at)
        if group != 0 or at + 8 + length > len(data):
            return {}
        elements[element] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return elements if at == len(data) else {}


def _is_pending_get(elements: dict[int, bytes]) -> bool:
    expected = {0x0100: _C_GET_RESPONSE, 0x0800: _NO_DATA_SET, 0x0900: _PENDING}
    return all(elements.get(element) == struct.pack("<H", value) for element, value in expected.items())


def _response(context_id: int, message_id: int, names: tuple[bytes, bytes], status: int) -> bytes:
    """Return the P-DATA-TF PDU of a C-STORE response (PS3.7 table 9.3-2).

    Parameters
    ----------
    names
        SOP Class and SOP Instance UID as the request has them.
    """
    elements = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value
        for element, value in (
            (0x0002, names[0]),
            (0x0100, struct.pack("<H", _C_STORE_RESPONSE)),
            (0x0120, struct.pack("<H", message_id)),
            (0x0800, struct.pack("<H", _NO_DATA_SET)),
            (0x0900, struct.pack("<H", status)),
            (0x1000, names[1]),
        )
    )
    command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return (
        struct.pack(">BBLLBB", _P_DATA, 0, len(command) + 6, len(command) + 2, context_id, _COMMAND | _LAST) + command
    )
