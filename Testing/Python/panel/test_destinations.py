"""Stage 4 by clicks: what an archive can show is what it gets; what waits goes elsewhere, or away, when asked to."""

from dataclasses import replace

import pytest
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from shell.steps import (
    NAME,
    PATIENT_ID,
    SLOW_S,
    add_endpoint,
    find_and_load,
    modalities,
    runner_of,
    segment,
    send,
)

LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


def ticked(shell) -> list[str]:
    ui = shell.ui
    return [box.text for box in (ui.segCheckBox, ui.srCheckBox, ui.scCheckBox) if box.checked]


def test_the_destinations_profile_decides_what_is_made_and_a_person_may_overrule_it(shell, archive):
    import slicer
    from AIDicomBridgeLib.panel.saved_endpoints import SavedEndpoints

    SavedEndpoints(slicer.app.userSettings()).save(replace(archive.endpoint, name="Viewer", profile="ohif"))
    find_and_load(shell, archive)
    segment(shell)
    shell.choose(shell.ui.destinationComboBox, "Archive")
    assert shell.ui.profileComboBox.currentText == "any archive"
    assert ticked(shell) == ["Segmentation", "Measurements", "Pictures"]
    shell.choose(shell.ui.destinationComboBox, "Viewer")
    assert shell.ui.profileComboBox.currentText == "ohif"
    assert ticked(shell) == ["Segmentation", "Measurements"]
    shell.click(shell.ui.srCheckBox)
    shell.click(shell.ui.sendButton)
    assert "LABELMAP" in shell.ui.confirmLabel.text
    assert "Measurements" not in shell.ui.confirmLabel.text
    send(shell)
    results = [i.attributes["SOPClassUID"] for i in archive.store.instances() if i.attributes["Modality"] != "CT"]
    assert results == [LABELMAP_STORAGE]
    shell.choose(shell.ui.profileComboBox, "slicer")
    assert ticked(shell) == ["Segmentation", "Measurements"]
    assert "RLE" in shell.ui.profileComboBox.toolTip


@pytest.fixture
def down(archive, tmp_path):
    """The address of an archive that has gone."""
    with InstanceStore(tmp_path / "gone") as store, Archive(store) as gone:
        return gone.endpoint


@pytest.fixture
def waiting(shell, archive, down):
    """The panel with a segmentation and a report that wait for an archive that does not answer."""
    find_and_load(shell, archive)
    segment(shell)
    add_endpoint(shell, down, "Down")
    shell.choose(shell.ui.destinationComboBox, "Down")
    shell.click(shell.ui.scCheckBox)
    send(shell)
    assert shell.ui.outboxTable.rowCount == 2
    return shell


def test_what_waits_is_sent_elsewhere_once_patient_and_destination_are_confirmed(waiting, archive):
    shell = waiting
    shell.choose(shell.ui.destinationComboBox, "Archive")
    shell.click(shell.ui.redirectButton)
    shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
    question = shell.ui.confirmLabel.text
    assert all(text in question for text in (NAME, PATIENT_ID, "Synthetic study", "2 objects", "Down", "Archive"))
    assert set(modalities(archive)) == {"CT"}
    shell.click(shell.ui.declineButton)
    assert set(modalities(archive)) == {"CT"}
    shell.click(shell.ui.redirectButton)
    shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert shell.ui.sendStatusLabel.text == "2 objects have arrived; the outbox is empty."
    assert set(modalities(archive)) == {"CT", "SEG", "SR"}
    assert not shell.ui.outboxGroupBox.isVisible()


def test_what_is_selected_is_removed_once_confirmed(waiting, tmp_path):
    shell = waiting
    shell.click_item(shell.ui.outboxTable, "SR")
    shell.click(shell.ui.discardButton)
    assert "Objects to throw away: 1." in shell.ui.confirmLabel.text
    shell.click(shell.ui.declineButton)
    assert shell.ui.outboxTable.rowCount == 2
    shell.click(shell.ui.discardButton)
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert [text for text in shell.texts(shell.ui.outboxTable) if text in ("SEG", "SR")] == ["SEG"]
    assert len(list((tmp_path / "home" / "outbox" / "objects").iterdir())) == 1
