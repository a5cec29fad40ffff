"""Instances straight from the socket into the store: large, slow, oddly packed, too many for the disk, endless."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from AIDicomBridgeLib.errors import DiskSpaceError, JobCancelled
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.fast_send import FastSender
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.pacs.scp_guard import ScpLimits
from AIDicomBridgeLib.progress import CancelToken
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import Dataset, dcmread, dcmwrite
from pynetdicom import AE
from synthetic import body_phantom, make_series

CT, EXPLICIT_LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
DATA, COMMAND, LAST = 0, 1, 2


@pytest.fixture
def image() -> Dataset:
    return make_series(body_phantom((1, 64, 64)))[0]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as archive:
        yield archive


@contextmanager
def association(archive: Archive) -> Iterator[socket.socket]:
    """Give the socket of an association on which nobody but the test writes: context 1 is CT, 3 is C-FIND."""
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context(CT, EXPLICIT_LITTLE)
    entity.add_requested_context(STUDY_ROOT_FIND, EXPLICIT_LITTLE)
    found = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    assert found.is_established
    listen, found.dul._is_transport_event = found.dul._is_transport_event, lambda: False
    connection = found.dul.socket.socket
    connection.settimeout(20)
    try:
        yield connection
    finally:
        found.dul._is_transport_event = listen
        found.abort()


def pdv(flags: int, content: bytes, context_id: int = 1) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context_id, flags) + content


def pdu(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BBL", 4, 0, len(body)) + body


def command_set(elements: dict[int, str | int]) -> bytes:
    encoded = b""
    for number, value in elements.items():
        data = struct.pack("<H", value) if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
        encoded += struct.pack("<HHL", 0, number, len(data)) + data
    return struct.pack("<HHLL", 0, 0, 4, len(encoded)) + encoded


def store_command(image: Dataset) -> bytes:
    uids = {0x0002: str(image.SOPClassUID), 0x1000: str(image.SOPInstanceUID)}
    return command_set(dict(sorted({**uids, 0x0100: 1, 0x0110: 7, 0x0700: 0, 0x0800: 1}.items())))


def find_command() -> bytes:
    return command_set({0x0002: STUDY_ROOT_FIND, 0x0100: 0x0020, 0x0110: 7, 0x0700: 0, 0x0800: 1})


def encoded(image: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, image, enforce_file_format=True)
    return buffer.getvalue()[buffer.getvalue().index(b"\x08\x00\x05\x00CS") :]


def status_of(connection: socket.socket) -> int:
    header = connection.recv(6, socket.MSG_WAITALL)
    assert header[0] == 4, "the archive ended the association"
    answer = connection.recv(struct.unpack(">L", header[2:])[0], socket.MSG_WAITALL)
    return struct.unpack_from("<H", answer, answer.index(b"\0\0\0\x09\x02\0\0\0") + 8)[0]


def test_command_and_data_may_share_pdus_in_any_way(archive, image) -> None:
    command, data = store_command(image), encoded(image)
    packings = {
        "all in one": [pdu(pdv(COMMAND | LAST, command), pdv(DATA, data[:999]), pdv(DATA | LAST, data[999:]))],
        "the command in two": [
            pdu(pdv(COMMAND, command[:50])),
            pdu(pdv(COMMAND | LAST, command[50:]), pdv(DATA, data[:500])),
            pdu(pdv(DATA | LAST, data[500:])),
        ],
    }
    with association(archive) as connection:
        for packing in packings.values():
            for piece in packing:
                connection.sendall(piece)
            assert status_of(connection) == 0

    assert dcmread(archive.store.get(image.SOPInstanceUID).path).PixelData == image.PixelData


def test_an_instance_may_take_longer_than_a_silence(tmp_path, image) -> None:
    command, data = store_command(image), encoded(image)
    limits = ScpLimits(idle_seconds=0.4)
    with InstanceStore(tmp_path) as store, Archive(store, limits=limits) as archive:
        with association(archive) as connection:
            connection.sendall(pdu(pdv(COMMAND | LAST, command)))
            for start in range(0, len(data), len(data) // 4):  # one second in all
                time.sleep(0.25)
                flags = DATA | LAST * (start + len(data) // 4 >= len(data))
                connection.sendall(pdu(pdv(flags, data[start : start + len(data) // 4])))
            assert status_of(connection) == 0
        assert image.SOPInstanceUID in store


def test_a_disk_that_fills_up_in_the_middle_of_an_instance_is_a_status(tmp_path, image) -> None:
    small, large = image, make_series(body_phantom((1, 128, 128)))[0]
    with InstanceStore(tmp_path, quota_bytes=20_000) as store, Archive(store) as archive:
        report = connect(archive.endpoint).store([large, small])

    assert [outcome.outcome for outcome in report.outcomes] == [Outcome.REFUSED, Outcome.STORED]
    assert report.outcomes[0].status == "0xA700"


def test_a_disk_that_fills_up_in_the_middle_of_a_retrieve_is_named(archive, tmp_path) -> None:
    image = make_series(body_phantom((1, 128, 128)))[0]
    connect(archive.endpoint).store([image])

    with InstanceStore(tmp_path / "small", quota_bytes=20_000) as store, pytest.raises(DiskSpaceError, match="larger"):
        connect(archive.endpoint).retrieve(image.StudyInstanceUID, into=store)


@pytest.mark.parametrize("what", ["command", "identifier"])
def test_what_would_be_kept_in_memory_has_an_end(archive, what) -> None:
    sent = 0
    with association(archive) as connection, suppress(OSError):
        if what == "identifier":
            connection.sendall(pdu(pdv(COMMAND | LAST, find_command(), context_id=3)))
        while sent < 64 * 2**20:
            endless = pdv(COMMAND if what == "command" else DATA, bytes(2**16), context_id=3)
            sent += connection.send(pdu(endless))

    assert sent < 32 * 2**20
    connect(archive.endpoint).verify()


def test_two_associations_may_bring_the_same_instance_at_once(archive, image) -> None:
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(connect(archive.endpoint).store([image]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [report.complete for report in reports] == [True] * 4
    assert len(archive.store) == 1


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_the_answer_to_a_store_may_come_in_pieces(cut) -> None:
    answer = command_set({0x0002: CT, 0x0100: 0x8001, 0x0120: 7, 0x0800: 0x0101, 0x0900: 0xB000, 0x1000: "1.2.3"})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(pdu(pdv(COMMAND, answer[:cut])) + pdu(pdv(COMMAND | LAST, answer[cut:])))
        association = SimpleNamespace(
            dul=SimpleNamespace(socket=SimpleNamespace(socket=ours), _is_transport_event=lambda: False),
            acceptor=SimpleNamespace(maximum_length=0),
        )
        status = FastSender(association, timeout_s=10).send(
            1,
            sop_class_uid=CT,
            sop_instance_uid="1.2.3",
            dataset=BytesIO(b"data set"),
            byte_count=8,
            message_id=7,
            stop=lambda: None,
        )

    assert status == 0xB000


def test_a_cancel_is_heeded_while_the_peer_takes_nothing() -> None:
    ours, theirs = socket.socketpair()
    association = SimpleNamespace(
        dul=SimpleNamespace(socket=SimpleNamespace(socket=ours), _is_transport_event=lambda: False),
        acceptor=SimpleNamespace(maximum_length=0),
    )
    cancel = CancelToken()
    cancel.cancel()
    with ours, theirs, pytest.raises(JobCancelled):
        FastSender(association, timeout_s=60).send(
            1,
            sop_class_uid=CT,
            sop_instance_uid="1.2.3",
            dataset=BytesIO(bytes(2**24)),
            byte_count=2**24,
            message_id=7,
            stop=cancel.raise_if_cancelled,
        )
