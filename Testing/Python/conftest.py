"""Fixtures shared by all tests."""

import socket
from pathlib import Path

import pytest
from synthetic import body_phantom, make_series, save_series

PANEL = Path(__file__).with_name("panel")


def panel_alone(config: pytest.Config) -> bool:
    """Return whether only tests of the panel were asked for."""
    asked = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    return bool(asked) and all(path.is_relative_to(PANEL) for path in asked)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep the panel's tests out of a process with others: they alter PySide6 for good."""
    return True if collection_path == PANEL and not panel_alone(config) else None


def pytest_report_header(config: pytest.Config) -> str | None:
    return None if panel_alone(config) else "the panel has a run of its own: python -m pytest Testing/Python/panel"


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


@pytest.fixture(params=["fast", "ordinary"])
def dimse_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which DIMSE data sets travel: straight between socket and file, and through pynetdicom."""
    if request.param == "ordinary":
        monkeypatch.setenv("AIDICOMBRIDGE_ORDINARY_DIMSE", "1")
    return request.param
