"""The module while another one is open, and what it tests of itself; the lifecycle calls are Slicer's."""

import sqlite3
import sys
from contextlib import closing

import pytest
from AIDicomBridgeLib.delivery.outbox import Outbox
from shell.steps import SLOW_S, runner_of


@pytest.mark.parametrize("name", ["test_worker", "test_panel_runner"])
def test_the_self_tests_of_worker_and_panel_pass(shell, name):
    result = sys.modules["AIDicomBridge"].AIDicomBridgeTest(name).run()
    assert result.wasSuccessful(), result.failures + result.errors
    assert not result.skipped


def test_nothing_starts_by_itself_while_another_module_is_open(shell, series):
    import slicer

    database = slicer.dicomDatabase
    database.prepareInsert()
    for path in series:
        database.insert(str(path))
    foreign = shell.logic.loadSeries(series)
    shell.logic.sourceFiles.__init__()  # as if Slicer's DICOM module had loaded it
    panel = slicer.modules.aidicombridge.widgetRepresentation()
    panel.exit()
    shell.ui.volumeComboBox.setCurrentNode(foreign)
    shell.process()
    assert not runner_of(shell).busy
    assert runner_of(shell).worker._child is None
    panel.enter()
    shell.wait_until(lambda: "Of which patient it is" not in shell.ui.volumePatientLabel.text, SLOW_S, "its source")


def test_the_parameter_node_is_left_alone_while_another_module_is_open(shell):
    import slicer

    panel = slicer.modules.aidicombridge.widgetRepresentation()
    panel.exit()
    shell.scene.Clear(0)
    shell.process()
    assert shell.widget._parameterNode is None
    panel.enter()
    assert shell.widget._parameterNode is not None


def test_opening_the_module_after_its_cleanup_does_nothing(shell):
    shell.widget.cleanup()
    shell.widget.enter()


def test_a_look_into_the_outbox_that_takes_long_can_be_cancelled(shell, tmp_path):
    """Another process writes to the outbox, which may last."""
    outbox = tmp_path / "home" / "outbox"
    assert Outbox(outbox).deliveries() == []
    with closing(sqlite3.connect(outbox / "journal.sqlite", isolation_level=None)) as journal:
        journal.execute("BEGIN EXCLUSIVE")
        shell.widget.enter()
        shell.process()
        assert runner_of(shell).busy
        assert shell.ui.sendProgressBar.isVisible()
        shell.click(shell.ui.sendCancelButton)
        assert not runner_of(shell).busy
        assert "outbox was not found out" in shell.ui.sendStatusLabel.text
        assert not shell.ui.sendCancelButton.isVisible()
    shell.widget.enter()
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S, "the list of the outbox")
