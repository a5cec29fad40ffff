"""Stage 2 by clicks: series become volumes, and volumes of the scene are taken."""

from shell.steps import SLOW_S, add_endpoint, find_and_load, runner_of, segment


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


def test_the_volume_is_removed_while_it_is_segmented(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    shell.scene.RemoveNode(shell.ui.volumeComboBox.currentNode())
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "removed from the scene" in shell.ui.segmentStatusLabel.text
    assert shell.ui.segmentationComboBox.nodeCount() == 0
