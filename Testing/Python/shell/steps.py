"""What a person does at the panel, step by step: the hands of the tests.

With AIDICOMBRIDGE_SCREENSHOTS set, a picture of each step is left in that folder.
"""

import os
from pathlib import Path

import numpy as np
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint

NAME, PATIENT_ID, SECRET = "Canary^Patient", "CANARY-7", "canary-secret"
SLOW_S = 60.0


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
    shell.wait_until(shell.ui.findButton.isEnabled, SLOW_S, "the end of what runs by itself")
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
    shell.wait_until(lambda: shell.ui.segmentsTable.rowCount > 0, SLOW_S, "the volumes of its segments")
    picture(shell, "3-segment")
    return shell.ui.segmentationComboBox.currentNode()


def paint(shell, segment: str) -> None:
    """Correct a segment in the Segment Editor with one stroke, and come back."""
    import qt
    import slicer

    shell.click(shell.ui.editSegmentsButton)
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    shell.click_item(editor.segmentsTableView.findChild(qt.QTableWidget), segment)
    shell.type(editor.sliceSpinBox, "3")
    shell.drag(editor.slice, qt.QPoint(100, 90), qt.QPoint(180, 150))
    picture(shell, "9-editor")
    slicer.util.selectModule("AIDicomBridge")


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


def voxels_of(node) -> dict[str, np.ndarray]:
    """Return where each segment of a node is, on the grid of its reference volume."""
    import slicer

    reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(number) for number in range(segmentation.GetNumberOfSegments())]
    return {
        segmentation.GetSegment(i).GetName(): slicer.util.arrayFromSegmentBinaryLabelmap(node, i, reference) != 0
        for i in ids
    }


def controls(shell) -> list:
    import qt

    kinds = (qt.QAbstractButton, qt.QComboBox, qt.QLineEdit, qt.QAbstractSpinBox)
    named = [widget for widget in vars(shell.ui).values() if isinstance(widget, kinds)]
    assert len(named) > 20
    return named


def silent(shell) -> list[str]:
    return [widget.objectName for widget in controls(shell) if not widget.isEnabled() and not widget.toolTip]
