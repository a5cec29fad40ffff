"""What the child keeps between calls, and how often it reports."""

import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from AIDicomBridgeLib.errors import ConflictError, NotFoundError
from AIDicomBridgeLib.models import resident
from AIDicomBridgeLib.models.catalogue import SHIPPED_CARDS, Catalogue
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.worker import calls as calls_module
from AIDicomBridgeLib.worker import process
from AIDicomBridgeLib.worker.calls import Calls
from AIDicomBridgeLib.worker.messages import Codec
from synthetic import body_phantom, make_series, save_series


@pytest.fixture
def calls() -> Calls:
    return Calls(lambda progress: None)


def counting(monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType = calls_module) -> list[tuple]:
    """Return the list to which every later call of a function of the module is added."""
    made: list[tuple] = []
    function = getattr(module, name)

    def count(*args: object, **keywords: object) -> object:
        made.append(args)
        return function(*args, **keywords)

    monkeypatch.setattr(module, name, count)
    return made


def test_the_model_stays_loaded_while_card_and_device_are_the_same(
    calls: Calls, ct_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = counting(monkeypatch, "load_model", resident)
    for model in ("ct-tissues", SHIPPED_CARDS / "ct-tissues.toml", Catalogue.load()["ct-tissues"]):
        calls.segment(paths=ct_files, model=model, device="cpu")
    assert len(loaded) == 1
    calls.segment(paths=ct_files, model="ct-tissues", device="cpu:0")
    assert len(loaded) == 2
    changed = tmp_path / "changed.toml"
    changed.write_text((SHIPPED_CARDS / "ct-tissues.toml").read_text() + "\n# another card\n")
    calls.segment(paths=ct_files, model=changed, device="cpu:0")
    assert len(loaded) == 3
    calls.segment(paths=ct_files, model="ct-tissues", device="cpu:0")  # the last two stay
    assert len(loaded) == 3
    assert calls.plan(paths=ct_files, model="ct-tissues", device="cpu:0") is None
    calls.release()
    calls.segment(paths=ct_files, model="ct-tissues", device="cpu:0")
    assert len(loaded) == 4


def test_the_volume_stays_until_a_file_changes(calls: Calls, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch):
    read = counting(monkeypatch, "read_volume")
    first = calls.read(paths=ct_files)
    assert calls.read(paths=[str(path) for path in ct_files]) is first
    calls.segment(paths=ct_files, model="ct-tissues", device="cpu")
    assert len(read) == 1
    os.utime(ct_files[3], (1, 1))
    assert calls.read(paths=ct_files) is not first
    assert len(read) == 2


def test_another_series_is_another_volume(calls: Calls, ct_files: list[Path], tmp_path: Path):
    other = save_series(make_series(body_phantom((3, 16, 16))), tmp_path / "other")
    assert calls.read(paths=ct_files).voxels.shape == (12, 64, 72)
    assert calls.read(paths=other).voxels.shape == (3, 16, 16)


def test_a_taken_folder_is_refused_before_anything_is_read(calls: Calls, tmp_path: Path):
    (tmp_path / "seg-001.dcm").touch()
    with pytest.raises(ConflictError):
        calls.export(paths=[tmp_path / "no.dcm"], layers=(), folder=tmp_path)


def test_an_unknown_series_has_no_volume(calls: Calls):
    with pytest.raises(NotFoundError):
        calls.read(paths=[])


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
