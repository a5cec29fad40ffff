"""The panel by clicks: the real module file, the real .ui, the real worker process, a real archive on loopback.

With AIDICOMBRIDGE_SCREENSHOTS set, a picture of each stage is left in that folder.
"""

import os
import signal
import sys
import tempfile
import time
import types
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from AIDicomBridgeLib import connect, read_segmentation
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.source_series import SourceSeries
from peers.orthanc import orthanc
from synthetic import body_phantom, make_series, save_series

NAME, PATIENT_ID, SECRET = "Canary^Patient", "CANARY-7", "canary-secret"
SLOW_S = 60.0


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Outbox, weights and temporary files of panel and worker go below the test's own folder."""
    for variable, name in (("AIDICOMBRIDGE_HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def series(tmp_path) -> list[Path]:
    """A CT of a patient whose name must not turn up where it does not belong."""
    datasets = make_series(body_phantom((10, 64, 72)), patient_name=NAME, patient_id=PATIENT_ID)
    for dataset in datasets:
        dataset.BodyPartExamined = "HEAD"  # so that every model takes it
    return save_series(datasets, tmp_path / "ct")


@pytest.fixture
def archive(series, tmp_path):
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as running:
        for path in series:
            store.add_file(path)
        yield running


def picture(shell, name: str) -> None:
    folder = os.environ.get("AIDICOMBRIDGE_SCREENSHOTS")
    if folder:
        shell.screenshot(Path(folder) / f"panel-{name}.png", whole=True)


def add_endpoint(shell, endpoint, name: str = "Archive") -> None:
    ui = shell.ui
    shell.click(ui.addEndpointButton)
    if isinstance(endpoint, DicomWebEndpoint):
        shell.choose(ui.protocolComboBox, "DICOMweb")
        shell.type(ui.urlLineEdit, endpoint.url)
    else:
        shell.type(ui.aeTitleLineEdit, endpoint.ae_title)
        shell.type(ui.hostLineEdit, endpoint.host)
        shell.type(ui.portSpinBox, str(endpoint.port))
    shell.type(ui.endpointNameLineEdit, name)
    picture(shell, "0-endpoint")
    shell.click(ui.saveEndpointButton)


def find(shell) -> None:
    shell.type(shell.ui.accessionLineEdit, "SYN0001", enter=True)
    shell.wait_until(shell.ui.loadButton.isEnabled, SLOW_S, "a chosen series")
    picture(shell, "1-find")


def load(shell) -> None:
    shell.click(shell.ui.loadButton)
    shell.wait_until(shell.ui.segmentButton.isEnabled, SLOW_S, "a loaded volume")
    picture(shell, "2-load")


def find_and_load(shell, archive) -> None:
    add_endpoint(shell, archive.endpoint)
    find(shell)
    load(shell)


def segment(shell) -> object:
    shell.click(shell.ui.segmentButton)
    shell.wait_until(shell.ui.sendButton.isEnabled, SLOW_S, "a segmentation")
    picture(shell, "3-segment")
    return shell.ui.segmentationComboBox.currentNode()


def send(shell) -> None:
    shell.click(shell.ui.sendButton)
    picture(shell, "4-confirm")
    shell.click(shell.ui.confirmButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S, "the end of the sending")
    picture(shell, "5-sent")


def runner_of(shell) -> object:
    return shell.widget.panel.runner


def child_of(shell) -> int:
    return runner_of(shell).worker._child._process.pid


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def modalities(archive) -> list[str]:
    return sorted(instance.attributes["Modality"] for instance in archive.store.instances())


def volumes(shell) -> dict[str, float]:
    table = shell.ui.segmentsTable
    return {table.item(row, 1).text(): float(table.item(row, 2).text()) for row in range(table.rowCount)}


def test_the_whole_loop_with_an_edit_between(shell, archive, series):
    import slicer

    add_endpoint(shell, archive.endpoint)
    shell.click(shell.ui.testEndpointButton)
    shell.wait_until(lambda: "Archive answers" in shell.ui.findStatusLabel.text, SLOW_S)
    find(shell)
    assert shell.texts(shell.ui.studyTree)[:4] == [
        f"{NAME} ({PATIENT_ID}), Synthetic study",
        "2026-01-02",
        "CT",
        "16",
    ] or (shell.texts(shell.ui.studyTree)[0].startswith(NAME))
    load(shell)
    node = segment(shell)
    assert list(volumes(shell)) == ["Air in the body", "Fat", "Muscle", "Bone"]
    before = volumes(shell)["Bone"]
    # What the Segment Editor does: it writes into the labelmap and says so.
    layer = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "Segment_4")
    layer[0, :20, :20] = 4
    node.GetSegmentation().GetSegment("Segment_4").Modified()
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
    assert (labels.labels[0, :20, :20] == labels.segment("Bone").label).all()
    outcomes = {text for text in shell.texts(shell.ui.resultsTable) if "arrived" in text}
    assert outcomes == {"arrived, unchanged"}


@pytest.fixture
def clinic(series, tmp_path):
    """An Orthanc that holds the CT."""
    with orthanc(tmp_path / "orthanc") as running:
        with connect(running.dimse) as client:
            assert client.store(series).complete
        yield running


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


def test_a_network_with_weights_fetched_by_a_click(shell, archive):
    find_and_load(shell, archive)
    shell.choose(shell.ui.modelComboBox, "mindgrab")
    assert not shell.ui.segmentButton.isEnabled()
    shell.click(shell.ui.fetchWeightsButton)
    shell.wait_until(lambda: not runner_of(shell).busy, 3 * SLOW_S)
    if "cannot be downloaded" in shell.ui.segmentStatusLabel.text:
        pytest.skip(f"MindGrab's weights: {shell.ui.segmentStatusLabel.text}")
    assert "on this machine" in shell.ui.weightsLabel.text
    assert not shell.ui.fetchWeightsButton.isEnabled()
    segment(shell)
    assert list(volumes(shell)) == ["Brain"]


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


def test_a_confirmation_holds_only_for_what_was_shown(shell, archive):
    find_and_load(shell, archive)
    segment(shell)
    for change in (
        lambda: shell.click(shell.ui.srCheckBox),
        lambda: shell.choose(shell.ui.encodingComboBox, "LABELMAP"),
        lambda: shell.type(shell.ui.descriptionLineEdit, "checked by hand"),
        lambda: add_endpoint(shell, archive.endpoint, "Another name"),
    ):
        shell.click(shell.ui.sendButton)
        assert shell.ui.confirmGroupBox.isVisible()
        change()
        assert not shell.ui.confirmGroupBox.isVisible()


def test_the_segment_editor_is_one_click_away(shell, archive, monkeypatch):
    import slicer

    assert "no segmentation yet" in shell.ui.editSegmentsButton.toolTip
    find_and_load(shell, archive)
    node = segment(shell)
    editor = mock.Mock()
    module = mock.Mock(**{"widgetRepresentation.return_value.self.return_value.editor": editor})
    monkeypatch.setattr(slicer.modules, "segmenteditor", module, raising=False)
    shell.click(shell.ui.editSegmentsButton)
    assert shell.selected_modules == ["SegmentEditor"]
    editor.setSegmentationNode.assert_called_once_with(node)
    editor.setSourceVolumeNode.assert_called_once_with(shell.ui.volumeComboBox.currentNode())


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


def test_credentials_are_entered_once(shell):
    add_endpoint(shell, DicomWebEndpoint("", "https://pacs.example.org/dicom-web"), "Web")
    shell.type(shell.ui.findPasswordLineEdit, SECRET)
    assert shell.ui.sendPasswordLineEdit.text == SECRET
    shell.type(shell.ui.sendUserLineEdit, "canary-user")
    assert shell.ui.findUserLineEdit.text == "canary-user"
    assert shell.widget.panel.send.chooser.connectable().auth == ("canary-user", SECRET)
    shell.click(shell.ui.removeEndpointButton)
    assert shell.ui.findPasswordLineEdit.text == ""


def test_cancel_during_inference_leaves_nothing_and_the_next_run_works(shell, archive):
    find_and_load(shell, archive)
    child = child_of(shell)
    shell.click(shell.ui.segmentButton)
    shell.click(shell.ui.segmentCancelButton)
    assert shell.ui.segmentStatusLabel.text == "Cancelled."
    assert shell.ui.segmentationComboBox.currentNode() is None
    assert not shell.ui.segmentCancelButton.isVisible()
    shell.wait_until(lambda: not is_running(child), what="the end of the worker")
    assert segment(shell) is not None


def test_cancel_during_retrieve_and_during_send(shell, archive):
    add_endpoint(shell, archive.endpoint)
    find(shell)
    shell.click(shell.ui.loadButton)
    shell.click(shell.ui.loadCancelButton)
    assert shell.ui.volumeComboBox.nodeCount() == 0
    load(shell)
    segment(shell)
    shell.click(shell.ui.scCheckBox)
    shell.click(shell.ui.sendButton)
    shell.click(shell.ui.confirmButton)
    shell.click(shell.ui.sendCancelButton)
    assert shell.ui.sendStatusLabel.text == "Cancelled."
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S, "the list of the outbox")
    send(shell)
    assert "have arrived" in shell.ui.sendStatusLabel.text


def test_a_killed_worker_is_one_sentence_and_the_next_run_works(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    os.kill(child_of(shell), signal.SIGKILL)
    shell.wait_until(lambda: "background process ended" in shell.ui.segmentStatusLabel.text, SLOW_S)
    assert shell.ui.segmentDetailsButton.isVisible()
    assert not shell.ui.segmentDetails.isVisible()
    shell.click(shell.ui.segmentDetailsButton)
    assert "WorkerError" in shell.ui.segmentDetails.plainText
    picture(shell, "6-failure")
    assert segment(shell) is not None
    assert not shell.ui.segmentDetailsButton.isVisible()


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


def test_the_volume_is_removed_while_it_is_segmented(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    shell.scene.RemoveNode(shell.ui.volumeComboBox.currentNode())
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "removed from the scene" in shell.ui.segmentStatusLabel.text
    assert shell.ui.segmentationComboBox.nodeCount() == 0


def test_a_segment_without_terminology_is_refused_by_name(shell, archive):
    find_and_load(shell, archive)
    node = segment(shell)
    added = node.GetSegmentation().GetSegment(node.GetSegmentation().AddEmptySegment("mine", "Doodle"))
    added.RemoveTag(added.GetTerminologyEntryTagName())
    shell.wait_until(lambda: "no terminology: cannot be sent" in shell.texts(shell.ui.segmentsTable))
    shell.click(shell.ui.sendButton)
    assert not shell.ui.confirmGroupBox.isVisible()
    assert "'Doodle'" in shell.ui.sendStatusLabel.text
    assert "choose what it is" in shell.ui.sendStatusLabel.text
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


def controls(shell) -> list:
    import qt

    kinds = (qt.QAbstractButton, qt.QComboBox, qt.QLineEdit, qt.QAbstractSpinBox)
    named = [widget for widget in vars(shell.ui).values() if isinstance(widget, kinds)]
    assert len(named) > 20
    return named


def silent(shell) -> list[str]:
    return [widget.objectName for widget in controls(shell) if not widget.isEnabled() and not widget.toolTip]


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


def test_an_archive_that_does_not_answer_is_one_sentence(shell, archive, unused_port):
    endpoint = archive.endpoint
    add_endpoint(shell, type(endpoint)("", endpoint.host, unused_port, endpoint.ae_title))
    shell.click(shell.ui.findButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "Archive" in shell.ui.findStatusLabel.text
    assert shell.ui.findDetailsButton.isVisible()
    assert not shell.dialogs.shown


def test_endpoints_are_kept_changed_and_removed(shell, archive):
    import slicer
    from AIDicomBridgeLib.panel.saved_endpoints import SavedEndpoints

    def names() -> list[str]:
        return [entry.endpoint.name for entry in SavedEndpoints(slicer.app.userSettings())]

    add_endpoint(shell, archive.endpoint, "One")
    add_endpoint(shell, archive.endpoint, "Two")
    assert names() == ["One", "Two"]
    assert shell.ui.endpointComboBox.currentText == "Two"
    shell.click(shell.ui.editEndpointButton)
    shell.type(shell.ui.hostLineEdit, "no such host!/")
    shell.click(shell.ui.saveEndpointButton)
    assert shell.ui.endpointFormStatus.isVisible()
    shell.type(shell.ui.hostLineEdit, "pacs.example.org")
    shell.click(shell.ui.saveEndpointButton)
    assert not shell.ui.endpointForm.isVisible()
    assert names() == ["One", "Two"]
    assert "pacs.example.org" in shell.ui.endpointComboBox.toolTip
    shell.click(shell.ui.removeEndpointButton)
    assert names() == ["One"]
    assert shell.ui.destinationComboBox.count == 1


def test_servers_of_slicer_are_offered_and_never_changed(shell):
    import json

    import slicer

    settings = slicer.app.userSettings()
    server = {"Name": "Clinic", "Calling AETitle": "SLICER", "Called AETitle": "CLINIC", "Address": "10.0.0.7"}
    settings.setValue("DICOM/ServerNodeCount", 3)
    settings.setValue("DICOM/ServerNodes/0", json.dumps(server | {"Port": "104", "Retrieve Protocol": "CGET"}))
    settings.setValue("DICOM/ServerNodes/1", "no JSON")
    settings.setValue("DICOM/ServerNodes/2", json.dumps(server | {"Port": ""}))
    shell.widget.panel.find.chooser.refresh()
    assert shell.ui.endpointComboBox.currentText == "Clinic (from Slicer)"
    assert "DICOM settings" in shell.ui.removeEndpointButton.toolTip
    assert not shell.ui.removeEndpointButton.isEnabled()
    shell.click(shell.ui.editEndpointButton)
    shell.type(shell.ui.endpointNameLineEdit, "Clinic, ours")
    shell.click(shell.ui.saveEndpointButton)
    assert json.loads(settings.value("DICOM/ServerNodes/0"))["Name"] == "Clinic"
    assert shell.ui.endpointComboBox.count == 2


def test_no_secret_and_no_patient_in_scene_and_settings(shell, archive, tmp_path):
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
    segment(shell)
    path = tmp_path / "scene.mrml"
    shell.scene.SetURL(str(path))
    shell.scene.Commit()
    # Slicer's own DICOM loader keeps the patient in the subject hierarchy, and so do we; nowhere else.
    root = ElementTree.parse(path).getroot()  # noqa: S314 - written a moment ago
    elements = [element for element in root if element.tag != "SubjectHierarchy"]
    text = b"".join(ElementTree.tostring(element) for element in elements).decode()
    assert "ScriptedModule" in text
    slicer.app.userSettings().sync()
    settings = Path(slicer.app.userSettings().fileName()).read_text()
    assert "AIDB-ARCHIVE" in settings
    for place in (text, settings):
        assert not [word for word in ("Canary", PATIENT_ID, SECRET, "canary-user") if word in place]
    assert SECRET not in path.read_text()


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


def test_the_window_stays_alive_while_the_worker_computes(shell, archive):
    import qt

    find_and_load(shell, archive)
    beats = []
    timer = qt.QTimer()
    timer.setInterval(20)
    timer.connect("timeout()", lambda: beats.append(time.monotonic()))
    timer.start()
    segment(shell)
    timer.stop()
    gaps = np.diff(beats)
    print(f"gaps of a 20 ms timer: median {np.median(gaps) * 1000:.0f} ms, largest {gaps.max() * 1000:.0f} ms")  # noqa: T201
    assert gaps.max() < 2


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


def test_the_sample_series_can_be_segmented_and_sent(shell, archive):
    node = shell.logic.loadSampleSeries()
    shell.choose(shell.ui.volumeComboBox, node.GetName())
    add_endpoint(shell, archive.endpoint)
    segment(shell)
    shell.click(shell.ui.scCheckBox)
    send(shell)
    assert "have arrived" in shell.ui.sendStatusLabel.text


def test_a_volume_that_slicers_dicom_module_loaded(shell, archive, series, monkeypatch):
    """Slicer's database is asked for the files of the node's instances."""
    import slicer
    from pydicom import dcmread

    node = shell.logic.loadSeries(series)
    shell.widget.panel.segment._sources._by_instances.clear()
    shell.choose(shell.ui.volumeComboBox, node.GetName())
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "not known here" in shell.ui.segmentStatusLabel.text
    files = {str(dcmread(path).SOPInstanceUID): str(path) for path in series}
    database = type("Database", (), {"isOpen": True, "fileForInstance": staticmethod(files.get)})
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    add_endpoint(shell, archive.endpoint)
    segment(shell)


def test_a_volume_that_is_no_dicom_is_refused_in_place(shell):
    node = shell.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Drawn")
    shell.choose(shell.ui.volumeComboBox, node.GetName())
    shell.click(shell.ui.segmentButton)
    shell.process()
    assert "does not say which DICOM instances" in shell.ui.segmentStatusLabel.text
    assert not shell.dialogs.shown


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
