"""Fixtures of the tests of the built-in archive: a series, the archive, a store to receive in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers import free_port
from pydicom import Dataset
from synthetic import body_phantom, make_series


@pytest.fixture
def images() -> list[Dataset]:
    return make_series(body_phantom((6, 32, 40)))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    destinations = {"AIDICOMBRIDGE": ("127.0.0.1", free_port()), "MOVESCU": ("127.0.0.1", free_port())}
    with InstanceStore(tmp_path / "archive") as store, Archive(store, move_destinations=destinations) as archive:
        yield archive


@pytest.fixture
def received(tmp_path: Path) -> Iterator[InstanceStore]:
    with InstanceStore(tmp_path / "received") as store:
        yield store
