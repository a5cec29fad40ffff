"""The whole loop by clicks with a trained network and a hospital's archive: what comes back is the edited node."""

import re

import numpy as np
import pytest
from AIDicomBridgeLib import connect, read_segmentation
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.source_series import SourceSeries
from shell.steps import SLOW_S, add_endpoint, find, load, paint, runner_of, segment, send, volumes, voxels_of
from synthetic import body_phantom, make_series, save_series


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """MindGrab's weights, fetched by the first test that presses the button."""
    return tmp_path_factory.mktemp("weights")


def fetch_weights(shell, weights, home) -> None:
    """Press Fetch weights; a second test takes over what the first has fetched, as a second session would."""
    home.mkdir(parents=True, exist_ok=True)
    for path in weights.iterdir():
        (home / path.name).write_bytes(path.read_bytes())
    shell.choose(shell.ui.modelComboBox, "mindgrab")
    if not shell.ui.fetchWeightsButton.isEnabled():
        return
    shell.click(shell.ui.fetchWeightsButton)
    shell.wait_until(lambda: not runner_of(shell).busy, 3 * SLOW_S)
    if "cannot be downloaded" in shell.ui.segmentStatusLabel.text:
        pytest.skip(f"MindGrab's weights: {shell.ui.segmentStatusLabel.text}")
    for path in home.iterdir():
        (weights / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("protocol", ["dimse", "dicomweb"])
def test_find_load_segment_edit_send_verify(shell, clinic, series, tmp_path, weights, protocol):
    endpoint = getattr(clinic, protocol)
    add_endpoint(shell, endpoint, "Clinic")
    find(shell)
    load(shell)
    fetch_weights(shell, weights, tmp_path / "home" / "weights")
    assert "on this machine" in shell.ui.weightsLabel.text
    node = segment(shell)
    assert list(volumes(shell)) == ["Brain"]
    before = volumes(shell)["Brain"]
    paint(shell, "Brain")
    shell.wait_until(lambda: volumes(shell)["Brain"] > before, what="a recount after the edit")
    shell.click(shell.ui.scCheckBox)
    send(shell)
    assert "All 2 objects have arrived at Clinic" in shell.ui.sendStatusLabel.text
    assert [text for text in shell.texts(shell.ui.resultsTable) if "arrived" in text] == ["arrived, unchanged"] * 2
    with connect(endpoint) as client, InstanceStore(tmp_path / "back") as store:
        (study,) = client.find_studies(accession_number="SYN0001")
        (found,) = [one for one in client.find_series(study.study_uid) if one.modality == "SEG"]
        client.retrieve(study.study_uid, found.series_uid, into=store).raise_if_incomplete()
        (sent,) = store.instances()
        labels = read_segmentation(sent.path, SourceSeries.from_files(series))
    (brain,) = labels.segments
    assert brain.algorithm_type == "SEMIAUTOMATIC"
    np.testing.assert_array_equal(labels.labels == brain.label, voxels_of(node)["Brain"])


def test_another_body_part_is_run_only_on_a_persons_word(shell, tmp_path, weights):
    datasets = make_series(body_phantom((8, 40, 48)))
    for dataset in datasets:
        dataset.BodyPartExamined = "CHEST"
    chest = shell.logic.loadSeries(save_series(datasets, tmp_path / "chest"))
    shell.choose(shell.ui.volumeComboBox, chest.GetName())
    fetch_weights(shell, weights, tmp_path / "home" / "weights")
    shell.click(shell.ui.planButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert re.fullmatch(r"cpu, \w+, about [\d.]+ [MG]B of [\d.]+ GB free", shell.ui.planLabel.text)
    assert shell.ui.segmentationComboBox.nodeCount() == 0
    assert not shell.ui.anyBodyPartCheckBox.isVisible()
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "the series says CHEST" in shell.ui.segmentStatusLabel.text
    assert "tick 'Run on this body part all the same'" in shell.ui.segmentStatusLabel.text
    assert not shell.ui.anyBodyPartCheckBox.checked
    shell.click(shell.ui.anyBodyPartCheckBox)
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert shell.ui.segmentStatusLabel.text.startswith("Done")
    shell.choose(shell.ui.modelComboBox, "ct-tissues")
    assert not shell.ui.anyBodyPartCheckBox.isVisible()
    assert shell.ui.planLabel.text == "worked out when the model is run"


def test_weights_come_from_a_file_where_there_is_no_network(shell, tmp_path, weights):
    import qt

    fetch_weights(shell, weights, tmp_path / "home" / "weights")
    (fetched,) = weights.iterdir()
    (tmp_path / "home" / "weights" / fetched.name).unlink()
    (tmp_path / "wrong").write_bytes(b"something else")
    shell.choose(shell.ui.modelComboBox, "ct-tissues")
    shell.choose(shell.ui.modelComboBox, "mindgrab")
    for path, sentence in (
        (tmp_path / "wrong", "is not the one that the card names"),
        (fetched, "The weights are here"),
    ):
        shell.click(shell.ui.weightsFileButton)
        dialog = shell.widget.panel.segment.file_dialog
        shell.type(dialog.findChild(qt.QLineEdit, "fileNameEdit"), str(path), enter=True)
        shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
        assert sentence in shell.ui.segmentStatusLabel.text
    assert not shell.ui.weightsFileButton.isEnabled()
