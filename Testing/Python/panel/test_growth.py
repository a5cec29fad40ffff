"""The panel through a long day: scenes are closed and opened, the module is reloaded, and nothing piles up."""

from pathlib import Path

import pytest

ROUNDS = 50
ROUNDS_THAT_COMPUTE = range(0, ROUNDS, 10)
RELOADS = 6
SLOW_S = 60.0


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="there is no /proc to count child processes in"
)


def observers(vtk_object) -> int:
    """Return how many observers an object has: VTK counts them nowhere, but lists them all when it is printed."""
    return str(vtk_object).count("vtkObserver (")


def children() -> set[int]:
    """Return the process IDs of this process's children."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def use(shell, ct_files, *, compute: bool) -> None:
    """Load a volume and choose it, and have the worker compute on it, or wait until it is at rest."""
    shell.choose(shell.ui.volumeComboBox, shell.logic.loadSeries(ct_files).GetName())
    shell.choose(shell.ui.modelComboBox, "ct-tissues")
    shell.wait_until(shell.ui.segmentButton.isEnabled, SLOW_S, "the end of what ran before")
    if compute:
        shell.click(shell.ui.segmentButton)
        assert shell.widget.panel.runner.busy


def close_scene(shell) -> tuple[int, int, int]:
    """Close the scene; return the number of its observers, of the parameter node's observers, and of its nodes."""
    shell.scene.Clear(0)
    shell.process()
    node = shell.logic.getParameterNode().parameterNode
    return observers(shell.scene), observers(node), shell.scene.GetNumberOfNodes()


def test_closing_the_scene_fifty_times_leaves_nothing(ct_files, temporary):
    from shell.window import open_window

    processes = children()
    with open_window() as shell:
        seen = []
        for round_number in range(ROUNDS):
            use(shell, ct_files, compute=round_number in ROUNDS_THAT_COMPUTE)
            seen.append(close_scene(shell))
            shell.wait_until(lambda: len(children() - processes) <= 1, what="one worker at most")
        assert set(seen) == {seen[0]}, "after every round as after the first"
        shell.widget.cleanup()
        assert observers(shell.scene) < seen[0][0], "the panel had observers, and took them with it"
    assert children() == processes
    assert list(temporary.iterdir()) == []


def test_reloading_the_module_leaves_nothing(ct_files, temporary):
    from shell.window import open_window

    processes = children()
    with open_window() as shell:
        seen = []
        for _ in range(RELOADS):
            use(shell, ct_files, compute=True)
            before = shell.widget
            shell.widget.onReload()
            assert shell.widget is not before
            shell.wait_until(lambda: len(children() - processes) <= 1, what="one worker at most")
            seen.append(close_scene(shell))
        assert set(seen) == {seen[0]}, "after every reload as after the first"
    assert children() == processes
    assert list(temporary.iterdir()) == []
