"""Receiving C-STORE requests straight from the socket into the store, inside pynetdicom's association.

pynetdicom hands every 16 to 128 KiB from one thread to another through objects and queues, and both threads poll:
seven times the time of the transfer itself. Here its network thread, when the next message is an ordinary C-STORE
request, reads the request and its data set itself, writes the pieces to a file and sends the response. Whatever is
unusual is put back and goes pynetdicom's own way: another message, TLS, an invalid UID, a SOP Class not accepted.
"""

import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Protocol

from ..series.dicom_file import is_uid
from .scp_guard import ConnectionGuard

if TYPE_CHECKING:
    from ..series.incoming import IncomingInstance

_P_DATA = 4
_COMMAND_AND_LAST = 3  # the message control header of a command in one piece (PS3.8 annex E.2)
_DATA_FLAGS = (0, 2)  # of a piece of the data set, and of its last one
_C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
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
        self._buffer = memoryview(bytearray(guard.limits.pdu_bytes))
        self._dul._is_transport_event = self._transport_event

    def _transport_event(self) -> bool:
        """Stand in for pynetdicom's look at the socket (PS3.8 state 6: data transfer)."""
        dul = self._dul
        connection = dul.socket
        if (
            dul.state_machine.current_state != "Sta6"
            or connection is None
            or type(connection.socket) is not socket.socket
            or self._association.dimse.message is not None
        ):
            return bool(self._ordinary())
        if not connection.ready:
            return False
        try:
            while self._receive_one():
                dul._idle_timer.restart()
                if dul._kill_thread or not dul.to_provider_queue.empty() or not self._more_is_coming():
                    break
        except OSError:  # closed, or a limit of the guard was crossed
            dul.event_queue.put("Evt17")
        return True

    def _more_is_coming(self) -> bool:
        connection = self._dul.socket
        if connection is None or connection.socket is None:
            return False
        readable, _, _ = select.select([connection.socket], [], [], _LINGER_SECONDS)
        return bool(readable)

    def _receive_one(self) -> bool:
        """Take one C-STORE request with its data set; False if it was left to pynetdicom."""
        header = self._guard.receive(6)
        length = struct.unpack(">L", header[2:6])[0] if len(header) == 6 else 0
        if len(header) < 6 or header[0] != _P_DATA or not 6 <= length <= _MOST_COMMAND_BYTES:
            return self._leave(bytes(header))
        body = bytes(self._guard.receive(length))
        command = self._store_request(body) if len(body) == length else None
        if command is None:
            return self._leave(bytes(header) + body)
        context_id, context, message_id, sop_class, sop_instance = command
        incoming = self._receiver.begin(sop_class, sop_instance, str(context.transfer_syntax[0]))
        whole = False
        try:
            whole = self._receive_data_set(context_id, None if isinstance(incoming, int) else incoming)
        finally:
            if not whole and not isinstance(incoming, int):
                incoming.discard()
        if not whole:
            return False
        self._guard.message_received(None)
        status = incoming if isinstance(incoming, int) else self._receiver.end(incoming)
        self._dul.socket.socket.sendall(_response(context_id, message_id, sop_class, sop_instance, status))
        return True

    def _leave(self, data: bytes) -> bool:
        """Put bytes back and let pynetdicom read the PDU that begins with them."""
        self._guard.put_back(data)
        self._dul._read_pdu_data()
        return False

    def _store_request(self, body: bytes) -> tuple[int, Any, int, str, str] | None:
        """Return context, message ID, SOP Class and SOP Instance UID of a C-STORE request; None for anything else."""
        pdv_length, context_id, flags = struct.unpack_from(">LBB", body)
        if pdv_length != len(body) - 4 or flags != _COMMAND_AND_LAST:
            return None
        elements = _command_elements(body[6:])
        try:
            field = struct.unpack("<H", elements[0x0100])[0]
            message_id = struct.unpack("<H", elements[0x0110])[0]
            data_set = struct.unpack("<H", elements[0x0800])[0]
            sop_class, sop_instance = (elements[n].rstrip(b"\0 ").decode("ascii") for n in (0x0002, 0x1000))
        except (KeyError, struct.error, UnicodeDecodeError):
            return None
        if self._contexts is None:
            self._contexts = {c.context_id: c for c in self._association.accepted_contexts if c.as_scp}
        context = self._contexts.get(context_id)
        ordinary = field == _C_STORE_REQUEST and data_set != _NO_DATA_SET and is_uid(sop_class) and is_uid(sop_instance)
        if not ordinary or context is None or context.abstract_syntax != sop_class:
            return None
        return context_id, context, message_id, sop_class, sop_instance

    def _receive_data_set(self, context_id: int, incoming: "IncomingInstance | None") -> bool:
        """Write the pieces of the data set; False if the peer began something else, which pynetdicom then reads."""
        while True:
            self._await_data()
            header = self._guard.receive(6)
            length = struct.unpack(">L", header[2:6])[0] if len(header) == 6 else 0
            if len(header) < 6 or header[0] != _P_DATA:
                return self._leave(bytes(header))
            pdu = self._buffer[:length]
            if not self._guard.receive_into(pdu, length):
                raise OSError("the connection was closed in the middle of a PDU")
            at = 0
            while at < length:
                if length - at < 6:
                    return self._refuse_pdu()
                pdv_length, pdv_context, flags = struct.unpack_from(">LBB", pdu, at)
                end = at + 4 + pdv_length
                if pdv_length < 2 or end > length or pdv_context != context_id or flags not in _DATA_FLAGS:
                    return self._refuse_pdu()
                if incoming is not None:
                    incoming.write(pdu[at + 6 : end])
                at = end
                if flags == 2:
                    return at == length or self._refuse_pdu()

    def _await_data(self) -> None:
        """Wait for the peer within the limit of silence; our own abort ends the wait."""
        connection, end = self._dul.socket.socket, time.monotonic() + self._guard.limits.idle_seconds
        while not select.select([connection], [], [], _LOOK_SECONDS)[0]:
            if self._dul._kill_thread or self._association._sent_abort or time.monotonic() > end:
                break
        if self._dul._kill_thread or self._association._sent_abort:
            raise OSError("we have aborted the association")
        if time.monotonic() > end:
            raise OSError("the peer fell silent in the middle of a data set")

    def _refuse_pdu(self) -> bool:
        self._dul.event_queue.put("Evt19")  # invalid PDU: pynetdicom aborts the association
        return False


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


def _response(context_id: int, message_id: int, sop_class: str, sop_instance: str, status: int) -> bytes:
    """Return the P-DATA-TF PDU of a C-STORE response (PS3.7 table 9.3-2)."""
    elements = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value
        for element, value in (
            (0x0002, _even(sop_class)),
            (0x0100, struct.pack("<H", _C_STORE_RESPONSE)),
            (0x0120, struct.pack("<H", message_id)),
            (0x0800, struct.pack("<H", _NO_DATA_SET)),
            (0x0900, struct.pack("<H", status)),
            (0x1000, _even(sop_instance)),
        )
    )
    command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return (
        struct.pack(">BBLLBB", _P_DATA, 0, len(command) + 6, len(command) + 2, context_id, _COMMAND_AND_LAST) + command
    )


def _even(uid: str) -> bytes:
    data = uid.encode("ascii")
    return data + b"\0" if len(data) % 2 else data
