"""The panel through a long day: scenes are closed and opened, the module is reloaded, and nothing piles up."""

from pathlib import Path

import pytest
from synthetic import body_phantom, make_series, save_series

ROUNDS = 50
ROUNDS_THAT_COMPUTE = range(0, ROUNDS, 10)
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


def close_scene(shell) -> None:
    shell.scene.Clear(0)
    shell.wait_until(lambda: not shell.widget.panel.runner.worker.ending, SLOW_S, "the end of the worker")


def what_there_is(shell, temporary: Path) -> dict[str, int]:
    """Count everything that must not pile up."""
    import qt

    qt.QCoreApplication.sendPostedEvents(None, int(qt.QEvent.DeferredDelete))
    node = shell.logic.getParameterNode().parameterNode
    return {
        "observers of the scene": observers(shell.scene),
        "observers of the parameter node": observers(node),
        "sources": len(shell.logic.sourceFiles),
        "nodes": shell.scene.GetNumberOfNodes(),
        "widgets": len(qt.QApplication.allWidgets()),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "open files": len(list(Path("/proc/self/fd").iterdir())),
        "temporary files": len(list(temporary.rglob("*"))),
    }


def more_than_at_first(seen: list[dict[str, int]]) -> dict[str, list[int]]:
    """Return the counts that the last round has more of than the second: the first one may set things up."""
    return {name: [counts[name] for counts in seen] for name in seen[0] if seen[-1][name] > seen[1][name]}


def test_closing_the_scene_fifty_times_leaves_nothing(tmp_path, temporary):
    from shell.window import open_window

    processes = children()
    phantom = body_phantom((4, 20, 24))
    with open_window() as shell:
        seen = []
        for round_number in range(ROUNDS):
            files = save_series(make_series(phantom), tmp_path / str(round_number))  # another patient each time
            use(shell, files, compute=round_number in ROUNDS_THAT_COMPUTE)
            close_scene(shell)
            assert children() == processes, "the worker goes with the scene"
            seen.append(what_there_is(shell, temporary))
        assert more_than_at_first(seen) == {}
        assert seen[-1]["sources"] == 0
        shell.widget.cleanup()
        assert observers(shell.scene) < seen[0]["observers of the scene"], "the panel took its observers with it"
    assert list(temporary.iterdir()) == []


def test_dialogs_that_were_closed_are_gone(shell, temporary):
    from AIDicomBridgeLib.panel.terminology_dialog import TerminologyDialog

    seen = []
    for _ in range(5):
        dialog = TerminologyDialog(shell.ui.segmentsTable.window(), "", "")
        dialog.open()
        shell.click(dialog.cancel_button)
        dialog.close()
        seen.append(what_there_is(shell, temporary)["widgets"])
    assert len(set(seen)) == 1


def test_reloading_the_module_fifty_times_leaves_nothing(ct_files, temporary):
    from shell.window import open_window

    processes = children()
    with open_window() as shell:
        seen = []
        for round_number in range(ROUNDS):
            if round_number in ROUNDS_THAT_COMPUTE:
                use(shell, ct_files, compute=True)
            before = shell.widget
            shell.widget.onReload()
            assert shell.widget is not before
            close_scene(shell)
            assert children() == processes, "the worker goes with the module"
            seen.append(what_there_is(shell, temporary))
        assert more_than_at_first(seen) == {}
    assert list(temporary.iterdir()) == []
