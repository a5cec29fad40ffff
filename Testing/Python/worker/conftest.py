"""A worker to ask, an archive, and a server that never answers."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.worker import client
from AIDicomBridgeLib.worker.client import Event, Worker
from synthetic import body_phantom, make_series

DEADLINE_S = 120
CANARY = "CANARY^PATIENT"
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which this process and its children make temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def worker(temporary: Path) -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """The built-in archive with one CT series."""
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as running:
        images = make_series(body_phantom(), patient_name=CANARY, accession_number="A1")
        with connect(running.endpoint) as pacs:
            assert pacs.store(images).complete
        yield running


class SilentServer:
    """Accepts connections on loopback and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE_S)
        self._accepted: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.endpoint = DimseEndpoint("", "127.0.0.1", self.port, "SILENT", association_timeout_s=300)

    def accept(self) -> socket.socket:
        """Return the next connection: the step runs."""
        connection = self._listener.accept()[0]
        connection.settimeout(DEADLINE_S)
        self._accepted.append(connection)
        return connection

    def close(self) -> None:
        for connection in (*self._accepted, self._listener):
            connection.close()


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


def wait_for_end(connection: socket.socket) -> None:
    """Return when the process at the other end of a connection is gone; TimeoutError if it stays."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def last_events(worker: Worker) -> list[Event]:
    """Poll until nothing is open and return all events."""
    events = worker.poll()
    until(lambda: events.extend(worker.poll()) or not worker.busy)
    return events


def result_of(worker: Worker, call: str, **arguments: object) -> object:
    worker.submit(call, **arguments)
    event = last_events(worker)[-1]
    assert event.kind == "done", event.error
    return event.result


def error_of(worker: Worker, call: str, **arguments: object) -> Exception:
    worker.submit(call, **arguments)
    event = last_events(worker)[-1]
    assert event.kind == "failed"
    return event.error


def with_library() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(client.__file__).parents[2])}


def children() -> list[int]:
    """Return the process IDs of the workers' children of this process."""
    tasks = Path("/proc/self/task").iterdir()
    found = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"worker.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_until_gone(worker: Worker) -> None:
    """Poll until the child that was killed is gone; there is no other news."""
    until(lambda: worker.poll() != [] or not worker.ending)
    assert not worker.ending
