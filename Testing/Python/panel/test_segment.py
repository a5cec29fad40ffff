"""Stage 3 by clicks: models run, are cancelled, and survive a killed worker."""

import os
import signal
from unittest import mock

import numpy as np
from shell.beats import Beats
from shell.steps import SLOW_S, child_of, find_and_load, is_running, picture, runner_of, segment


def test_the_segment_editor_is_one_click_away(shell, archive, monkeypatch):
    import slicer

    assert "no segmentation yet" in shell.ui.editSegmentsButton.toolTip
    find_and_load(shell, archive)
    node = segment(shell)
    editor = mock.Mock()
    module = mock.Mock(**{"widgetRepresentation.return_value.self.return_value.editor": editor})
    monkeypatch.setattr(slicer.modules, "segmenteditor", module, raising=False)
    shell.click(shell.ui.editSegmentsButton)
    assert shell.selected_modules == ["SegmentEditor"]
    editor.setSegmentationNode.assert_called_once_with(node)
    editor.setSourceVolumeNode.assert_called_once_with(shell.ui.volumeComboBox.currentNode())


def test_cancel_during_inference_leaves_nothing_and_the_next_run_works(shell, archive):
    find_and_load(shell, archive)
    child = child_of(shell)
    shell.click(shell.ui.segmentButton)
    shell.click(shell.ui.segmentCancelButton)
    assert shell.ui.segmentStatusLabel.text == "Cancelled."
    assert shell.ui.segmentationComboBox.currentNode() is None
    assert not shell.ui.segmentCancelButton.isVisible()
    shell.wait_until(lambda: not is_running(child), what="the end of the worker")
    assert segment(shell) is not None


def test_a_killed_worker_is_one_sentence_and_the_next_run_works(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    os.kill(child_of(shell), signal.SIGKILL)
    shell.wait_until(lambda: "background process ended" in shell.ui.segmentStatusLabel.text, SLOW_S)
    assert shell.ui.segmentDetailsButton.isVisible()
    assert not shell.ui.segmentDetails.isVisible()
    shell.click(shell.ui.segmentDetailsButton)
    assert "WorkerError" in shell.ui.segmentDetails.plainText
    picture(shell, "6-failure")
    assert segment(shell) is not None
    assert not shell.ui.segmentDetailsButton.isVisible()


def test_the_window_stays_alive_while_the_worker_computes(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    while_waiting, others = Beats(runner_of(shell)).run_until_idle()
    print(f"gaps of a 20 ms timer: {np.median(while_waiting):.0f} ms at the median, {while_waiting.max():.0f} at most")  # noqa: T201
    print(f"then, putting the result into the scene: {others.max():.0f} ms")  # noqa: T201
    assert while_waiting.max() < 2000
