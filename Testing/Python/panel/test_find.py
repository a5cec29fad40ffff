"""Stage 1 by clicks: archives are written down, tested and asked."""

from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint
from shell.steps import SECRET, SLOW_S, add_endpoint, runner_of


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


def test_credentials_are_entered_once(shell):
    add_endpoint(shell, DicomWebEndpoint("", "https://pacs.example.org/dicom-web"), "Web")
    shell.type(shell.ui.findPasswordLineEdit, SECRET)
    assert shell.ui.sendPasswordLineEdit.text == SECRET
    shell.type(shell.ui.sendUserLineEdit, "canary-user")
    assert shell.ui.findUserLineEdit.text == "canary-user"
    assert shell.widget.panel.send.chooser.connectable().auth == ("canary-user", SECRET)
    shell.click(shell.ui.removeEndpointButton)
    assert shell.ui.findPasswordLineEdit.text == ""
