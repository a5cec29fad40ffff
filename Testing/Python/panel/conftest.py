"""Tests of the panel in the look-alike window. They run in a process of their own: ``pytest Testing/Python/panel``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core

if TYPE_CHECKING:
    from shell.window import Window


@pytest.fixture
def shell() -> Iterator["Window"]:
    """The panel in a window; whatever went wrong in a slot fails the test at its end."""
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed")
    from shell.window import open_window

    with open_window() as window:
        yield window
