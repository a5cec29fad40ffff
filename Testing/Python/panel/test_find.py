"""Stage 1 by clicks: archives are written down, tested and asked."""

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, TlsFiles
from AIDicomBridgeLib.series.instance_store import InstanceStore
from shell.steps import SECRET, SLOW_S, add_endpoint, find, load, runner_of
from synthetic import body_phantom, make_series, save_series


def saved(shell) -> list:
    import slicer
    from AIDicomBridgeLib.panel.saved_endpoints import SavedEndpoints

    return [entry.endpoint for entry in SavedEndpoints(slicer.app.userSettings())]


def ask(shell, button) -> None:
    """Press a button that asks the archive, and wait for the answer."""
    shell.click(button)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)


def test_an_archive_that_does_not_answer_is_one_sentence(shell, archive, unused_port):
    endpoint = archive.endpoint
    add_endpoint(shell, type(endpoint)("", endpoint.host, unused_port, endpoint.ae_title))
    shell.click(shell.ui.findButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "Archive" in shell.ui.findStatusLabel.text
    assert shell.ui.findDetailsButton.isVisible()
    assert not shell.dialogs.shown


def test_endpoints_are_kept_changed_and_removed(shell, archive):
    def names() -> list[str]:
        return [endpoint.name for endpoint in saved(shell)]

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
    import qt
    import slicer

    settings = slicer.app.userSettings()
    server = {"Name": "Clinic", "Calling AETitle": "SLICER", "Called AETitle": "CLINIC", "Address": "10.0.0.7"}
    server |= {"Port": "104", "Retrieve Protocol": "CGET", "QueryRetrieveCheckState": 2, "StorageCheckState": 0}
    example = server | {"Name": "MedicalConnections", "Address": "dicom.example.org", "QueryRetrieveCheckState": 0}
    texts = (json.dumps(server), "no JSON", json.dumps(server | {"Port": ""}), json.dumps(example))
    settings.setValue("DICOM/ServerNodeCount", len(texts))
    for number, text in enumerate(texts):
        # As CTK keeps them: QJsonDocument::toJson gives a QByteArray.
        settings.setValue(f"DICOM/ServerNodes/{number}", qt.QByteArray(text.encode()))
    settings.setValue("DICOM/StoragePort", "11112")
    shell.widget.enter()  # as after a visit to the DICOM module
    assert shell.ui.endpointComboBox.currentText == "", "a person chooses it"
    shell.choose(shell.ui.endpointComboBox, "Clinic (from Slicer)")
    assert (shell.ui.endpointComboBox.count, shell.ui.destinationComboBox.count) == (1, 0), "ticked for query only"
    assert "only read" in shell.ui.endpointComboBox.toolTip
    assert "of your own" in shell.ui.editEndpointButton.toolTip
    assert "DICOM settings" in shell.ui.removeEndpointButton.toolTip
    assert not shell.ui.removeEndpointButton.isEnabled()
    shell.click(shell.ui.editEndpointButton)
    shell.type(shell.ui.endpointNameLineEdit, "Clinic, ours")
    shell.click(shell.ui.saveEndpointButton)
    assert json.loads(settings.value("DICOM/ServerNodes/0").data())["Name"] == "Clinic"
    assert shell.ui.endpointComboBox.count == 2
    assert [endpoint.name for endpoint in saved(shell)] == ["Clinic, ours", "Clinic"]


def test_endpoints_of_the_command_line_are_offered_with_their_secrets_and_never_changed(shell, tmp_path):
    from AIDicomBridgeLib.pacs import saved_endpoints as command_line

    kept = command_line.SavedEndpoints(tmp_path / "home", FakeKeyring())
    kept.add("main", DicomWebEndpoint("", "https://pacs.example.org/dicom-web"), ("me", SECRET))
    before = kept.path.read_bytes()
    assert SECRET.encode() not in before
    assert shell.ui.endpointComboBox.count == 0
    shell.widget.enter()
    shell.choose(shell.ui.endpointComboBox, "main (from the command line)")
    assert shell.ui.destinationComboBox.findText("main (from the command line)") >= 0
    assert not shell.ui.removeEndpointButton.isEnabled()
    assert "command line" in shell.ui.removeEndpointButton.toolTip
    with mock.patch("AIDicomBridgeLib.pacs.credentials._system_keyring", return_value=kept._secrets._keyring):
        assert shell.widget.panel.find.chooser.connectable().auth == ("me", SECRET)
    assert shell.ui.findPasswordLineEdit.text == "", "a secret that is kept elsewhere is not shown"
    shell.click(shell.ui.editEndpointButton)
    shell.type(shell.ui.endpointNameLineEdit, "mine")
    shell.click(shell.ui.saveEndpointButton)
    assert [endpoint.name for endpoint in saved(shell)] == ["mine", "main"]
    assert kept.path.read_bytes() == before


class FakeKeyring:
    """A keyring in memory."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], str] = {}

    def set_password(self, service, key, text):
        self.secrets[service, key] = text

    def get_password(self, service, key):
        return self.secrets.get((service, key))


@pytest.mark.parametrize(("listening", "method", "port"), [("false", "C-MOVE", 11112), ("true", "auto", 0)])
def test_a_server_of_slicer_with_c_move_has_slicers_port_unless_slicer_listens_there(shell, listening, method, port):
    import slicer

    settings = slicer.app.userSettings()
    server = {"Name": "Clinic", "Called AETitle": "CLINIC", "Address": "10.0.0.7", "Port": "104"}
    server |= {"Retrieve Protocol": "CMOVE", "QueryRetrieveCheckState": 2, "StorageCheckState": 2}
    for key, value in (("ServerNodes/0", json.dumps(server)), ("ServerNodeCount", 1), ("StorageEnabled", listening)):
        settings.setValue(f"DICOM/{key}", value)
    (endpoint,) = saved(shell)
    assert (endpoint.retrieve, endpoint.move_port) == (method, port)


def test_where_to_send_never_becomes_another_archive_by_itself(shell, archive):
    ui = shell.ui
    for name in ("One", "Two", "Three"):
        add_endpoint(shell, replace(archive.endpoint, ae_title=name.upper()), name)
    shell.choose(ui.destinationComboBox, "Two")
    shell.choose(ui.endpointComboBox, "Two")
    shell.click(ui.editEndpointButton)
    shell.type(ui.endpointNameLineEdit, "Two, renamed")
    shell.click(ui.saveEndpointButton)
    assert ui.destinationComboBox.currentText == "Two, renamed"
    shell.click(ui.removeEndpointButton)
    for combo in (ui.destinationComboBox, ui.endpointComboBox):
        assert (combo.count, combo.currentText) == (2, "")
    assert "Choose an archive" in ui.findButton.toolTip
    assert not ui.findButton.isEnabled()
    shell.widget.enter()
    assert ui.destinationComboBox.currentText == ""
    shell.choose(ui.destinationComboBox, "Three")
    assert shell.widget.panel.send.chooser.endpoint.ae_title == "THREE"


def test_credentials_are_entered_once(shell):
    add_endpoint(shell, DicomWebEndpoint("", "https://pacs.example.org/dicom-web"), "Web")
    shell.type(shell.ui.findPasswordLineEdit, SECRET)
    assert shell.ui.sendPasswordLineEdit.text == SECRET
    shell.type(shell.ui.sendUserLineEdit, "canary-user")
    assert shell.ui.findUserLineEdit.text == "canary-user"
    assert shell.widget.panel.send.chooser.connectable().auth == ("canary-user", SECRET)
    shell.click(shell.ui.removeEndpointButton)
    assert shell.ui.findPasswordLineEdit.text == ""


def test_a_chosen_series_is_retrieved_with_the_credentials_of_now(shell, clinic):
    stage = shell.widget.panel.find
    add_endpoint(shell, clinic.dicomweb, "Web")
    shell.type(shell.ui.findPasswordLineEdit, SECRET)
    find(shell)
    (found,) = stage.chosen
    assert found.endpoint.auth is None
    assert stage.connectable(found).auth == SECRET
    shell.type(shell.ui.findPasswordLineEdit, "")
    assert stage.connectable(found).auth is None
    load(shell)


def test_what_has_no_field_in_the_form_survives_an_edit(shell):
    endpoint = DimseEndpoint(
        *("Clinic", "pacs.example.org", 104, "CLINIC"), root="patient", associations=4, move_from="10.0.0.9"
    )
    shell.widget.panel.find._saved.save(endpoint)
    shell.widget.enter()
    shell.click(shell.ui.editEndpointButton)
    shell.type(shell.ui.portSpinBox, "105")
    shell.click(shell.ui.saveEndpointButton)
    assert saved(shell) == [replace(endpoint, port=105)]


def test_everything_that_a_dimse_endpoint_can_be_told_is_in_the_form(shell, tmp_path):
    ui = shell.ui
    pem = [str(tmp_path / name) for name in ("ca.pem", "us.pem", "us.key")]
    for path in pem:
        Path(path).touch()
    add_endpoint(shell, DimseEndpoint("", "pacs.example.org", 2762, "CLINIC"), "Clinic")
    shell.click(ui.editEndpointButton)
    assert not ui.moreCheckBox.checked
    assert not ui.connectTimeoutSpinBox.isVisible()
    shell.click(ui.moreCheckBox)
    assert not ui.keyPathLineEdit.isVisible()
    shell.click(ui.tlsCheckBox)
    shell.type(ui.callingLineEdit, "US")
    shell.choose(ui.retrieveComboBox, "C-MOVE")
    shell.click(ui.saveEndpointButton)
    assert "needs a port" in ui.endpointFormStatus.text
    shell.type(ui.movePortSpinBox, "11113")
    shell.type(ui.moveHostLineEdit, "10.0.0.5")
    for edit, text in zip((ui.caFilePathLineEdit, ui.certificatePathLineEdit, ui.keyPathLineEdit), pem, strict=True):
        shell.type(edit.comboBox().lineEdit(), text)
    for box, text in ((ui.connectTimeoutSpinBox, "5"), (ui.associationTimeoutSpinBox, "15.5")):
        shell.type(box, text)
    shell.type(ui.silenceTimeoutSpinBox, "300")
    shell.choose(ui.endpointProfileComboBox, "plain-pacs")
    shell.click(ui.saveEndpointButton)
    expected = DimseEndpoint(
        *("Clinic", "pacs.example.org", 2762, "CLINIC", "US", TlsFiles(*pem)),
        retrieve="C-MOVE",
        move_port=11113,
        move_host="10.0.0.5",
        connect_timeout_s=5,
        association_timeout_s=15.5,
        dimse_timeout_s=300,
        profile="plain-pacs",
    )
    assert saved(shell) == [expected]
    shell.click(ui.editEndpointButton)
    assert ui.moreCheckBox.checked, "what differs from the default is shown"
    shell.type(ui.endpointNameLineEdit, "Renamed")
    shell.click(ui.saveEndpointButton)
    assert saved(shell) == [replace(expected, name="Renamed")]


def test_everything_that_a_dicomweb_endpoint_can_be_told_is_in_the_form(shell, tmp_path):
    ui = shell.ui
    certificates = tmp_path / "ca.pem"
    certificates.touch()
    shell.click(ui.addEndpointButton)
    shell.choose(ui.protocolComboBox, "DICOMweb")
    assert not ui.hostLineEdit.isVisible()
    shell.type(ui.urlLineEdit, "https://pacs.example.org/dicom-web")
    shell.click(ui.moreCheckBox)
    assert not ui.tlsCheckBox.isVisible(), "https is"
    shell.type(ui.caFilePathLineEdit.comboBox().lineEdit(), str(tmp_path / "none.pem"))
    shell.click(ui.saveEndpointButton)
    assert "does not exist" in ui.endpointFormStatus.text
    shell.type(ui.caFilePathLineEdit.comboBox().lineEdit(), str(certificates))
    shell.type(ui.silenceTimeoutSpinBox, "90")
    shell.click(ui.saveEndpointButton)
    url = "https://pacs.example.org/dicom-web"
    assert saved(shell) == [DicomWebEndpoint("", url, ca_file=str(certificates), timeout_s=90)]


def test_the_doctor_says_what_works_and_what_to_write_to_the_administrator(shell, archive):
    import qt

    ui = shell.ui
    assert "Add" in ui.doctorButton.toolTip
    add_endpoint(shell, archive.endpoint)
    assert not ui.doctorFrame.isVisible()
    ask(shell, ui.doctorButton)
    found = shell.texts(ui.doctorTable)
    assert found[found.index("C-ECHO") + 1] == "works"
    assert found[found.index("C-STORE") + 1] == "not tried"
    assert len(archive.store) == 10
    shell.click(ui.copyForAdministratorButton)
    assert "AIDICOMBRIDGE" in qt.QApplication.clipboard().text()
    ask(shell, ui.storeTestObjectButton)
    found = shell.texts(ui.doctorTable)
    assert found[found.index("C-STORE") + 1] == "works"
    assert len(archive.store) == 11
    shell.click(ui.closeDoctorButton)
    assert not ui.doctorFrame.isVisible()


def test_the_doctor_at_a_port_where_nobody_listens(shell, archive, unused_port):
    endpoint = archive.endpoint
    add_endpoint(shell, DimseEndpoint("", endpoint.host, unused_port, endpoint.ae_title))
    ask(shell, shell.ui.doctorButton)
    assert "does not work" in shell.texts(shell.ui.doctorTable)
    assert "the table says why" in shell.ui.findStatusLabel.text
    add_endpoint(shell, archive.endpoint, "Another")
    assert not shell.ui.doctorFrame.isVisible(), "the report was of the other archive"


@pytest.fixture
def ward(tmp_path):
    """An archive with two patients; the first one has two studies, and the second of these two series."""
    anna, ben = ("Ward^Anna", "W-1"), ("Ward^Ben", "W-2")
    with InstanceStore(tmp_path / "ward") as store, Archive(store) as running:
        for number, (slices, (name, patient_id), study_uid) in enumerate(
            [(3, anna, "1.2.3.1"), (4, anna, "1.2.3.2"), (5, anna, "1.2.3.2"), (6, ben, "1.2.3.3")], 1
        ):
            datasets = make_series(
                body_phantom((slices, 16, 16)),
                patient_name=name,
                patient_id=patient_id,
                study_uid=study_uid,
                series_number=number,
                accession_number=f"W{study_uid[-1]}",
            )
            for path in save_series(datasets, tmp_path / f"series-{number}"):
                store.add_file(path)
        yield running


def lines(shell) -> list[tuple[str, ...]]:
    """Return the tree's lines as title, series count and image count, each with a dot for its depth."""
    found = []

    def add(item, depth: int) -> None:
        found.append(("." * depth + item.text(0), item.text(3), item.text(4)))
        for row in range(item.childCount()):
            add(item.child(row), depth + 1)

    tree = shell.ui.studyTree
    for row in range(tree.topLevelItemCount):
        add(tree.topLevelItem(row), 0)
    return found


def test_patients_studies_and_series_with_their_counts(shell, ward):
    tree = shell.ui.studyTree
    add_endpoint(shell, ward.endpoint)
    shell.type(shell.ui.patientNameLineEdit, "Ward*")
    ask(shell, shell.ui.findButton)
    assert "Studies found: 3" in shell.ui.findStatusLabel.text
    shell.click_header(tree, 0)
    if lines(shell)[0][0].startswith("Ward^Ben"):
        shell.click_header(tree, 0)
    expected = [("Ward^Anna (W-1)", "3", "12"), ("Ward^Ben (W-2)", "1", "6")]
    assert [line for line in lines(shell) if not line[0].startswith(".")] == expected
    shell.click_header(tree, 4)
    if lines(shell)[0][2] == "6":
        shell.click_header(tree, 4)
    counts = [line[2] for line in lines(shell)]
    assert counts == ["12", "9", "3", "6", "6"], "by number and not by letter, patients and studies alike"
    tree.topLevelItem(0).child(0).setSelected(True)
    shell.wait_until(lambda: "Series in the study: 2" in shell.ui.findStatusLabel.text, SLOW_S)
    assert ("..3: Synthetic series", "", "5") in lines(shell)
    assert not shell.ui.loadButton.isEnabled(), "a study with two image series leaves the choice to the person"
    shell.click_item(tree, "2: Synthetic series")
    shell.click_item(tree, "3: Synthetic series", extend=True)
    assert shell.ui.loadButton.isEnabled()
    assert shell.ui.seriesLabel.text == "2 series: CT 3: Synthetic series, CT 2: Synthetic series"
    assert "exactly one series, and 2" in shell.ui.runAllButton.toolTip
    assert not shell.ui.runAllButton.isEnabled()


def test_every_key_narrows_the_search(shell, ward):
    ui = shell.ui
    add_endpoint(shell, ward.endpoint)

    def patients() -> list[str]:
        ask(shell, ui.findButton)
        return sorted(ui.studyTree.topLevelItem(row).text(0) for row in range(ui.studyTree.topLevelItemCount))

    anna, ben = "Ward^Anna (W-1)", "Ward^Ben (W-2)"
    assert patients() == [anna, ben]
    for field, text, expected in (
        (ui.patientIDLineEdit, "W-2", [ben]),
        (ui.patientNameLineEdit, "*Anna", [anna]),
        (ui.accessionLineEdit, "W1", [anna]),
        (ui.studyDateLineEdit, "-20251231", []),
        (ui.studyDateLineEdit, "20260101-20260103", [anna, ben]),
    ):
        shell.type(field, text)
        assert patients() == expected
        shell.type(field, "")
    shell.choose(ui.modalityComboBox, "MR")
    assert patients() == []
    assert ui.findStatusLabel.text == "No study matches."
    shell.choose(ui.modalityComboBox, "CT")
    assert patients() == [anna, ben]
    shell.type(ui.studyDateLineEdit, "yesterday")
    ask(shell, ui.findButton)
    assert "date" in ui.findStatusLabel.text
    assert not shell.dialogs.shown


def test_a_study_whose_series_could_not_be_listed_can_be_asked_again(shell, series, tmp_path):
    with InstanceStore(tmp_path / "archive") as store:
        with Archive(store) as running:
            for copy in (series, save_series(make_series(body_phantom((3, 16, 16))), tmp_path / "other")):
                for path in copy:
                    store.add_file(path)
            add_endpoint(shell, running.endpoint)
            ask(shell, shell.ui.findButton)
        shell.click_item(shell.ui.studyTree, "Synthetic study")
        shell.wait_until(shell.ui.findDetailsButton.isVisible, SLOW_S)
        assert not runner_of(shell).busy
        with Archive(store, port=running.port):
            shell.click_item(shell.ui.studyTree, "Synthetic study")
            shell.wait_until(lambda: "Series in the study: 1" in shell.ui.findStatusLabel.text, SLOW_S)
