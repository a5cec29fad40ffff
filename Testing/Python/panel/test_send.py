"""Stage 4 by clicks: what is confirmed is sent, nothing else."""

from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from shell.steps import SLOW_S, add_endpoint, find_and_load, modalities, picture, runner_of, segment, send
from synthetic import body_phantom, make_series, save_series


def test_a_confirmation_holds_only_for_what_was_shown(shell, archive):
    find_and_load(shell, archive)
    segment(shell)
    for change in (
        lambda: shell.click(shell.ui.srCheckBox),
        lambda: shell.choose(shell.ui.profileComboBox, "slicer"),
        lambda: shell.type(shell.ui.descriptionLineEdit, "checked by hand"),
        lambda: add_endpoint(shell, archive.endpoint, "Another name"),
    ):
        shell.click(shell.ui.sendButton)
        assert shell.ui.confirmGroupBox.isVisible()
        change()
        assert not shell.ui.confirmGroupBox.isVisible()


def test_what_was_confirmed_of_one_patient_is_not_sent_of_another(shell, archive, tmp_path):
    find_and_load(shell, archive)
    node = segment(shell)
    other = shell.logic.loadSeries(save_series(make_series(body_phantom((10, 64, 72))), tmp_path / "other"))
    shell.click(shell.ui.sendButton)
    node.SetReferenceImageGeometryParameterFromVolumeNode(other)
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "another series" in shell.ui.sendStatusLabel.text
    assert set(modalities(archive)) == {"CT"}


def test_a_segment_without_terminology_is_refused_by_name(shell, archive):
    find_and_load(shell, archive)
    node = segment(shell)
    node.GetSegmentation().AddEmptySegment("mine", "Doodle")
    shell.wait_until(lambda: "not said yet" in shell.texts(shell.ui.segmentsTable))
    shell.click(shell.ui.sendButton)
    assert not shell.ui.confirmGroupBox.isVisible()
    assert "'Doodle'" in shell.ui.sendStatusLabel.text
    assert "Choose what it is" in shell.ui.sendStatusLabel.text
    assert set(modalities(archive)) == {"CT"}


def test_what_cannot_be_sent_waits_in_the_outbox_and_goes_out_later(shell, archive, tmp_path):
    find_and_load(shell, archive)
    segment(shell)
    with InstanceStore(tmp_path / "other") as store:
        with Archive(store) as other:
            endpoint = other.endpoint
        add_endpoint(shell, endpoint, "Down")
        shell.choose(shell.ui.destinationComboBox, "Down")
        shell.click(shell.ui.scCheckBox)
        send(shell)
        assert "0 of 2 objects have arrived at Down" in shell.ui.sendStatusLabel.text
        assert shell.ui.outboxGroupBox.isVisible()
        assert shell.ui.outboxTable.rowCount == 2
        picture(shell, "7-outbox")
        with Archive(store, port=endpoint.port):
            shell.click(shell.ui.retryButton)
            shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
        assert "the outbox is empty" in shell.ui.sendStatusLabel.text
        assert len(store) == 2
