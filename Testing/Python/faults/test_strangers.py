"""Strangers at the door of our own archive: they hold neither memory nor a place for long."""

import dataclasses
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import AssociationError, UnreachableError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.pacs.scp_guard import ScpLimits
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from synthetic import body_phantom, make_series, part10


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    limits = ScpLimits(pdu_seconds=0.5, message_bytes=4 * 2**20, associations=3, idle_seconds=2)
    with InstanceStore(tmp_path / "archive") as store, Archive(store, limits=limits) as archive:
        yield archive


def closed_by_peer(connection: socket.socket, seconds: float = 20) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def assert_answers_again(archive: Archive, seconds: float = 20) -> None:
    """An honest C-ECHO succeeds; a place may become free a moment after its connection is closed."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(archive.endpoint).verify()
        except AssociationError:
            if time.monotonic() > deadline:
                raise


def test_a_giant_pdu_closes_the_connection(archive) -> None:
    with socket.create_connection(("127.0.0.1", archive.port)) as stranger:
        stranger.sendall(struct.pack(">BBL", 1, 0, 300 * 2**20))

        assert closed_by_peer(stranger)
    assert_answers_again(archive)


def test_slow_sockets_do_not_keep_others_out(archive) -> None:
    strangers = [socket.create_connection(("127.0.0.1", archive.port)) for _ in range(6)]
    try:
        for stranger in strangers:
            stranger.sendall(b"\x01\x00\x00")

        assert all(closed_by_peer(stranger) for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.close()
    assert_answers_again(archive)


def test_sockets_that_say_nothing_do_not_keep_others_out(archive) -> None:
    strangers = [socket.create_connection(("127.0.0.1", archive.port)) for _ in range(6)]
    try:
        assert all(closed_by_peer(stranger) for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.close()
    assert_answers_again(archive)


def send_raw(archive: Archive, dataset_bytes: bytes, sop_instance_uid: str) -> int | None:
    """Send a C-STORE whose command and data set the test chooses, and return the status, None if broken off."""
    entity = AE(ae_title="STRANGER")
    entity.dimse_timeout = entity.acse_timeout = 20
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.DataSet = BytesIO(dataset_bytes)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, 1)
    _context, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.abort()
    return None if answer is None else answer.Status


def test_an_endless_data_set_closes_the_connection(archive) -> None:
    assert send_raw(archive, bytes(6 * 2**20), generate_uid()) is None
    assert len(archive.store) == 0
    assert_answers_again(archive)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../../etc/x", "/etc/x", "1.2.3.x", "a" * 64])
def test_a_uid_that_looks_like_a_path_is_refused(archive, images, uid) -> None:
    data = part10(images[0])
    dataset_bytes = data[data.index(b"\x08\x00\x05\x00CS") :]

    assert send_raw(archive, dataset_bytes, uid) == 0x0117
    assert send_raw(archive, dataset_bytes, generate_uid()) == 0xC000
    assert [path for path in (archive.store.folder / "instances").rglob("*") if path.is_file()] == []


def test_a_full_archive_says_so_and_recovers(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "small", quota_bytes=2500) as store, Archive(store) as archive:
        report = connect(archive.endpoint).store(images)

    assert [outcome.outcome for outcome in report.outcomes] == [Outcome.STORED] + [Outcome.REFUSED] * 3
    assert {outcome.status for outcome in report.failed} == {"0xA700"}


# The archive in a process of its own, where its memory can be seen


@pytest.fixture
def archive_process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], DimseEndpoint]]:
    command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(tmp_path / "archive"), "--ae-title", "OURS"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        yield process, DimseEndpoint("", "127.0.0.1", port, "OURS")
        process.terminate()


def resident_bytes(process: subprocess.Popen[str]) -> int:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024


def stranger_sends(port: int, data: bytes, most: int) -> None:
    """Send the same bytes over and over until the archive has had enough."""
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.settimeout(20)
        with suppress(OSError):
            for _ in range(most // len(data)):
                stranger.sendall(data)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc shows the memory of a process on Linux only")
def test_memory_stays_flat_and_an_honest_peer_is_served(archive_process, images) -> None:
    process, endpoint = archive_process
    connect(endpoint).store(images)
    before = resident_bytes(process)
    slow = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(12)]
    try:
        for stranger in slow:
            stranger.sendall(b"\x01\x00\x00")
        for _ in range(3):
            stranger_sends(endpoint.port, struct.pack(">BBL", 1, 0, 300 * 2**20) + bytes(2**20), 64 * 2**20)
        for wrong in ("WRONG", "../../x"):
            with pytest.raises(AssociationError):
                connect(dataclasses.replace(endpoint, ae_title=wrong, association_timeout_s=40)).verify()
        assert resident_bytes(process) - before < 100 * 2**20
        assert_serves(endpoint, seconds=30)
    finally:
        for stranger in slow:
            stranger.close()
    assert resident_bytes(process) - before < 100 * 2**20


def assert_serves(endpoint: DimseEndpoint, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(endpoint).verify()
        except (AssociationError, UnreachableError):
            if time.monotonic() > deadline:
                raise


@pytest.mark.parametrize(("associations", "each"), [(10, 20)])
def test_ten_associations_at_once_lose_nothing(archive_process, tmp_path, associations, each) -> None:
    """``python -m bench.load`` does it with 1,000 instances each."""
    process, endpoint = archive_process
    batches = [make_series(body_phantom((each, 64, 64))) for _ in range(associations)]
    connect(endpoint).store(make_series(body_phantom((1, 8, 8))))
    before = resident_bytes(process)
    with ThreadPoolExecutor(associations) as pool:
        reports = list(pool.map(lambda batch: connect(endpoint).store(batch), batches))

    assert all(report.complete for report in reports)
    assert resident_bytes(process) - before < 100 * 2**20
    process.terminate()
    process.wait(20)
    with InstanceStore(tmp_path / "archive") as store:
        kept = {item.sop_instance_uid: dcmread(item.path).PixelData for item in store}
    for dataset in (dataset for batch in batches for dataset in batch):
        assert kept[dataset.SOPInstanceUID] == dataset.PixelData
