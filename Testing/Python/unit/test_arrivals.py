"""What is received piece by piece becomes part of the store when it is safe on disk, and not before."""

import errno
import threading
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import ConflictError, DiskSpaceError
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import Dataset, dcmread
from synthetic import body_phantom, encoded, make_series


@pytest.fixture
def store(tmp_path: Path) -> InstanceStore:
    return InstanceStore(tmp_path / "store")


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "instances").rglob("*") if path.is_file())


def received_by(store: InstanceStore, dataset: Dataset, *, durable: bool = False) -> None:
    data, command = encoded(dataset)
    incoming = store.receiving(**command)
    for start in range(0, len(data), 100):
        incoming.write(data[start : start + 100])
    store.keep(incoming, durable=durable)


def test_what_is_received_in_pieces_is_there_after_a_sync(store) -> None:
    many = make_series(body_phantom((70, 8, 8)))  # more than two batches
    for dataset in many:
        received_by(store, dataset)

    store.sync()

    assert len(store) == 70
    assert {dcmread(item.path).PixelData for item in store} == {dataset.PixelData for dataset in many}
    assert sorted(files_below(store.folder)) == sorted(item.path for item in store)


def test_a_duplicate_is_seen_before_the_first_one_is_safe(store, images) -> None:
    received_by(store, images[0])
    received_by(store, images[0])
    images[0].WindowCenter = "41"
    with pytest.raises(ConflictError):
        received_by(store, images[0])

    store.sync()

    assert len(store) == 1
    assert len(files_below(store.folder)) == 1


def test_a_durable_copy_of_what_is_still_arriving_is_safe_when_it_is_kept(store, images, monkeypatch) -> None:
    entered, release, kept, safe = threading.Event(), threading.Event(), threading.Event(), []

    def slow(_handle: int) -> None:
        entered.set()
        assert release.wait(30)

    def keep_again() -> None:
        received_by(store, images[0], durable=True)
        safe.append(images[0].SOPInstanceUID in store)
        kept.set()

    monkeypatch.setattr("os.fsync", slow)
    received_by(store, images[0])
    thread = threading.Thread(target=keep_again)
    thread.start()
    assert entered.wait(30)
    assert not kept.wait(0.1)  # nothing is safe yet
    release.set()
    thread.join(30)

    assert safe == [True]


def test_closing_makes_the_rest_safe(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "closed") as store:
        for dataset in images:
            received_by(store, dataset)

    with InstanceStore(tmp_path / "closed") as store:
        assert len(store) == len(images)


def test_a_disk_that_fills_up_is_reported_by_the_sync(store, images, monkeypatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    received_by(store, images[0])
    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(DiskSpaceError):
        store.sync()
    assert len(store) == 0
    assert files_below(store.folder) == []


def test_what_is_given_up_leaves_nothing_behind(store, images) -> None:
    data, command = encoded(images[0])
    incoming = store.receiving(**command)
    incoming.write(data[:100])

    incoming.discard()

    assert files_below(store.folder) == []
    received_by(store, images[0], durable=True)
    assert len(store) == 1
