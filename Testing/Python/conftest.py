"""Fixtures shared by all tests."""

import socket
from pathlib import Path

import pytest
from synthetic import body_phantom, make_series, save_series


@pytest.fixture
def ct_files(tmp_path: Path) -> list[Path]:
    """Files of a small synthetic CT: 12 slices of 64 x 72, 3 x 0.8 x 0.6 mm."""
    return save_series(make_series(body_phantom()), tmp_path / "ct")


@pytest.fixture
def unused_port() -> int:
    """A loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
