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
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import AssociationError, UnreachableError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.dimse import STUDY_ROOT_FIND
from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.pacs.scp_guard import ScpLimits
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification
from synthetic import body_phantom, make_series, part10

CT = "1.2.840.10008.5.1.4.1.1.2"
ENDLESS = 200 * 2**20


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


@pytest.mark.usefixtures("dimse_way")
def test_a_full_archive_says_so_and_recovers(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "small", quota_bytes=2500) as store, Archive(store) as archive:
        report = connect(archive.endpoint).store(images)

    assert [outcome.outcome for outcome in report.outcomes] == [Outcome.STORED] + [Outcome.REFUSED] * 3
    assert {outcome.status for outcome in report.failed} == {"0xA700"}


def test_polite_strangers_do_not_keep_their_places_for_ever(archive) -> None:
    """They are never silent for long, and send next to nothing."""
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context(Verification)
    strangers = [entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title) for _ in range(3)]
    assert all(stranger.is_established for stranger in strangers)
    for stranger in strangers:
        stranger._reactor_checkpoint.clear()  # the test sends itself, and looks at no answer
    deadline, next_word = time.monotonic() + 20, 0.0
    while True:
        if time.monotonic() > next_word:
            next_word = time.monotonic() + 0.7
            for stranger in strangers:
                with suppress(OSError, AttributeError):  # its connection may be gone
                    stranger.dul.socket.socket.sendall(command(Verification, 0x0030))
        try:
            connect(archive.endpoint).verify()
            break
        except (AssociationError, UnreachableError):
            assert time.monotonic() < deadline
    for stranger in strangers:
        stranger._reactor_checkpoint.set()
        stranger.abort()


# The archive in a process of its own, where its memory can be seen


@pytest.fixture(scope="module")
def archive_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("strangers") / "archive"


@pytest.fixture(scope="module")
def archive_process(archive_folder) -> Iterator[tuple[subprocess.Popen[str], DimseEndpoint]]:
    command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(archive_folder), "--ae-title", "OURS"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        endpoint = DimseEndpoint("", "127.0.0.1", port, "OURS")
        connect(endpoint).store(make_series(body_phantom((1, 8, 8))))
        yield process, endpoint
        process.terminate()


def memory_of(process: subprocess.Popen[str], what: str) -> int:
    """Return the bytes that the process holds now (``VmRSS``), or held at most since it began (``VmHWM``)."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", text)[1]) * 1024


def giant_pdu(endpoint: DimseEndpoint, _held: ExitStack) -> None:
    send_over_and_over(endpoint, struct.pack(">BBL", 1, 0, 300 * 2**20), bytes(2**20))


def slow_sockets(endpoint: DimseEndpoint, held: ExitStack) -> None:
    for _ in range(12):
        stranger = held.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))
        stranger.sendall(b"\x01\x00\x00")


def silent_sockets(endpoint: DimseEndpoint, held: ExitStack) -> None:
    for _ in range(150):
        held.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))


def wrong_ae_titles(endpoint: DimseEndpoint, _held: ExitStack) -> None:
    for wrong in ("WRONG", "../../x", "*"):
        with pytest.raises(AssociationError):
            connect(dataclasses.replace(endpoint, ae_title=wrong)).verify()


def endless_identifier(endpoint: DimseEndpoint, _held: ExitStack) -> None:
    send_message_without_end(endpoint, STUDY_ROOT_FIND, [command(STUDY_ROOT_FIND, 0x0020)], flags=0)


def endless_command(endpoint: DimseEndpoint, _held: ExitStack) -> None:
    send_message_without_end(endpoint, STUDY_ROOT_FIND, [], flags=1)


def endless_data_of_an_evil_uid(endpoint: DimseEndpoint, _held: ExitStack) -> None:
    send_message_without_end(endpoint, CT, [command(CT, 0x0001, "../../../etc/x")], flags=0)


def send_over_and_over(endpoint: DimseEndpoint, first: bytes, rest: bytes) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as stranger, suppress(OSError):
        stranger.sendall(first)
        for _ in range(ENDLESS // len(rest)):
            stranger.sendall(rest)


def send_message_without_end(endpoint: DimseEndpoint, sop_class: str, begin: list[bytes], *, flags: int) -> None:
    """Send a DIMSE message whose last fragment never comes, until the archive has had enough."""
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", endpoint.port, ae_title=endpoint.ae_title)
    assert association.is_established
    connection = association.dul.socket.socket
    connection.settimeout(20)
    fragment = p_data(bytes(120_000), flags)
    with suppress(OSError):
        for pdu in (*begin, *[fragment] * (ENDLESS // len(fragment))):
            connection.sendall(pdu)
    association.abort()


def p_data(content: bytes, flags: int) -> bytes:
    return struct.pack(">BBLLBB", 4, 0, len(content) + 6, len(content) + 2, 1, flags) + content


def command(sop_class: str, field: int, sop_instance_uid: str = "") -> bytes:
    """Return the P-DATA-TF PDU of a request; of all but C-ECHO it says that a data set follows."""

    def element(number: int, value: bytes) -> bytes:
        padded = value + b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(padded)) + padded

    short = struct.Struct("<H").pack
    body = element(0x0002, sop_class.encode()) + element(0x0100, short(field)) + element(0x0110, short(1))
    body += element(0x0700, short(0)) + element(0x0800, short(0x0101 if field == 0x0030 else 1))
    body += element(0x1000, sop_instance_uid.encode()) if sop_instance_uid else b""
    return p_data(element(0x0000, struct.pack("<L", len(body))) + body, 3)


ATTACKS = [
    *(giant_pdu, slow_sockets, silent_sockets, wrong_ae_titles),
    *(endless_identifier, endless_command, endless_data_of_an_evil_uid),
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc shows the memory of a process on Linux only")
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.__name__ for attack in ATTACKS])
def test_memory_stays_flat_and_an_honest_peer_is_served(archive_process, archive_folder, attack) -> None:
    process, endpoint = archive_process
    before = memory_of(process, "VmRSS")
    with ExitStack() as held:
        attack(endpoint, held)
        assert_serves(endpoint, seconds=30)

    assert memory_of(process, "VmHWM") - before < 100 * 2**20
    assert len([path for path in (archive_folder / "instances").rglob("*.dcm") if path.is_file()]) == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc shows the memory of a process on Linux only")
def test_hundreds_of_visits_leave_nothing_behind(archive_process) -> None:
    """Associations that are released or aborted, and connections that a health check opens and closes."""
    process, endpoint = archive_process
    sent: list[bytes] = []
    entity = AE(ae_title="VISITOR")
    entity.add_requested_context(Verification)
    handlers = [(evt.EVT_PDU_SENT, lambda event: sent.append(event.pdu.encode()))]
    entity.associate("127.0.0.1", endpoint.port, ae_title=endpoint.ae_title, evt_handlers=handlers).release()
    request, release = sent
    abort = struct.pack(">BBLL", 7, 0, 4, 0)

    def visit(times: int) -> int:
        accepted = 0
        for number in range(times):
            for _ in range(3):
                socket.create_connection(("127.0.0.1", endpoint.port)).close()
            with socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as visitor, suppress(OSError):
                visitor.sendall(request)
                accepted += visitor.recv(65536)[:1] == b"\x02"
                visitor.sendall(abort if number % 2 else release)
                visitor.recv(65536)
        return accepted

    def held() -> tuple[int, int]:
        threads = int(re.search(r"Threads:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])
        return threads, len(list(Path(f"/proc/{process.pid}/fd").iterdir()))

    visit(50)  # what is made once is made
    threads, files = held()
    before = memory_of(process, "VmRSS")
    accepted = visit(200)
    deadline = time.monotonic() + 20
    while (held()[0] > threads + 3 or held()[1] > files + 3) and time.monotonic() < deadline:
        time.sleep(0.02)  # the last threads and sockets are on their way out

    assert held()[0] <= threads + 3
    assert held()[1] <= files + 3
    assert accepted > 190  # who comes often, and goes, keeps nobody out
    assert memory_of(process, "VmRSS") - before < 4 * 2**20  # a leak of 30 kB each would be 6 MB


def assert_serves(endpoint: DimseEndpoint, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(endpoint).verify()
        except (AssociationError, UnreachableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)  # as a peer in earnest does: each attempt takes a place for a moment


@pytest.mark.parametrize(("associations", "each"), [(10, 20)])
def test_ten_associations_at_once_lose_nothing(archive_process, archive_folder, associations, each) -> None:
    """The last test of this file: it ends the archive. ``python -m bench.load`` sends 10 x 1,000."""
    process, endpoint = archive_process
    batches = [make_series(body_phantom((each, 64, 64))) for _ in range(associations)]
    before = memory_of(process, "VmRSS")
    with ThreadPoolExecutor(associations) as pool:
        reports = list(pool.map(lambda batch: connect(endpoint).store(batch), batches))

    assert all(report.complete for report in reports)
    assert memory_of(process, "VmHWM") - before < 100 * 2**20
    process.terminate()
    process.wait(20)
    with InstanceStore(archive_folder) as store:
        kept = {item.sop_instance_uid: dcmread(item.path).PixelData for item in store}
    for dataset in (dataset for batch in batches for dataset in batch):
        assert kept[dataset.SOPInstanceUID] == dataset.PixelData
