"""Fixtures of the tests of pixels: a small series in memory, and how it is read from files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
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
