"""What the fault tests share: a small series, and an empty store to receive into."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import Dataset
from synthetic import body_phantom, make_series


@pytest.fixture
def images() -> list[Dataset]:
    return make_series(body_phantom((4, 16, 16)))


@pytest.fixture
def received(tmp_path: Path) -> Iterator[InstanceStore]:
    with InstanceStore(tmp_path / "received") as store:
        yield store
