"""Cancel by a click, at peers that never answer: nothing is left half-done, and the panel is ready again."""

from pathlib import Path

import pytest
from peers.fault_pacs import DimseFaults, faulty_pacs
from pydicom import dcmread
from shell.steps import (
    SLOW_S,
    add_endpoint,
    child_of,
    find,
    find_and_load,
    is_running,
    load,
    modalities,
    runner_of,
    segment,
    silent,
)


@pytest.fixture
def silent_pacs(series):
    """A PACS that holds the CT, takes requests, and answers neither a C-GET nor a C-STORE."""
    faults = DimseFaults(silent_get=True, silent_store=True)
    with faulty_pacs([dcmread(path) for path in series], faults) as peer:
        yield peer


def cancelled(shell, stage: str, temporary: Path) -> None:
    """Press a stage's Cancel, and see that worker, bar and temporary files are gone and no button is silent."""
    child = child_of(shell)
    shell.click(getattr(shell.ui, f"{stage}CancelButton"))
    assert getattr(shell.ui, f"{stage}StatusLabel").text == "Cancelled."
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S, "the panel at rest, the outbox listed")
    assert not getattr(shell.ui, f"{stage}ProgressBar").isVisible()
    shell.wait_until(lambda: not is_running(child), what="the end of the worker")
    assert silent(shell) == []
    # One worker's folder at most: that of a new worker, which lists the outbox.
    assert len(list(temporary.rglob("aidicombridge-worker-*"))) <= 1
    assert [path for path in temporary.rglob("*") if path.name.startswith((".part-", "results"))] == []


def test_during_a_retrieve(shell, silent_pacs, archive, temporary):
    add_endpoint(shell, silent_pacs.endpoint, "Silent")
    find(shell)
    shell.click(shell.ui.loadButton)
    shell.wait_until(lambda: silent_pacs.get_requests, SLOW_S, "the request at the PACS")
    cancelled(shell, "load", temporary)
    assert shell.ui.volumeComboBox.nodeCount() == 0
    add_endpoint(shell, archive.endpoint)
    find(shell)
    load(shell)


def test_during_a_send_the_objects_wait_and_go_elsewhere(shell, silent_pacs, archive, temporary):
    find_and_load(shell, archive)
    segment(shell)
    add_endpoint(shell, silent_pacs.endpoint, "Silent")
    shell.choose(shell.ui.destinationComboBox, "Silent")
    shell.click(shell.ui.scCheckBox)
    shell.click(shell.ui.sendButton)
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: silent_pacs.store_requests, SLOW_S, "the first object at the PACS")
    assert "stays in the archive" in shell.ui.sendCancelButton.toolTip
    cancelled(shell, "send", temporary)
    assert shell.ui.outboxTable.rowCount == 2
    assert "Cancelled. 2 objects wait in the outbox; remove them there" in shell.ui.sendStatusLabel.text
    assert [text for text in shell.texts(shell.ui.resultsTable) if "made" in text or "broken" in text] == [
        "broken off: look in the outbox"
    ] * 2
    shell.choose(shell.ui.destinationComboBox, "Archive")
    shell.click(shell.ui.redirectButton)
    shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert set(modalities(archive)) == {"CT", "SEG", "SR"}
    assert not shell.ui.outboxGroupBox.isVisible()


def test_the_scene_is_closed_during_a_send(shell, silent_pacs, archive):
    find_and_load(shell, archive)
    segment(shell)
    add_endpoint(shell, silent_pacs.endpoint, "Silent")
    shell.choose(shell.ui.destinationComboBox, "Silent")
    shell.click(shell.ui.sendButton)
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: silent_pacs.store_requests, SLOW_S, "the first object at the PACS")
    child = child_of(shell)
    shell.scene.Clear(0)
    shell.wait_until(lambda: not is_running(child), what="the end of the worker")
    assert not shell.ui.confirmGroupBox.isVisible()
    shell.wait_until(lambda: shell.ui.outboxTable.rowCount > 0, SLOW_S, "the list of the outbox")
    assert "wait in the outbox; remove them there" in shell.ui.sendStatusLabel.text
    shell.wait_until(shell.ui.loadButton.isEnabled, SLOW_S)
    load(shell)
    assert segment(shell) is not None


def test_the_whole_loop_can_be_cancelled_anywhere(shell, silent_pacs, archive, temporary):
    add_endpoint(shell, silent_pacs.endpoint, "Silent")
    find(shell)
    shell.click(shell.ui.runAllButton)
    shell.wait_until(lambda: silent_pacs.get_requests, SLOW_S, "the request at the PACS")
    cancelled(shell, "load", temporary)
    assert shell.ui.volumeComboBox.nodeCount() == 0
    add_endpoint(shell, archive.endpoint)
    find(shell)
    shell.click(shell.ui.runAllButton)
    shell.wait_until(shell.ui.segmentCancelButton.isVisible, SLOW_S, "the model's turn")
    cancelled(shell, "segment", temporary)
    assert shell.ui.segmentationComboBox.nodeCount() == 0
    assert not shell.ui.confirmGroupBox.isVisible()
    shell.click(shell.ui.runAllButton)
    shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
    assert set(modalities(archive)) == {"CT"}
