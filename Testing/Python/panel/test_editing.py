"""Between model and archive by clicks: what a person corrects, adds and names is what is sent."""

from unittest import mock

import numpy as np
from AIDicomBridgeLib import read_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from shell.steps import SLOW_S, add_endpoint, find_and_load, modalities, runner_of, segment, send, volumes


def segmentation_of(archive, series):
    (sent,) = [i.path for i in archive.store.instances() if i.attributes["Modality"] == "SEG"]
    return read_segmentation(sent, SourceSeries.from_files(series))


def draw(node, name: str, box: tuple[slice, ...]) -> str:
    """Add a segment and paint a box, as the Segment Editor does; return its ID."""
    import slicer

    segment_id = node.GetSegmentation().AddEmptySegment("", name)
    volume = slicer.util.arrayFromVolume(node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()))
    array = np.zeros(volume.shape, np.uint8)
    array[box] = 1
    reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, reference)
    return segment_id


def row_of(shell, name: str) -> int:
    table = shell.ui.segmentsTable
    return next(row for row in range(table.rowCount) if table.item(row, 1).text() == name)


def choose_button(shell, name: str):
    return shell.ui.segmentsTable.cellWidget(row_of(shell, name), 3)


def test_a_segment_added_by_hand_is_named_in_slicers_terminology_and_sent_as_manual(shell, archive, series):
    import qt

    find_and_load(shell, archive)
    node = segment(shell)
    box = (slice(0, 2), slice(0, 3), slice(0, 4))  # where the model found nothing
    draw(node, "Lesion", box)
    shell.wait_until(lambda: "Lesion" in volumes(shell), what="the new segment in the list")
    assert choose_button(shell, "Fat") is None
    shell.click(choose_button(shell, "Lesion"))
    dialog = shell.widget.panel.segment.segments.dialog
    assert not dialog.select_button.isEnabled()
    assert dialog.select_button.toolTip
    shell.click_item(dialog.navigator.table_of_types(), "Mass")
    shell.click(dialog.select_button)
    shell.wait_until(lambda: "Mass" in shell.texts(shell.ui.segmentsTable), what="the choice in the list")
    assert choose_button(shell, "Lesion") is None
    assert not any(isinstance(w, qt.QDialog) and w.isVisible() for w in qt.QApplication.topLevelWidgets())
    shell.click(shell.ui.scCheckBox)
    send(shell)
    labels = segmentation_of(archive, series)
    assert (labels.labels[box] == labels.segment("Lesion").label).all()
    assert labels.segment("Lesion").type.value == "4147007"
    types = {found.name: found.algorithm_type for found in labels.segments}
    assert types == dict.fromkeys(("Air in the body", "Fat", "Muscle", "Bone"), "AUTOMATIC") | {"Lesion": "MANUAL"}


def test_a_correction_while_the_labels_are_handed_over_is_refused_and_then_sent_as_semiautomatic(
    shell, archive, series, monkeypatch
):
    import slicer

    monkeypatch.setattr("AIDicomBridgeLib.panel.task_runner.BITE_S", 0)
    find_and_load(shell, archive)
    node = segment(shell)
    shell.click(shell.ui.scCheckBox)
    add_endpoint(shell, archive.endpoint)
    shell.click(shell.ui.sendButton)
    shell.click(shell.ui.confirmButton)
    assert runner_of(shell).busy
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "Segment_4")[0, :5, :5] = 4
    node.GetBinaryLabelmapInternalRepresentation("Segment_4").Modified()
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "was edited while it was being made ready to send" in shell.ui.sendStatusLabel.text
    assert set(modalities(archive)) == {"CT"}
    send(shell)
    types = {found.name: found.algorithm_type for found in segmentation_of(archive, series).segments}
    assert types["Bone"] == "SEMIAUTOMATIC"
    assert types["Muscle"] == "AUTOMATIC"


def test_cancelled_or_overtaken_the_terminology_dialog_changes_nothing(shell, archive):
    find_and_load(shell, archive)
    node = segment(shell)
    draw(node, "Lesion", (slice(0, 1),) * 3)
    shell.wait_until(lambda: "Lesion" in volumes(shell))
    shell.click(choose_button(shell, "Lesion"))
    shell.click(shell.widget.panel.segment.segments.dialog.cancel_button)
    assert choose_button(shell, "Lesion") is not None
    shell.click(choose_button(shell, "Lesion"))
    shell.scene.RemoveNode(node)
    shell.process()
    assert not shell.widget.panel.segment.segments.dialog


def test_an_edit_takes_the_question_back(shell, archive):
    find_and_load(shell, archive)
    node = segment(shell)
    add_endpoint(shell, archive.endpoint)
    shell.click(shell.ui.sendButton)
    assert shell.ui.confirmGroupBox.isVisible()
    draw(node, "Lesion", (slice(0, 1),) * 3)
    assert not shell.ui.confirmGroupBox.isVisible()


def test_the_self_test_finds_the_terminology_navigator(shell):
    import slicer

    module = slicer.modules.aidicombridge.python()
    module.AIDicomBridgeTest().test_terminology_navigator()


def drawn_on(shell, files):
    """Load a volume, make a segmentation of it with one drawn segment, and choose it; return its node."""
    import slicer

    volume_node = shell.logic.loadSeries(files)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    draw(node, "First", (slice(0, 2),) * 3)
    shell.ui.segmentationComboBox.setCurrentNode(node)
    shell.wait_until(lambda: "First" in volumes(shell), what="the segment in the list")
    return node


def test_nothing_is_counted_while_another_module_is_shown(shell, series):
    from AIDicomBridgeLib.panel import segment_list

    node = drawn_on(shell, series)
    counted = []
    shell.widget.exit()
    with mock.patch.object(segment_list, "summarize_in_steps", lambda node, source: counted.append(node) or iter([[]])):
        draw(node, "Second", (slice(0, 1),) * 3)
        shell.widget.panel.segment.segments._recount.timeout.emit()
        shell.process()
        assert counted == []
    assert "Second" not in volumes(shell)
    shell.widget.enter()
    shell.wait_until(lambda: "Second" in volumes(shell), what="the new segment in the list")


def test_the_list_is_counted_in_bites(shell, series, monkeypatch):
    from AIDicomBridgeLib.panel import segment_list

    monkeypatch.setattr(segment_list, "BITE_S", 0.0)
    node = drawn_on(shell, series)
    segments = shell.widget.panel.segment.segments
    segments._show()
    assert segments._next_bite.isActive(), "the window has its turn"
    draw(node, "Second", (slice(0, 1),) * 3)
    assert not segments._next_bite.isActive(), "an edit begins anew"
    shell.wait_until(lambda: "Second" in volumes(shell), what="the new segment in the list")


def test_it_is_said_which_volume_is_shown_and_counted_anew_once_the_series_is_known(shell, series):
    drawn_on(shell, series)
    assert "as the measurement report states it" in shell.ui.segmentsTable.item(0, 2).toolTip()
    sources = shell.logic.sourceFiles
    (source,) = {id(known): known for known in sources._known.values()}.values()
    sources.forget()
    shell.widget.panel.update()
    assert "Its series is not known here" in shell.ui.segmentsTable.item(0, 2).toolTip()
    sources.remember(source)
    shell.widget.panel.update()
    assert "as the measurement report states it" in shell.ui.segmentsTable.item(0, 2).toolTip()


def test_small_empty_and_unvoxeled_segments_are_not_shown_as_nothing(shell, series):
    import slicer

    node = drawn_on(shell, series)
    draw(node, "Small", (slice(0, 1), slice(0, 3), slice(5, 12)))
    node.GetSegmentation().AddEmptySegment("", "Empty with a name that is too long for its column")
    surface = slicer.vtkSegment()
    surface.SetName("Surface")
    node.GetSegmentation().AddSegment(surface)
    surface.RemoveRepresentation("Binary labelmap")
    shell.wait_until(lambda: shell.ui.segmentsTable.rowCount == 4, what="all segments in the list")
    table = shell.ui.segmentsTable
    shown = {table.item(row, 1).text(): table.item(row, 2) for row in range(table.rowCount)}
    texts = {name.split()[0]: item.text() for name, item in shown.items()}
    assert texts == {"First": "0.0115", "Small": "0.0302", "Empty": "0", "Surface": "-"}
    assert "Binary labelmap" in shown["Surface"].toolTip()
    assert table.item(2, 1).toolTip() == "Empty with a name that is too long for its column"


def test_another_segmentation_in_the_node_is_seen_and_takes_the_question_back(shell, series):
    import slicer

    node = drawn_on(shell, series)
    edited = []
    monitor, shell.widget.panel.segment.segments.on_edited = edited.append, lambda: monitor(1)
    other = slicer.vtkSegmentation()
    other.DeepCopy(node.GetSegmentation())
    node.SetAndObserveSegmentation(other)
    assert edited
    edited.clear()
    other.GetNthSegment(0).SetName("Renamed")
    assert edited
    shell.wait_until(lambda: "Renamed" in volumes(shell), what="the new name in the list")
