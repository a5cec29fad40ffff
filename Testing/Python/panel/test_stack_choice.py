"""Stage 2 by clicks, for a series that is no one regular volume: which stack, resampled or not; and PET as SUV."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import Job, read_segmentation, run_job
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.offered_stacks import OfferedStack
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset, dcmread
from shell.steps import SLOW_S, add_endpoint, find, load, picture, runner_of, segment, send, volumes
from synthetic import body_phantom, make_pet, make_series, save_series


@contextmanager
def archive_of(datasets: list[Dataset], folder: Path) -> Iterator[Archive]:
    with InstanceStore(folder / "archive") as store, Archive(store) as running:
        for path in save_series(datasets, folder / "series"):
            store.add_file(path)
        yield running


def two_echoes() -> list[Dataset]:
    first = make_series(body_phantom((6, 48, 56)))
    second = make_series(body_phantom((6, 48, 56)) + 5)
    for echo, datasets in ((1, first), (2, second)):
        for number, ds in enumerate(datasets):
            ds.EchoTime, ds.BodyPartExamined = str(10 * echo), "HEAD"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = first[0].StudyInstanceUID, first[0].SeriesInstanceUID
            ds.FrameOfReferenceUID, ds.InstanceNumber = first[0].FrameOfReferenceUID, 10 * echo + number
    return [*first, *second]


def with_a_gap() -> list[Dataset]:
    datasets = make_series(body_phantom((12, 48, 56)))
    for ds in datasets:
        ds.BodyPartExamined = "HEAD"
    return [*datasets[:6], *datasets[7:]]


def find_and_press_load(shell, running: Archive) -> None:
    add_endpoint(shell, running.endpoint)
    find(shell)
    press_load(shell)


def press_load(shell) -> None:
    shell.click(shell.ui.loadButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)


def sent(running: Archive, modality: str = "SEG") -> Dataset:
    (found,) = [i.path for i in running.store.instances() if i.attributes["Modality"] == modality]
    return dcmread(found)


def test_of_several_stacks_one_is_chosen_by_its_description(shell, tmp_path, monkeypatch):
    with archive_of(two_echoes(), tmp_path) as running:
        find_and_press_load(shell, running)
        assert "holds 2 stacks" in shell.ui.loadStatusLabel.text
        assert "Choose one at 'Stack' in stage 2." in shell.ui.loadStatusLabel.text
        assert shell.ui.volumeComboBox.nodeCount() == 0
        combo = shell.ui.stackComboBox
        assert combo.isVisible()
        assert not shell.ui.resampleCheckBox.isVisible()
        assert [combo.itemText(row) for row in range(combo.count)] == [
            "1: axial, 48 x 56, echo time 10 (6 slices)",
            "2: axial, 48 x 56, echo time 20 (6 slices)",
        ]
        assert combo.currentIndex == -1, "nobody chooses for the person"
        assert not shell.ui.loadButton.isEnabled()
        assert "Choose one of the stacks" in shell.ui.loadButton.toolTip
        monkeypatch.delattr(type(shell.widget.panel.load), "_retrieve")  # it is here already
        shell.choose(combo, "2: axial, 48 x 56, echo time 20 (6 slices)")
        load(shell)
        assert not combo.isVisible()
        import slicer

        voxels = slicer.util.arrayFromVolume(shell.ui.volumeComboBox.currentNode())
        assert (voxels == body_phantom((6, 48, 56)) + 5).all()
        segment(shell)
        send(shell)
        of_second = {str(ds.SOPInstanceUID) for ds in map(dcmread, sorted((tmp_path / "series").iterdir())[6:])}
        referenced = sent(running).ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {str(item.ReferencedSOPInstanceUID) for item in referenced} <= of_second


def test_a_series_with_a_gap_is_resampled_once_agreed_and_its_result_is_the_command_lines(shell, tmp_path):
    with archive_of(with_a_gap(), tmp_path) as running:
        find_and_press_load(shell, running)
        assert "Slices are missing" in shell.ui.loadStatusLabel.text
        assert "or tick 'Resample' in stage 2." in shell.ui.loadStatusLabel.text
        assert not shell.ui.stackComboBox.isVisible()
        assert shell.ui.resampleLabel.text.startswith("Slices are missing: most lie 3.000 mm apart")
        assert "they lie on the slices as they are" in shell.ui.resampleLabel.text
        assert not shell.ui.loadButton.isEnabled()
        assert "Tick 'Resample'" in shell.ui.loadButton.toolTip
        picture(shell, "10-resample")
        shell.click(shell.ui.resampleCheckBox)
        load(shell)
        assert "It is shown resampled: slices are missing" in shell.ui.loadStatusLabel.text
        assert not shell.ui.resampleCheckBox.isVisible()
        node = shell.ui.volumeComboBox.currentNode()
        assert node.GetName().endswith("(resampled)")
        assert node.GetImageData().GetDimensions()[2] == 12, "11 slices, and one where one is missing"
        assert segment(shell) is not None
        shell.wait_until(lambda: "Bone" in volumes(shell), SLOW_S, "the segments in the list")
        seen = list(volumes(shell).values())
        assert "as the measurement report states it" in shell.ui.segmentsTable.item(0, 2).toolTip()
        send(shell)
        assert "objects have arrived" in shell.ui.sendStatusLabel.text
        source = SourceSeries.from_files((tmp_path / "series").iterdir(), resample=True)
        found = read_segmentation(sent(running), source)
        headless = run_job(Job(source, "ct-tissues", outputs=("seg",)))
        np.testing.assert_array_equal(found.labels, headless.labels.labels)
        assert {segment.algorithm_type for segment in found.segments} == {"AUTOMATIC"}
        reported = read_measurement_report(sent(running, "SR"))
        assert seen == pytest.approx([group.value("Volume") for group in reported], abs=0.05)


def test_what_no_choice_can_mend_is_said_and_not_offered(shell):
    choice = shell.widget.panel.load.choice
    gap = "slices are missing: most lie 3.000 mm apart, the widest gap is 900.000 mm"
    wide = OfferedStack(1, "axial", 9, gap, problem="the series cannot be resampled")
    assert not choice.offer([wide])
    assert choice.offer([wide, OfferedStack(2, "coronal", 5)])
    shell.choose(shell.ui.stackComboBox, "1: axial (9 slices)")
    assert not shell.ui.resampleCheckBox.isVisible(), "an offer that cannot be kept"
    assert shell.ui.resampleLabel.text == "This stack is no volume: the series cannot be resampled."
    shell.choose(shell.ui.stackComboBox, "2: coronal (5 slices)")
    assert not shell.ui.resampleLabel.isVisible()
    assert not choice.missing


def test_the_question_goes_with_the_series_that_it_is_about(shell, tmp_path):
    with archive_of([*with_a_gap(), *make_series(body_phantom((5, 32, 32)), study_uid="1.2.3")], tmp_path) as running:
        add_endpoint(shell, running.endpoint)
        shell.type(shell.ui.accessionLineEdit, "SYN0001", enter=True)
        shell.wait_until(lambda: "Studies found: 2" in shell.ui.findStatusLabel.text, SLOW_S)
        shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
        tree = shell.ui.studyTree
        studies = [
            tree.topLevelItem(row).child(number)
            for row in range(tree.topLevelItemCount)
            for number in range(tree.topLevelItem(row).childCount())
        ]
        assert len(studies) == 2
        asked = []
        for study in studies:
            tree.setCurrentItem(study)
            shell.wait_until(shell.ui.loadButton.isEnabled, SLOW_S)
            press_load(shell)
            asked.append(shell.ui.resampleCheckBox.isVisible())
        assert sorted(asked) == [False, True]
        shell.scene.Clear(0)
        assert not shell.ui.resampleCheckBox.isVisible()


def test_a_volume_that_slicer_loaded_of_a_series_with_a_gap_is_loaded_anew(shell, tmp_path):
    import slicer

    paths = save_series(with_a_gap(), tmp_path / "series")
    database = slicer.dicomDatabase
    database.prepareInsert()
    for path in paths:
        database.insert(str(path))
    theirs = slicer.util.addVolumeFromArray(np.zeros((11, 48, 56), "int16"))
    theirs.SetName("Loaded by Slicer")
    uids = [str(dcmread(path).SOPInstanceUID) for path in paths]
    theirs.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    shell.choose(shell.ui.volumeComboBox, "Loaded by Slicer")
    shell.wait_until(shell.ui.resampleCheckBox.isVisible, SLOW_S)
    assert shell.ui.loadButton.text == "Load anew"
    shell.click(shell.ui.resampleCheckBox)
    shell.click(shell.ui.loadButton)
    shell.wait_until(lambda: shell.ui.volumeComboBox.currentNode() is not theirs, SLOW_S)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert shell.ui.volumeComboBox.currentNode().GetName().endswith("(resampled)")
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert shell.ui.segmentationComboBox.currentNode() is not None


def test_pet_that_slicer_loaded_is_loaded_anew_as_suv(shell, tmp_path):
    import slicer

    stored = np.arange(3 * 8 * 9, dtype=np.int16).reshape(3, 8, 9) * 50
    paths = save_series(make_pet(stored), tmp_path / "series")
    slicer.dicomDatabase.prepareInsert()
    for path in paths:
        slicer.dicomDatabase.insert(str(path))
    theirs = slicer.util.addVolumeFromArray(stored)
    theirs.SetName("Loaded by Slicer")
    theirs.SetAttribute("DICOM.instanceUIDs", " ".join(str(dcmread(path).SOPInstanceUID) for path in paths))
    shell.choose(shell.ui.volumeComboBox, "Loaded by Slicer")
    shell.wait_until(shell.ui.suvCheckBox.isVisible, SLOW_S)
    assert not shell.ui.loadButton.isEnabled()
    shell.click(shell.ui.suvCheckBox)
    assert shell.ui.loadButton.text == "Load anew"
    press_load(shell)
    node = shell.ui.volumeComboBox.currentNode()
    assert node.GetName().endswith("(SUV)")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), read_volume(paths, suv=True).voxels)
    assert not shell.ui.suvCheckBox.isVisible()
    assert shell.ui.loadButton.text == "Retrieve and load"


@pytest.mark.parametrize("as_suv", [True, False])
def test_pet_comes_as_suv_where_that_is_ticked(shell, tmp_path, as_suv):
    import slicer

    with archive_of(make_pet(np.arange(3 * 8 * 9, dtype=np.int16).reshape(3, 8, 9) * 50), tmp_path) as running:
        add_endpoint(shell, running.endpoint)
        assert not shell.ui.suvCheckBox.isVisible()
        find(shell)
        assert shell.ui.suvCheckBox.isVisible()
        if as_suv:
            shell.click(shell.ui.suvCheckBox)
        press_load(shell)
        assert "Complete: 3 images" in shell.ui.loadStatusLabel.text
        node = shell.ui.volumeComboBox.currentNode()
        assert node.GetName().endswith("(SUV)") == as_suv
        expected = read_volume((tmp_path / "series").iterdir(), suv=as_suv).voxels
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), expected)
        assert shell.logic.getParameterNode().suv is as_suv
