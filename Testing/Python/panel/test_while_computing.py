"""Cancel, a kill and a closed scene while the model really computes, and a process that it has started with it."""

import os
import signal

import pytest
from shell.steps import SLOW_S, find_and_load, picture, runner_of, segment, silent

from .slow_model import slow_models

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a launcher that is a shell script")


@pytest.fixture
def slow(tmp_path, monkeypatch):
    with slow_models(tmp_path / "slow", monkeypatch) as model:
        yield model


def computing(shell, slow):
    """Return the processes that compute, with the bar at the model's progress."""
    found = slow.computing(shell)
    bar = shell.ui.segmentProgressBar
    shell.wait_until(
        lambda: bar.format.startswith("segment") and bar.format.endswith("/10 slices"), SLOW_S, "the model's progress"
    )
    assert bar.isVisible()
    return found


def is_clean(shell, temporary) -> None:
    """See that nothing of the run is left, and that the panel can go on."""
    assert shell.ui.segmentationComboBox.nodeCount() == 0
    assert not shell.ui.segmentProgressBar.isVisible()
    assert not shell.ui.segmentCancelButton.isVisible()
    shell.wait_until(lambda: not list(temporary.rglob("aidicombridge-worker-*")), SLOW_S, "the end of its files")
    assert silent(shell) == []


def test_cancel_and_a_kill_end_the_model_and_what_it_started(shell, archive, slow, temporary):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    processes = computing(shell, slow)
    shell.click(shell.ui.segmentCancelButton)
    assert shell.ui.segmentStatusLabel.text == "Cancelled."
    processes.wait_for_end()
    is_clean(shell, temporary)

    shell.click(shell.ui.segmentButton)
    processes = computing(shell, slow)
    os.kill(processes.process_ids["model"], signal.SIGKILL)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S, "the failure")
    assert "background process ended" in shell.ui.segmentStatusLabel.text
    assert not shell.ui.segmentDetails.isVisible()
    shell.click(shell.ui.segmentDetailsButton)
    assert "WorkerError" in shell.ui.segmentDetails.plainText
    picture(shell, "6-failure")
    processes.wait_for_end()
    is_clean(shell, temporary)

    slow.be_quick()
    assert segment(shell) is not None
    assert not shell.ui.segmentDetailsButton.isVisible()


def test_a_closed_scene_ends_the_model_and_what_it_started(shell, archive, slow, temporary):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    processes = computing(shell, slow)
    shell.scene.Clear(0)
    processes.wait_for_end()
    shell.process()
    is_clean(shell, temporary)
    assert shell.ui.volumeComboBox.nodeCount() == 0
