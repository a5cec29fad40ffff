"""Sending C-STORE requests straight from a file to the socket, inside pynetdicom's association.

pynetdicom cuts a data set into objects that pass through two threads which poll, one object per PDU. Here the calling
thread, while pynetdicom's network thread stands aside, writes the PDUs itself and reads the response. Where the
connection is not a plain one, pynetdicom does it.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

_P_DATA = 4
_COMMAND, _COMMAND_AND_LAST, _DATA, _LAST_DATA = 1, 3, 0, 2
_C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_HAS_DATA_SET, _NO_DATA_SET = 0x0001, 0x0101
_LARGEST_PIECE = 2**17
_BUFFER_BYTES = 2**20
_MOST_PARTS = 512  # in one call of the system, which takes 1024
_MOST_RESPONSE_BYTES = 4096
_LOOK_SECONDS = 0.1
_Part = bytes | memoryview


class FastSender:
    """Sends on one association; made after it has been established, and closed before it is released.

    Parameters
    ----------
    association
        A pynetdicom association.
    timeout_s
        Most seconds of silence of the peer.
    """

    def __init__(self, association: Any, timeout_s: float) -> None:
        self._association = association
        self._dul = association.dul
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._ordinary = self._dul._is_transport_event
        self._held = False
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    @property
    def possible(self) -> bool:
        """Whether the connection is one that can be written to directly."""
        connection = self._dul.socket
        plain = connection is not None and type(connection.socket) is socket.socket
        return plain and self._dul.state_machine.current_state == "Sta6" and self._association.is_established

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep pynetdicom's network thread from reading for the length of a ``with`` block."""
        # Its loop asks this method first; while we hold the lock it finds nothing to read, and sends nothing either,
        # since nobody gives it anything to send.
        self._dul._is_transport_event = self._look_unless_held
        self._association._reactor_checkpoint.clear()
        with self._turn:
            self._held = True
        connection = self._dul.socket.socket
        before = connection.gettimeout()
        try:
            yield
        finally:
            if connection.fileno() >= 0:
                connection.settimeout(before)
            with self._turn:
                self._held = False
            self._association._reactor_checkpoint.set()

    def _look_unless_held(self) -> bool:
        with self._turn:
            if self._held:
                self._dul._idle_timer.restart()
                return False
            return bool(self._ordinary())

    def send(
        self,
        context_id: int,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        dataset: BinaryIO,
        byte_count: int,
        message_id: int,
        stop: Callable[[], None],
    ) -> int | None:
        """Send one instance within :meth:`alone` and return the status of the answer; None if none came.

        After None the association is of no use any more: the caller aborts it.

        Parameters
        ----------
        dataset
            The encoded data set; read piece by piece.
        byte_count
            Of the data set.
        stop
            Called again and again meanwhile; may raise, e.g. on a cancel.
        """
        connection = self._dul.socket.socket
        most = self._association.acceptor.maximum_length or _LARGEST_PIECE
        piece_bytes = max(min(most, _LARGEST_PIECE) - 6, 1024)
        first = [_request(context_id, message_id, sop_class_uid, sop_instance_uid)]
        connection.settimeout(_LOOK_SECONDS)
        try:
            left = byte_count
            while left:
                count = dataset.readinto(self._buffer[: min(left, len(self._buffer) // piece_bytes * piece_bytes)])  # type: ignore[attr-defined]
                if not count:
                    return None  # the file has become shorter
                left -= count
                pieces = _pdus(context_id, self._buffer[:count], piece_bytes, last=not left)
                self._send_all(connection, [*first, *pieces], stop)
                first = []
            return self._response(connection, message_id, stop)
        except OSError:
            return None

    def _send_all(
        self, connection: socket.socket, parts: Sequence[bytes | memoryview], stop: Callable[[], None]
    ) -> None:
        """Write everything; the peer may take its time, but not fall silent. Raises OSError."""
        at, end = 0, time.monotonic() + self._timeout_s
        waiting = [memoryview(part) for part in parts]
        while at < len(waiting):
            try:
                if hasattr(connection, "sendmsg"):
                    sent = connection.sendmsg(waiting[at : at + _MOST_PARTS])
                else:  # Windows
                    sent = connection.send(waiting[at])
            except TimeoutError:
                stop()
                if time.monotonic() > end:
                    raise
                continue
            end = time.monotonic() + self._timeout_s
            while at < len(waiting) and sent >= len(waiting[at]):
                sent -= len(waiting[at])
                at += 1
            if sent:
                waiting[at] = waiting[at][sent:]

    def _response(self, connection: socket.socket, message_id: int, stop: Callable[[], None]) -> int | None:
        command, flags = b"", 0
        while flags != _COMMAND_AND_LAST:  # peers may cut even a response into pieces
            header = self._read(connection, 6, stop)
            length = struct.unpack(">L", header[2:])[0]
            if header[0] != _P_DATA or not 6 <= length <= _MOST_RESPONSE_BYTES:
                return None  # an abort, or nothing that answers a C-STORE
            body, at = self._read(connection, length, stop), 0
            while length - at >= 6:
                pdv_length, _context, flags = struct.unpack_from(">LBB", body, at)
                if pdv_length < 2 or at + 4 + pdv_length > length or not flags & _COMMAND:
                    return None
                command += body[at + 6 : at + 4 + pdv_length]
                at += 4 + pdv_length
            if at != length or len(command) > _MOST_RESPONSE_BYTES:
                return None
        elements, at = {}, 0
        while len(command) - at >= 8:
            group, element, size = struct.unpack_from("<HHL", command, at)
            if group != 0 or at + 8 + size > len(command):
                return None
            elements[element] = command[at + 8 : at + 8 + size]
            at += 8 + size
        try:
            field, answered, status = (struct.unpack("<H", elements[n])[0] for n in (0x0100, 0x0120, 0x0900))
        except (KeyError, struct.error):
            return None
        return status if (field, answered) == (_C_STORE_RESPONSE, message_id) else None

    def _read(self, connection: socket.socket, count: int, stop: Callable[[], None]) -> bytes:
        data, end = b"", time.monotonic() + self._timeout_s
        while len(data) < count:
            try:
                piece = connection.recv(count - len(data))
            except TimeoutError:
                stop()
                if time.monotonic() > end:
                    raise
                continue
            if not piece:
                raise ConnectionError("the peer closed the connection")
            data += piece
        return data


def _pdus(context_id: int, data: memoryview, piece_bytes: int, *, last: bool) -> Iterator[_Part]:
    """Yield header and content of the P-DATA-TF PDUs of some of the data set, or of its end."""
    for start in range(0, len(data), piece_bytes):
        piece = data[start : start + piece_bytes]
        flags = _LAST_DATA if last and start + piece_bytes >= len(data) else _DATA
        yield struct.pack(">BBLLBB", _P_DATA, 0, len(piece) + 6, len(piece) + 2, context_id, flags)
        yield piece


def _request(context_id: int, message_id: int, sop_class: str, sop_instance: str) -> bytes:
    """Return the P-DATA-TF PDU of a C-STORE request (PS3.7 table 9.3-1)."""
    elements = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value
        for element, value in (
            (0x0002, _even(sop_class)),
            (0x0100, struct.pack("<H", _C_STORE_REQUEST)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0)),  # medium priority
            (0x0800, struct.pack("<H", _HAS_DATA_SET)),
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
