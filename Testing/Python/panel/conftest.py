"""Tests of the panel in the look-alike window. They run in a process of their own: ``pytest Testing/Python/panel``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core

if TYPE_CHECKING:
    from shell.window import Window


@pytest.fixture(autouse=True)
def _packages_of_the_shell() -> None:
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    # Without its system libraries (libEGL, libxkbcommon and others) it is there and cannot be imported.
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)


@pytest.fixture
def shell(_packages_of_the_shell: None) -> Iterator["Window"]:
    """The panel in a window; whatever went wrong in a slot fails the test at its end."""
    from shell.window import open_window

    with open_window() as window:
        yield window
