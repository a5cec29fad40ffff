"""Fixtures of several unit tests: a small series, how it is read, its results, an archive, a data folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from checked_results import Results, make_results
from pydicom import Dataset
from synthetic import body_phantom, make_series, save_series


@pytest.fixture
def images() -> list[Dataset]:
    """Three slices of 24 x 28, uncompressed."""
    return make_series(body_phantom((3, 24, 28)))


@pytest.fixture
def read(tmp_path: Path) -> Callable[[list[Dataset]], ImageVolume]:
    """Return a reader of data sets, by way of files."""
    return lambda images: read_volume(save_series(images, tmp_path / "series"))


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights, outbox and settings, empty."""
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """The built-in archive with one CT and one MR study, its ``ct`` and ``mr``."""
    with Archive(InstanceStore(tmp_path / "archive")) as running:
        ct = make_series(body_phantom(), accession_number="CT1")
        mr = make_series(body_phantom((3, 8, 8)), modality="MR", accession_number="MR1", patient_id="SYN-2")
        with connect(running.endpoint) as client:
            assert client.store([*ct, *mr]).complete
        running.ct, running.mr = ct, mr
        yield running


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Good results of one series; tests copy what they damage."""
    return make_results(tmp_path_factory.mktemp("ct"))
