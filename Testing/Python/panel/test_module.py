"""The module file by clicks: scenes, reload, what is kept and what is not, controls that say why."""

import sys
import types
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread
from shell.steps import (
    NAME,
    PATIENT_ID,
    SECRET,
    SLOW_S,
    add_endpoint,
    child_of,
    find,
    find_and_load,
    is_running,
    load,
    paint,
    picture,
    runner_of,
    segment,
    send,
    silent,
)

IDENTIFYING_DATES = ("PatientBirthDate", "StudyDate", "AccessionNumber")


def test_every_disabled_control_says_why(shell, archive):
    assert silent(shell) == []
    assert "Add" in shell.ui.findButton.toolTip
    assert "stage 1" in shell.ui.loadButton.toolTip
    assert "stage 2" in shell.ui.segmentButton.toolTip
    find_and_load(shell, archive)
    assert silent(shell) == []
    shell.click(shell.ui.segmentButton)
    assert silent(shell) == []
    assert "running step" in shell.ui.findButton.toolTip
    shell.wait_until(shell.ui.sendButton.isEnabled, SLOW_S)
    assert silent(shell) == []
    for box in (shell.ui.segCheckBox, shell.ui.srCheckBox, shell.ui.scCheckBox):
        shell.click(box)
    assert "at least one" in shell.ui.sendButton.toolTip
    assert silent(shell) == []


def test_no_secret_and_no_patient_in_scene_and_settings(shell, archive, series, tmp_path):
    import slicer

    find_and_load(shell, archive)
    shell.click(shell.ui.addEndpointButton)
    shell.choose(shell.ui.protocolComboBox, "DICOMweb")
    shell.type(shell.ui.urlLineEdit, "https://pacs.example.org/dicom-web")
    shell.click(shell.ui.saveEndpointButton)
    shell.type(shell.ui.findUserLineEdit, "canary-user")
    shell.type(shell.ui.findPasswordLineEdit, SECRET)
    assert SECRET not in shell.ui.findPasswordLineEdit.displayText
    picture(shell, "8-credentials")
    assert shell.widget.panel.find.chooser.connectable().auth == ("canary-user", SECRET)
    shell.type(shell.ui.patientNameLineEdit, NAME)
    shell.choose(shell.ui.endpointComboBox, "Archive")
    shell.type(shell.ui.descriptionLineEdit, f"of {NAME}")
    saved = {}

    def save(stage: str) -> None:
        path = tmp_path / f"{stage}.mrb"
        assert shell.scene.WriteToMRB(str(path), None, None)
        with zipfile.ZipFile(path) as bundle:
            saved.update({name: bundle.read(name) for name in bundle.namelist()})

    save("loaded")
    segment(shell)
    paint(shell, "Bone")
    save("edited")
    shell.click(shell.ui.scCheckBox)
    send(shell)
    save("sent")
    assert [name for name in saved if name.endswith(".mrml")]
    assert [name for name in saved if name.endswith(".seg.nrrd")]
    assert [name for name in saved if name.endswith(".nrrd") and not name.endswith(".seg.nrrd")]
    slicer.app.userSettings().sync()
    saved["settings"] = Path(slicer.app.userSettings().fileName()).read_bytes()
    assert b"AIDB-ARCHIVE" in saved["settings"]
    shell.scene.Clear(0)
    assert shell.ui.descriptionLineEdit.text == "", "what was typed about one scene's patient is not sent of another's"
    header = dcmread(series[0])
    words = ("Canary", PATIENT_ID, SECRET, "canary-user", *(header[key].value for key in IDENTIFYING_DATES))
    found = {(word, name) for word in words for name, content in saved.items() if word.encode() in content}
    assert found == set()
    assert not [name for name in saved for word in words if word in name]


def test_choices_follow_the_scene(shell, archive):
    find_and_load(shell, archive)
    shell.choose(shell.ui.deviceComboBox, "cpu")
    shell.choose(shell.ui.modelComboBox, "mindgrab")
    parameters = shell.logic.getParameterNode()
    assert (parameters.modelName, parameters.device) == ("mindgrab", "cpu")
    assert parameters.volume is shell.ui.volumeComboBox.currentNode()
    assert shell.ui.segmentButton.isEnabled() is False
    assert "weights" in shell.ui.segmentButton.toolTip
    assert shell.ui.fetchWeightsButton.isEnabled()
    shell.scene.Clear(0)
    assert shell.logic.getParameterNode().device == "auto"
    assert shell.ui.deviceComboBox.currentText == "auto"


def test_a_loaded_scene_brings_its_model(shell, tmp_path):
    shell.choose(shell.ui.modelComboBox, "mindgrab")
    shell.choose(shell.ui.deviceComboBox, "cpu")
    path = tmp_path / "scene.mrml"
    shell.scene.Commit(str(path))
    shell.choose(shell.ui.modelComboBox, "ct-tissues")
    shell.choose(shell.ui.deviceComboBox, "auto")
    shell.scene.SetURL(str(path))
    shell.scene.Connect()
    shell.process()
    assert shell.ui.modelComboBox.currentText == "mindgrab"
    assert shell.ui.deviceComboBox.currentText == "cpu"
    shell.choose(shell.ui.modelComboBox, "ct-tissues")
    assert shell.logic.getParameterNode().modelName == "ct-tissues"


def test_a_self_test_that_fails_leaves_nothing_in_the_users_dicom_database(shell, monkeypatch):
    import unittest

    import slicer
    from AIDicomBridgeLib.mrml import dicom_database

    monkeypatch.setattr(dicom_database.Filing, "complete", False)
    test = slicer.modules.aidicombridge.python().AIDicomBridgeTest("test_files_are_filed_in_the_dicom_database")
    result = unittest.TestResult()
    test.run(result)
    assert len(result.failures) == 1
    assert slicer.dicomDatabase.inserted > 0
    assert slicer.dicomDatabase._files == {}


@pytest.mark.parametrize("stage", ["load", "segment"])
def test_the_scene_is_closed_while_something_runs(shell, archive, stage):
    add_endpoint(shell, archive.endpoint)
    find(shell)
    if stage == "segment":
        load(shell)
    child = child_of(shell)
    shell.click(getattr(shell.ui, f"{stage}Button"))
    shell.scene.Clear(0)
    shell.process()
    assert not runner_of(shell).busy
    shell.wait_until(lambda: not is_running(child), what="the end of the worker")
    assert shell.ui.volumeComboBox.currentNode() is None
    load(shell)
    assert segment(shell) is not None


def test_reload_and_close_leave_nothing_behind(archive, tmp_path):
    pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed")
    from shell.window import open_window

    with open_window() as shell:
        find_and_load(shell, archive)
        child = child_of(shell)
        old = shell.widget
        shell.widget.onReload()
        shell.wait_until(lambda: not is_running(child), what="the end of the worker")
        assert shell.widget is not old
        find(shell)
        load(shell)
        child = child_of(shell)
    assert not is_running(child)
    assert list((tmp_path / "tmp").glob("aidicombridge*")) == []


def test_the_panel_works_without_views(archive):
    pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed")
    from shell.window import open_window

    with open_window(views=False) as shell:
        find_and_load(shell, archive)
        segment(shell)


def test_the_panel_opens_with_nothing_installed(monkeypatch):
    pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed")
    from shell.window import open_window

    for name in ("pynetdicom", "highdicom", "torch", "platformdirs", "safetensors", "SimpleITK", "requests"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("AIDICOMBRIDGE_HOME")
    with open_window() as shell:
        shell.choose(shell.ui.modelComboBox, "mindgrab")
        assert shell.ui.weightsLabel.text.startswith("not on this machine")


def test_the_sample_is_offered_in_slicers_sample_data_module(shell, monkeypatch):
    import slicer

    offered = []
    logic = type("SampleDataLogic", (), {"registerCustomSampleDataSource": lambda **keywords: offered.append(keywords)})
    monkeypatch.setattr(slicer.modules, "sampledata", object(), raising=False)
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    slicer.app.startupCompleted.emit()
    (source,) = offered
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda _: shell.logic)
    (node,) = source["customDownloader"](None)
    assert node.GetName() == "CT: 1: Synthetic body"


def test_the_self_test_files_in_the_database(shell):
    """What the database's look-alike can show of it; ctest runs it on Slicer's own."""
    test = sys.modules["AIDicomBridge"].AIDicomBridgeTest("test_files_are_filed_in_the_dicom_database")
    result = test.run()
    assert result.wasSuccessful(), result.failures + result.errors
    assert not result.skipped
