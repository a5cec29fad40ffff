"""Stage 2 by clicks: series become volumes, and volumes of the scene are taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from AIDicomBridgeLib.errors import UnreachableError
from AIDicomBridgeLib.mrml import source_files
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import dcmread
from shell.steps import NAME, PATIENT_ID, SLOW_S, add_endpoint, find, find_and_load, load, runner_of, segment
from synthetic import body_phantom, make_series, save_series


def database():
    import slicer

    return slicer.dicomDatabase


def own_copies(temporary: Path) -> list[Path]:
    """Return the retrieved files that the panel itself keeps."""
    return list(temporary.glob("aidicombridge-*/retrieved/**/*.dcm"))


def uids(files) -> list[str]:
    return [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files]


def press_load(shell) -> None:
    shell.click(shell.ui.loadButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)


def test_what_was_retrieved_is_filed_in_slicers_database(shell, archive, series, temporary):
    find_and_load(shell, archive)
    assert "10 images by C-GET" in shell.ui.loadStatusLabel.text
    assert "are in Slicer's DICOM database" in shell.ui.loadStatusLabel.text
    filed = [dcmread(database().fileForInstance(uid)) for uid in uids(series)]
    assert filed == [dcmread(path) for path in series]
    assert database().updates >= 1, "else Slicer's browser does not show them"
    assert own_copies(temporary) == []
    whose = shell.ui.volumePatientLabel.text
    assert all(text in whose for text in (NAME, PATIENT_ID, "Synthetic study", "2026-01-02"))
    assert segment(shell) is not None
    shell.scene.Clear(0)
    assert shell.ui.volumePatientLabel.text == ""


def test_files_of_the_panels_own_go_with_the_scene(shell, archive, temporary):
    database().isOpen = False
    find_and_load(shell, archive)
    assert len(own_copies(temporary)) == 10
    shell.scene.Clear(0)
    assert own_copies(temporary) == []


def test_what_slicers_database_has_is_never_altered(shell, archive, series, tmp_path, temporary):
    changed = dcmread(series[3])
    changed.PatientComments, changed.PatientID = "corrected here", "CORRECTED"
    changed.save_as(tmp_path / "changed.dcm")
    database().prepareInsert()
    database().insert(str(tmp_path / "changed.dcm"))
    kept = Path(database().fileForInstance(str(changed.SOPInstanceUID)))
    before = kept.read_bytes()
    find_and_load(shell, archive)
    assert kept.read_bytes() == before
    assert "has 1 of the images from before and keeps those" in shell.ui.loadStatusLabel.text
    assert all(database().fileForInstance(uid) for uid in uids(series))
    assert len(own_copies(temporary)) == 10, "what was retrieved is what is loaded"
    assert segment(shell) is not None
    load(shell)
    assert database().inserted == 10, "nothing is filed twice"


def test_without_slicers_database_the_panel_keeps_the_files(shell, archive, temporary):
    database().isOpen = False
    find_and_load(shell, archive)
    assert "database is not open" in shell.ui.loadStatusLabel.text
    assert len(own_copies(temporary)) == 10
    assert segment(shell) is not None


def test_a_database_that_takes_nothing_loses_nothing(shell, archive, temporary):
    with mock.patch.object(database(), "insert"):
        find_and_load(shell, archive)
    assert "database did not take them" in shell.ui.loadStatusLabel.text
    assert len(own_copies(temporary)) == 10
    assert segment(shell) is not None


def test_cancel_while_files_are_filed_leaves_no_part_of_a_series(shell, archive, monkeypatch):
    monkeypatch.setattr("AIDicomBridgeLib.panel.task_runner.BITE_S", 0)
    add_endpoint(shell, archive.endpoint)
    find(shell)
    series_uid = archive.store.instances()[0].series_uid
    shell.click(shell.ui.loadButton)
    shell.wait_until(lambda: database().inserted >= 3, SLOW_S)
    assert 0 < len(database().filesForSeries(series_uid)) < 10
    shell.click(shell.ui.loadCancelButton)
    assert database().filesForSeries(series_uid) == ()
    assert shell.ui.volumeComboBox.nodeCount() == 0
    assert shell.ui.loadStatusLabel.text == "Cancelled."
    assert shell.ui.loadButton.text == "Try again"
    load(shell)
    assert len(database().filesForSeries(series_uid)) == 10
    assert shell.ui.loadButton.text == "Retrieve and load"


def test_the_scene_is_closed_while_files_are_filed(shell, archive, monkeypatch):
    monkeypatch.setattr("AIDicomBridgeLib.panel.task_runner.BITE_S", 0)
    add_endpoint(shell, archive.endpoint)
    find(shell)
    shell.click(shell.ui.loadButton)
    shell.wait_until(lambda: database().inserted >= 3, SLOW_S)
    shell.scene.Clear(0)
    shell.process()
    assert not runner_of(shell).busy
    assert database().filesForSeries(archive.store.instances()[0].series_uid) == ()


def test_a_partial_retrieve_is_not_loaded_and_can_be_tried_again(shell, archive):
    add_endpoint(shell, archive.endpoint)
    find(shell)
    lost = archive.store.instances()[4].path
    away = lost.rename(lost.with_suffix(".away"))
    press_load(shell)
    assert "of 10 instances did not arrive" in shell.ui.loadStatusLabel.text
    assert shell.ui.loadDetailsButton.isVisible()
    assert shell.ui.volumeComboBox.nodeCount() == 0
    assert database().inserted == 0
    assert shell.ui.loadButton.text == "Try again"
    away.rename(lost)
    load(shell)
    assert "Complete: 10 images" in shell.ui.loadStatusLabel.text


@contextmanager
def archive_with_study(folder: Path, *descriptions: str) -> Iterator[Archive]:
    """An archive with a study of CT series; the slices of each "Gap" are unevenly spaced."""
    with InstanceStore(folder / "study") as store, Archive(store) as running:
        for number, description in enumerate(descriptions, start=1):
            datasets = make_series(body_phantom((5, 32, 32)), study_uid="1.2.3", series_number=number)
            if description == "Gap":
                datasets[2].ImagePositionPatient[2] += 1
            for dataset in datasets:
                dataset.SeriesDescription = description
            for path in save_series(datasets, folder / f"series-{number}"):
                store.add_file(path)
        yield running


@pytest.fixture
def study(tmp_path):
    with archive_with_study(tmp_path, "Head", "Chest", "Gap") as running:
        yield running


@pytest.fixture
def study_of_gaps(tmp_path):
    with archive_with_study(tmp_path, "Gap", "Gap", "Whole") as running:
        yield running


def choose_series(shell, running, *titles: str) -> None:
    add_endpoint(shell, running.endpoint)
    shell.type(shell.ui.accessionLineEdit, "SYN0001", enter=True)
    shell.wait_until(lambda: "Series in the study: 3" in shell.ui.findStatusLabel.text, SLOW_S)
    for number, title in enumerate(titles):
        shell.click_item(shell.ui.studyTree, title, extend=number > 0)


def test_after_a_lost_connection_only_what_is_missing_is_loaded_again(shell, study, monkeypatch):
    choose_series(shell, study, "1: Head", "2: Chest")
    stage, asked = shell.widget.panel.load, []
    one_series = stage._one_series

    def lose_the_second(found):
        asked.append(found.title)
        if len(asked) == 2:
            raise UnreachableError("the connection broke")
        return one_series(found)

    monkeypatch.setattr(stage, "_one_series", lose_the_second)
    press_load(shell)
    assert "connection broke" in shell.ui.loadStatusLabel.text
    assert shell.ui.loadButton.text == "Try again"
    press_load(shell)
    assert asked == [*asked[:2], asked[1]]
    assert shell.ui.volumeComboBox.nodeCount() == 2
    assert shell.ui.loadButton.text == "Retrieve and load"


def test_several_series_are_loaded_at_once(shell, study):
    choose_series(shell, study, "1: Head", "2: Chest")
    press_load(shell)
    nodes = [shell.ui.volumeComboBox.nodeFromIndex(row) for row in range(shell.ui.volumeComboBox.nodeCount())]
    assert sorted(node.GetName() for node in nodes) == ["CT: 1: Head", "CT: 2: Chest"]
    assert database().inserted == 10
    assert "Complete: 5 images" in shell.ui.loadStatusLabel.text
    assert "exactly one series, and 2" in shell.ui.runAllButton.toolTip
    shell.click_item(shell.ui.studyTree, "2: Chest")
    assert shell.ui.runAllButton.isEnabled()


def test_one_series_that_is_no_volume_does_not_keep_the_others_back(shell, study):
    choose_series(shell, study, "1: Head", "3: Gap")
    press_load(shell)
    assert [shell.ui.volumeComboBox.nodeFromIndex(row).GetName() for row in range(1)] == ["CT: 1: Head"]
    assert "1 of 2 series are loaded" in shell.ui.loadStatusLabel.text
    shell.click(shell.ui.loadDetailsButton)
    assert shell.ui.loadDetails.plainText.startswith("CT 3: Gap: ")
    shell.click(shell.ui.resampleCheckBox)
    press_load(shell)
    names = [shell.ui.volumeComboBox.nodeFromIndex(row).GetName() for row in range(2)]
    assert names == ["CT: 1: Head", "CT: 3: Gap (resampled)"], "the second time only what failed is tried"
    assert shell.ui.volumeComboBox.nodeCount() == 2


def test_several_series_that_are_no_volume_are_asked_about_one_after_the_other(shell, study_of_gaps, monkeypatch):
    choose_series(shell, study_of_gaps, "1: Gap", "2: Gap", "3: Whole")
    press_load(shell)
    assert "1 of 3 series are loaded" in shell.ui.loadStatusLabel.text
    monkeypatch.delattr(type(shell.widget.panel.load), "_retrieve")  # they are all here already
    asked = []
    for count in (2, 3):
        asked.append(shell.ui.resampleLabel.text.splitlines()[0])
        assert not shell.ui.resampleCheckBox.checked, "what was agreed to held for the other series"
        assert not shell.ui.loadButton.isEnabled()
        shell.click(shell.ui.resampleCheckBox)
        press_load(shell)
        assert shell.ui.volumeComboBox.nodeCount() == count
    assert sorted(asked) == ["Of CT 1: Gap:", "Of CT 2: Gap:"]
    assert not shell.ui.resampleLabel.isVisible()
    assert shell.ui.loadButton.text == "Retrieve and load"
    names = [shell.ui.volumeComboBox.nodeFromIndex(row).GetName() for row in range(3)]
    assert sorted(names) == ["CT: 1: Gap (resampled)", "CT: 2: Gap (resampled)", "CT: 3: Whole"]


def test_a_volume_that_slicers_dicom_module_loaded(shell, archive, series):
    """Slicer's database is asked for the files of the node's instances, and the worker reads their headers."""
    add_endpoint(shell, archive.endpoint)
    database().prepareInsert()
    for path in series:
        database().insert(str(path))
    node = shell.logic.loadSeries(series)
    shell.logic.sourceFiles._known.clear()  # as if it had been loaded by another
    with mock.patch.object(source_files, "_read", side_effect=AssertionError("headers are read on the main thread")):
        shell.choose(shell.ui.volumeComboBox, node.GetName())
        shell.wait_until(shell.ui.segmentButton.isEnabled, SLOW_S)
        segment(shell)


def test_a_volume_whose_files_are_unknown_is_refused_in_place(shell, series):
    node = shell.logic.loadSeries(series)
    shell.logic.sourceFiles._known.clear()
    shell.choose(shell.ui.volumeComboBox, node.GetName())
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "not known here" in shell.ui.segmentStatusLabel.text


def test_a_volume_that_is_no_dicom_is_refused_in_place(shell):
    node = shell.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Drawn")
    shell.choose(shell.ui.volumeComboBox, node.GetName())
    shell.click(shell.ui.segmentButton)
    shell.process()
    assert "does not say which DICOM instances" in shell.ui.segmentStatusLabel.text
    assert not shell.dialogs.shown


def test_the_volume_is_removed_while_it_is_segmented(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    shell.scene.RemoveNode(shell.ui.volumeComboBox.currentNode())
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "removed from the scene" in shell.ui.segmentStatusLabel.text
    assert shell.ui.segmentationComboBox.nodeCount() == 0
