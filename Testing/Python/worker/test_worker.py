"""The engine in its child process: what is asked for, what comes back, and in which order."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, NotFoundError, UnreachableError, WeightsError, WorkerError
from AIDicomBridgeLib.models.loading import load_model
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.results.label_layers import LabelLayer
from AIDicomBridgeLib.series.image_files import ImageFiles
from AIDicomBridgeLib.series.volume import read_volume
from AIDicomBridgeLib.worker import process
from AIDicomBridgeLib.worker.calls import Calls
from AIDicomBridgeLib.worker.client import Event, Worker
from AIDicomBridgeLib.worker.messages import Codec
from AIDicomBridgeLib.worker.model_run import ModelRun
from pydicom import dcmread

from .conftest import (
    CANARY,
    SilentServer,
    error_of,
    last_events,
    result_of,
    until,
    with_library,
)


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
