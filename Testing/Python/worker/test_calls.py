"""What the child keeps between calls, and how often it reports."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from AIDicomBridgeLib.errors import ConflictError, GeometryError, NotFoundError
from AIDicomBridgeLib.models import resident
from AIDicomBridgeLib.models.catalogue import SHIPPED_CARDS, Catalogue
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.results import result_set
from AIDicomBridgeLib.results.conformance import Finding
from AIDicomBridgeLib.results.label_layers import LabelLayer
from AIDicomBridgeLib.series import image_files
from AIDicomBridgeLib.series.image_files import ImageFiles
from AIDicomBridgeLib.series.subject import Subject
from AIDicomBridgeLib.worker import calls as calls_module
from AIDicomBridgeLib.worker import process
from AIDicomBridgeLib.worker.calls import Calls
from AIDicomBridgeLib.worker.messages import Codec
from AIDicomBridgeLib.worker.model_run import ModelRun
from pydicom import dcmread
from synthetic import body_phantom, make_series, make_two_echoes, save_series


@pytest.fixture
def calls() -> Calls:
    return Calls(lambda progress: None)


def files_of(paths: Iterable[Path]) -> ImageFiles:
    return ImageFiles(tuple(paths))


def counting(monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType = calls_module) -> list[tuple]:
    """Return the list to which every later call of a function of the module is added."""
    made: list[tuple] = []
    function = getattr(module, name)

    def count(*args: object, **keywords: object) -> object:
        made.append(args)
        return function(*args, **keywords)

    monkeypatch.setattr(module, name, count)
    return made


def test_one_stack_of_an_instance_is_read_by_its_number_or_its_frames(calls: Calls, tmp_path: Path):
    paths = save_series([make_two_echoes(body_phantom((4, 16, 20)))], tmp_path)
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        calls.read(files=files_of(paths))
    second = calls.read(files=ImageFiles(tuple(paths), stack=2))
    assert [piece.frame_number for piece in second.source.slices] == [5, 6, 7, 8]
    assert (calls.read(files=ImageFiles(tuple(paths), second.source.frames)).voxels == second.voxels).all()
    first = calls.read(files=ImageFiles(tuple(paths), stack=1))
    assert (second.voxels == first.voxels + 100).all()


def test_the_model_stays_loaded_while_card_and_device_are_the_same(
    calls: Calls, ct_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = counting(monkeypatch, "load_model", resident)
    for model in ("ct-tissues", SHIPPED_CARDS / "ct-tissues.toml", Catalogue.load()["ct-tissues"]):
        calls.segment(files=files_of(ct_files), run=ModelRun(model, device="cpu"))
    assert len(loaded) == 1
    calls.segment(files=files_of(ct_files), run=ModelRun("ct-tissues", device="cpu:0"))
    assert len(loaded) == 2
    changed = tmp_path / "changed.toml"
    changed.write_text((SHIPPED_CARDS / "ct-tissues.toml").read_text() + "\n# another card\n")
    calls.segment(files=files_of(ct_files), run=ModelRun(changed, device="cpu:0"))
    assert len(loaded) == 3
    calls.segment(files=files_of(ct_files), run=ModelRun("ct-tissues", device="cpu:0"))  # the last two stay
    assert len(loaded) == 3
    assert calls.plan(files=files_of(ct_files), run=ModelRun("ct-tissues", device="cpu:0")).fits
    calls.release()
    calls.segment(files=files_of(ct_files), run=ModelRun("ct-tissues", device="cpu:0"))
    assert len(loaded) == 4


def test_the_volume_stays_until_a_file_changes(calls: Calls, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch):
    read = counting(monkeypatch, "read_volume", image_files)
    first = calls.read(files=files_of(ct_files))
    assert calls.read(files=files_of(ct_files)) is first
    calls.segment(files=files_of(ct_files), run=ModelRun("ct-tissues", device="cpu"))
    assert len(read) == 1
    os.utime(ct_files[3], (1, 1))
    assert calls.read(files=files_of(ct_files)) is not first
    assert len(read) == 2


def test_another_series_is_another_volume(calls: Calls, ct_files: list[Path], tmp_path: Path):
    other = save_series(make_series(body_phantom((3, 16, 16))), tmp_path / "other")
    assert calls.read(files=files_of(ct_files)).voxels.shape == (12, 64, 72)
    assert calls.read(files=files_of(other)).voxels.shape == (3, 16, 16)


def test_a_taken_folder_is_refused_before_anything_is_read(calls: Calls, tmp_path: Path):
    (tmp_path / "seg-001.dcm").touch()
    with pytest.raises(ConflictError):
        calls.export(files=files_of([tmp_path / "no.dcm"]), layers=(), folder=tmp_path)


def test_warnings_of_the_checks_come_with_the_objects(calls, ct_files, tmp_path, monkeypatch):
    labels = calls.segment(files=files_of(ct_files), run=ModelRun("ct-tissues", device="cpu"))
    values = tuple(segment.label for segment in labels.segments)
    layers = (LabelLayer(labels.labels, (0, 0, 0), values, labels.segments),)
    found = {"1.2.840.10008.5.1.4.1.1.66.4": [Finding("warning", "Here", "It is odd.")]}
    monkeypatch.setattr(result_set, "check_conformance", lambda made, *_, **__: found.get(made.SOPClassUID, []))
    made = calls.export(files=files_of(ct_files), layers=layers, folder=tmp_path / "results", outputs=("seg", "sr"))
    assert {result.kind: result.warnings for result in made} == {"seg": ("Here: It is odd.",), "sr": ()}


def test_files_of_another_patient_than_was_loaded_are_refused(calls, ct_files):
    subject = Subject.of(dcmread(ct_files[0]))
    assert calls.plan(files=files_of(ct_files), run=ModelRun("ct-tissues"), subject=subject).fits
    for other in (replace(subject, patient_birth_date="19990101"), replace(subject, accession_number="X")):
        with pytest.raises(ConflictError, match="not of the patient and study"):
            calls.segment(files=files_of(ct_files), run=ModelRun("ct-tissues"), subject=other)
    assert subject.patient_id not in repr(subject)


def test_an_unknown_series_has_no_volume(calls: Calls):
    with pytest.raises(NotFoundError):
        calls.read(files=files_of([]))


def test_reports_are_thinned_out_but_first_and_last_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A clock that moves 1 ms with every report: 1000 reports a second."""
    clock = iter(range(10_000))
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: next(clock) / 1000))

    def count_to_1000(self: Calls, **_: object) -> None:
        for number in range(1001):
            self._progress(Progress("read", number, 1000))

    monkeypatch.setattr(Calls, "outbox", count_to_1000)
    sent: list[dict] = []
    process.Tasks(Codec(tmp_path, "x"), SimpleNamespace(send=sent.append)).run(
        {"task": 1, "call": "outbox", "arguments": {}}
    )
    steps = [message["progress"]["completed"] for message in sent if message["kind"] == "progress"]
    assert (steps[0], steps[-1]) == (0, 1000)
    assert 18 <= len(steps) <= 22
