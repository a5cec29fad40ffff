"""Stage 4 by clicks: what is confirmed is sent, nothing else."""

from pathlib import Path

from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import dcmread
from shell.steps import (
    NAME,
    PATIENT_ID,
    SLOW_S,
    add_endpoint,
    find_and_load,
    modalities,
    picture,
    runner_of,
    segment,
    send,
)
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
    shell.click(shell.ui.sendButton)
    assert not shell.ui.confirmGroupBox.isVisible()
    assert set(modalities(archive)) == {"CT"}


def test_a_hand_drawn_segmentation_that_became_another_patients_is_not_what_was_confirmed(shell, archive, tmp_path):
    find_and_load(shell, archive)
    node = segment(shell)
    node.RemoveAttribute("AIDicomBridge.Source")  # as in a segmentation that a person began
    for index in range(node.GetSegmentation().GetNumberOfSegments()):
        node.GetSegmentation().GetNthSegment(index).RemoveTag("AIDicomBridge.Source")
    other = shell.logic.loadSeries(save_series(make_series(body_phantom((10, 64, 72))), tmp_path / "other"))
    shell.click(shell.ui.sendButton)
    node.SetReferenceImageGeometryParameterFromVolumeNode(other)
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "no longer what was confirmed" in shell.ui.sendStatusLabel.text
    assert set(modalities(archive)) == {"CT"}


def rewrite_database(archive, **attributes: str) -> None:
    """Change the files in Slicer's DICOM database, under the same UIDs, as a correction or an import over them does."""
    import slicer

    for instance in archive.store.instances():
        path = Path(slicer.dicomDatabase.fileForInstance(instance.sop_instance_uid))
        dataset = dcmread(path)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def test_images_that_became_another_patients_after_loading_are_not_sent(shell, archive, tmp_path):
    find_and_load(shell, archive)
    segment(shell)
    rewrite_database(archive, PatientName="Somebody^Else", PatientID="OTHER-1")
    shell.click(shell.ui.sendButton)
    assert not shell.ui.confirmGroupBox.isVisible()
    said = shell.ui.sendStatusLabel.text
    assert "not of the patient and study that they were loaded as" in said
    assert "PatientName, PatientID" in said
    assert "Somebody" not in said
    assert set(modalities(archive)) == {"CT"}
    assert not (tmp_path / "home" / "outbox").exists(), "not even put into the outbox"


def test_images_that_are_another_patients_now_are_so_once_they_are_chosen_again(shell, archive, tmp_path):
    find_and_load(shell, archive)
    segment(shell)
    name = shell.ui.volumeComboBox.currentNode().GetName()
    other = shell.logic.loadSeries(save_series(make_series(body_phantom((3, 16, 16))), tmp_path / "other"))
    rewrite_database(archive, PatientName="Corrected^Name")
    for chosen in (other.GetName(), name):
        shell.choose(shell.ui.volumeComboBox, chosen)
        shell.wait_until(shell.ui.sendButton.isEnabled, SLOW_S)
    shell.click(shell.ui.sendButton)
    assert "Patient: Corrected^Name" in shell.ui.confirmLabel.text
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "have arrived" in shell.ui.sendStatusLabel.text


def test_images_that_became_another_studys_after_loading_are_not_segmented(shell, archive):
    find_and_load(shell, archive)
    rewrite_database(archive, AccessionNumber="OTHER-2")
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "they have another AccessionNumber" in shell.ui.segmentStatusLabel.text
    assert shell.ui.segmentationComboBox.nodeCount() == 0


def test_what_was_drawn_on_a_volume_that_was_moved_is_not_sent(shell, archive):
    find_and_load(shell, archive)
    segment(shell)
    volume_node = shell.ui.volumeComboBox.currentNode()
    *in_plane, s = volume_node.GetOrigin()
    moved = (*in_plane, s + volume_node.GetSpacing()[2])
    volume_node.SetOrigin(*moved)
    shell.click(shell.ui.sendButton)
    assert not shell.ui.confirmGroupBox.isVisible()
    assert "volume node was moved or turned" in shell.ui.sendStatusLabel.text
    volume_node.SetOrigin(*in_plane, s)
    shell.click(shell.ui.sendButton)
    assert shell.ui.confirmGroupBox.isVisible()
    volume_node.SetOrigin(*moved)
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "volume node was moved or turned" in shell.ui.sendStatusLabel.text
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
            shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
            question = shell.ui.confirmLabel.text
            assert all(text in question for text in (NAME, PATIENT_ID, "Synthetic study", "SYN0001", "Down"))
            assert str(endpoint.port) in question
            shell.click(shell.ui.declineButton)
            assert len(store) == 0, "what was declined, or cancelled before, does not go out"
            shell.click(shell.ui.retryButton)
            shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
            shell.click(shell.ui.confirmButton)
            shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
        assert "the outbox is empty" in shell.ui.sendStatusLabel.text
        assert len(store) == 2


def test_warnings_of_the_results_own_checks_are_shown(shell):
    from AIDicomBridgeLib.worker.messages import ResultFile

    result = ResultFile("seg", "1.2.3", Path("seg-001.dcm"), ("SegmentSequence[2]: It is odd.", "Another."))
    shell.widget.panel.send._show_results([result], None)
    assert "made and checked; warnings: 2" in shell.texts(shell.ui.resultsTable)
    assert "It is odd." in shell.ui.resultsTable.item(0, 1).toolTip()
