"""All stages by clicks: from the archive and back to it."""

import numpy as np
import pytest
from AIDicomBridgeLib import connect, read_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from shell.steps import (
    NAME,
    PATIENT_ID,
    SLOW_S,
    add_endpoint,
    find,
    load,
    modalities,
    paint,
    segment,
    send,
    volumes,
    voxels_of,
)


def test_the_whole_loop_with_an_edit_between(shell, archive, series):
    add_endpoint(shell, archive.endpoint)
    shell.click(shell.ui.testEndpointButton)
    shell.wait_until(lambda: "Archive answers" in shell.ui.findStatusLabel.text, SLOW_S)
    find(shell)
    patient, *found = shell.texts(shell.ui.studyTree)
    assert patient == f"{NAME} ({PATIENT_ID})"
    assert found[:8] == ["CT", 1, 10, "Synthetic study", "2026-01-02", "CT", 1, 10]
    load(shell)
    node = segment(shell)
    assert list(volumes(shell)) == ["Air in the body", "Fat", "Muscle", "Bone"]
    before = volumes(shell)["Bone"]
    paint(shell, "Bone")
    shell.wait_until(lambda: volumes(shell)["Bone"] > before, what="a recount after the edit")
    shell.click(shell.ui.sendButton)
    question = shell.ui.confirmLabel.text
    assert all(text in question for text in (NAME, PATIENT_ID, "Synthetic study", "2026-01-02", "SYN0001", "Archive"))
    send(shell)
    assert "have arrived at Archive" in shell.ui.sendStatusLabel.text
    assert not shell.ui.outboxGroupBox.isVisible()
    assert set(modalities(archive)) == {"CT", "SEG", "SR", "OT"}
    (sent,) = [i.path for i in archive.store.instances() if i.attributes["Modality"] == "SEG"]
    labels = read_segmentation(sent, SourceSeries.from_files(series))
    for found in labels.segments:
        np.testing.assert_array_equal(labels.labels == found.label, voxels_of(node)[found.name])
    outcomes = {text for text in shell.texts(shell.ui.resultsTable) if "arrived" in text}
    assert outcomes == {"arrived, unchanged"}


@pytest.mark.parametrize("protocol", ["dimse", "dicomweb"])
def test_the_whole_loop_with_orthanc(shell, clinic, protocol):
    endpoint = getattr(clinic, protocol)
    add_endpoint(shell, endpoint, "Clinic")
    find(shell)
    load(shell)
    segment(shell)
    shell.click(shell.ui.scCheckBox)
    send(shell)
    assert "All 2 objects have arrived at Clinic" in shell.ui.sendStatusLabel.text
    with connect(endpoint) as client:
        (study,) = client.find_studies(accession_number="SYN0001")
        assert {found.modality for found in client.find_series(study.study_uid)} == {"CT", "SEG", "SR"}


def test_one_button_for_all_of_it_sends_nothing_unasked(shell, archive):
    add_endpoint(shell, archive.endpoint)
    find(shell)
    shell.click(shell.ui.runAllButton)
    shell.wait_until(shell.ui.confirmGroupBox.isVisible, SLOW_S, "the question")
    assert set(modalities(archive)) == {"CT"}
    shell.click(shell.ui.declineButton)
    assert not shell.ui.confirmGroupBox.isVisible()
    assert set(modalities(archive)) == {"CT"}
    shell.click(shell.ui.scCheckBox)
    send(shell)
    assert set(modalities(archive)) == {"CT", "SEG", "SR"}


def test_the_sample_series_can_be_segmented_and_sent(shell, archive):
    node = shell.logic.loadSampleSeries()
    shell.choose(shell.ui.volumeComboBox, node.GetName())
    add_endpoint(shell, archive.endpoint)
    segment(shell)
    shell.click(shell.ui.scCheckBox)
    send(shell)
    assert "have arrived" in shell.ui.sendStatusLabel.text
