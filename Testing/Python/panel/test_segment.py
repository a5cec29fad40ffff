"""Stage 3 by clicks: models run, and the window answers meanwhile."""

import numpy as np
from shell.beats import Beats
from shell.steps import SLOW_S, find_and_load, runner_of, segment, volumes
from synthetic import make_series, save_series


def test_the_segment_editor_is_one_click_away(shell, archive):
    import slicer

    assert "no segmentation yet" in shell.ui.editSegmentsButton.toolTip
    find_and_load(shell, archive)
    node = segment(shell)
    shell.click(shell.ui.editSegmentsButton)
    assert shell.selected_modules == ["SegmentEditor"]
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    assert editor.segmentationNode() is node
    assert editor.sourceVolumeNode() is shell.ui.volumeComboBox.currentNode()


def test_the_window_stays_alive_while_the_worker_computes(shell, archive):
    find_and_load(shell, archive)
    shell.click(shell.ui.segmentButton)
    while_waiting, others = Beats(runner_of(shell)).run_until_idle()
    print(f"gaps of a 20 ms timer: {np.median(while_waiting):.0f} ms at the median, {while_waiting.max():.0f} at most")  # noqa: T201
    print(f"then, putting the result into the scene: {others.max():.0f} ms")  # noqa: T201
    assert while_waiting.max() < 2000


def test_a_volume_that_was_changed_in_slicer_is_refused_and_its_voxels_are_not_copied(shell, archive, monkeypatch):
    import slicer
    from AIDicomBridgeLib.mrml import volume_node as volume_nodes

    monkeypatch.delattr(volume_nodes, "_as_image_type")  # the copy that the window would have to wait for
    find_and_load(shell, archive)
    volume = slicer.util.arrayFromVolume(shell.ui.volumeComboBox.currentNode())
    volume[2, 3, 4] += 1
    for button in (shell.ui.planButton, shell.ui.segmentButton):
        shell.click(button)
        shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
        assert "voxels of the volume node are not those of its DICOM files" in shell.ui.segmentStatusLabel.text
    assert shell.ui.segmentationComboBox.currentNode() is None
    volume[2, 3, 4] -= 1
    assert segment(shell) is not None


def test_a_model_that_found_nothing_says_so(shell, tmp_path):
    air = make_series(np.full((4, 16, 16), -1000, np.int16))
    shell.ui.volumeComboBox.setCurrentNode(shell.logic.loadSeries(save_series(air, tmp_path / "air")))
    shell.choose(shell.ui.modelComboBox, "ct-tissues")
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S)
    assert "the model has found nothing" in shell.ui.segmentStatusLabel.text
    assert set(volumes(shell).values()) == {0.0}


def test_surfaces_that_take_long_are_left_to_the_person(shell, archive, monkeypatch):
    from AIDicomBridgeLib.panel import segment_stage

    shown = []
    monkeypatch.setattr(segment_stage, "show_surfaces", lambda node, wanted: shown.append((node, wanted)))
    monkeypatch.setattr(segment_stage, "SURFACES_S", 60.0)
    find_and_load(shell, archive)
    small = segment(shell)
    assert shown == [(small, True)]
    monkeypatch.setattr(segment_stage, "SURFACES_S", 0.001)
    large = segment_anew(shell)
    assert (large, True) not in shown
    assert shell.ui.show3DCheckBox.checked, "the choice stays, for the next result and in the saved scene"
    shell.click(shell.ui.surfacesButton)
    assert shown[-1] == (large, True)
    assert not shell.ui.surfacesButton.isVisible()
    monkeypatch.setattr(segment_stage, "SURFACES_S", 60.0)
    next_one = segment_anew(shell)
    assert shown[-1] == (next_one, True)


def segment_anew(shell) -> object:
    before = shell.ui.segmentationComboBox.currentNode()
    shell.click(shell.ui.segmentButton)
    shell.wait_until(lambda: not runner_of(shell).busy, SLOW_S, "the end of the run")
    node = shell.ui.segmentationComboBox.currentNode()
    assert node is not before
    return node


def test_weights_of_unknown_size_are_said_to_be_so(shell):
    from dataclasses import replace

    stage = shell.widget.panel.segment
    shell.choose(shell.ui.modelComboBox, "mindgrab")
    assert "0.6 MB" in shell.ui.weightsLabel.text
    card = stage.card
    stage._cards["mindgrab"] = replace(card, weights=replace(card.weights, size=0))
    stage.update("")
    assert "size unknown" in shell.ui.weightsLabel.text
    assert "0.0 MB" not in shell.ui.weightsLabel.text


def test_the_advanced_options_reach_the_run_and_stay_with_the_scene(shell, archive, monkeypatch):
    find_and_load(shell, archive)
    ui, worker, runs = shell.ui, runner_of(shell).worker, []
    assert not ui.precisionComboBox.isVisible(), "folded away until somebody asks for them"
    submit = worker.submit

    def note(call, /, **arguments):
        runs.extend([arguments["run"]] if call in ("plan", "segment") else [])
        return submit(call, **arguments)

    monkeypatch.setattr(worker, "submit", note)
    segment(shell)
    assert [(run.precision, run.mirror, run.memory_limit_bytes) for run in runs] == [("auto", True, None)] * 2
    assert not ui.planLabel.text.startswith("worked out when")
    shell.click(ui.advancedCollapsibleButton)
    shell.choose(ui.precisionComboBox, "float32")
    assert ui.planLabel.text.startswith("worked out when"), "a plan holds for the options that it was made for"
    shell.type(ui.memoryLimitSpinBox, "6.5", enter=True)
    shell.click(ui.mirrorCheckBox)
    runs.clear()
    segment_anew(shell)
    assert [(run.precision, run.mirror, run.memory_limit_bytes) for run in runs] == [
        ("float32", False, 6_500_000_000)
    ] * 2
    parameters = shell.logic.getParameterNode()
    assert (parameters.precision, parameters.mirror, parameters.memoryLimitGB) == ("float32", False, 6.5)
    shell.scene.Clear(0)
    assert (ui.precisionComboBox.currentText, ui.mirrorCheckBox.checked) == ("auto", True)
    assert ui.memoryLimitSpinBox.text == "all that is free"
