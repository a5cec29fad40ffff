"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from synthetic import body_phantom, make_series, save_series


@pytest.fixture
def ct_files(tmp_path: Path) -> list[Path]:
    """Files of a small synthetic CT: 12 slices of 64 x 72, 3 x 0.8 x 0.6 mm."""
    return save_series(make_series(body_phantom()), tmp_path / "ct")
