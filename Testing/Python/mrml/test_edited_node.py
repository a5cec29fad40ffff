"""What a person does to a segmentation node between the model and the archive."""

from dataclasses import replace

import numpy as np
import pytest
from AIDicomBridgeLib.errors import ConflictError, EncodingError
from AIDicomBridgeLib.mrml.coordinates import ijk_to_ras_matrix
from AIDicomBridgeLib.mrml.segment_summary import summarize_in_steps
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.terminology import choose_terminology, terminology_entry
from AIDicomBridgeLib.mrml.volume_node import fill_image, image_array
from AIDicomBridgeLib.results.checked_results import write_checked_results
from AIDicomBridgeLib.results.edited_segments import mark_edited, with_fingerprints
from AIDicomBridgeLib.results.labels import Code, Segment
from AIDicomBridgeLib.results.segmentation import read_segmentation
from AIDicomBridgeLib.series.volume import read_volume

from .conftest import ANATOMY, organ_labels

TISSUE = Code("85756007", "SCT", "Tissue")


@pytest.fixture
def labels(volume_of):
    return with_fingerprints(organ_labels(volume_of()))


@pytest.fixture
def node(core, labels):
    return segmentation_node_from(labels, core.scene)


def algorithm_types(node, source):
    return {s.name: s.algorithm_type for s in mark_edited(label_volume_from(node, source)).segments}


def test_an_edit_in_the_node_makes_its_segment_semiautomatic(labels, node):
    unchanged = {"Bone": "AUTOMATIC", "Right lung": "AUTOMATIC", "Left lung": "MANUAL"}
    assert algorithm_types(node, labels.source) == unchanged
    image_array(node.GetBinaryLabelmapInternalRepresentation("Segment_2"))[0, :3, :3] = 2
    assert algorithm_types(node, labels.source) == unchanged | {"Bone": "SEMIAUTOMATIC"}


def test_slicers_default_terminology_is_nobodys_word(labels, node):
    segmentation = node.GetSegmentation()
    added = segmentation.GetSegment(segmentation.AddEmptySegment("mine", "Blob"))
    with pytest.raises(EncodingError, match="'Blob' has no terminology that a person chose"):
        label_volume_from(node, labels.source)
    choose_terminology(added, terminology_entry(Segment(1, "Blob", TISSUE, TISSUE)))
    assert label_volume_from(node, labels.source).segment("Blob").type == TISSUE


def test_the_default_terminology_of_older_slicers_is_nobodys_word_either(labels, node):
    tissue = Code("T-D0050", "SRT", "Tissue")
    added = node.GetSegmentation().GetSegment(node.GetSegmentation().AddEmptySegment("mine", "Blob"))
    added.SetTerminology(terminology_entry(Segment(1, "Blob", tissue, tissue)))
    with pytest.raises(EncodingError, match="'Blob' has no terminology that a person chose"):
        label_volume_from(node, labels.source)


def test_a_type_that_was_set_in_slicer_counts(labels, node):
    segmentation = node.GetSegmentation()
    added = segmentation.GetSegment(segmentation.AddEmptySegment("mine", "Blob"))
    lesion = Code("52988006", "SCT", "Lesion")
    added.SetTerminology(terminology_entry(Segment(1, "Blob", ANATOMY, lesion)))
    assert label_volume_from(node, labels.source).segment("Blob").type == lesion


def test_a_segmentation_remembers_its_source(labels, node, volume_of):
    other = volume_of(patient_id="SOMEBODY-ELSE").source
    assert np.allclose(other.ijk_to_lps, labels.source.ijk_to_lps)
    with pytest.raises(ConflictError, match="another series"):
        label_volume_from(node, other)


def test_a_segment_that_was_copied_from_another_patients_segmentation_is_refused(labels, node, volume_of, core):
    other = replace(labels, source=volume_of(patient_id="SOMEBODY-ELSE").source)
    theirs = segmentation_node_from(other, core.scene).GetSegmentation()
    segmentation = node.GetSegmentation()
    segmentation.RemoveSegment("Segment_2")
    assert segmentation.CopySegmentFromSegmentation(theirs, "Segment_2")
    with pytest.raises(ConflictError, match="'Bone' was made from another series and copied here"):
        label_volume_from(node, labels.source)


def test_a_copy_of_a_segment_is_a_segment_of_its_own(labels, node, tmp_path):
    """Slicer copies the tracking UID, as whatever else a segment carries."""
    segmentation = node.GetSegmentation()
    assert segmentation.CopySegmentFromSegmentation(segmentation, "Segment_5")
    with_copy = label_volume_from(node, labels.source)
    (seg, _), (_, _) = write_checked_results(
        with_copy, read_volume(labels.source), tmp_path / "results", outputs=("seg", "sr")
    )
    back = read_segmentation(seg.path, labels.source)
    assert [segment.name for segment in back.segments].count("Right lung") == 2
    assert len({segment.tracking_uid for segment in back.segments}) == 4
    assert "2.25.1234567" in {segment.tracking_uid for segment in back.segments}


@pytest.mark.parametrize("name", ["", " \n"])
def test_a_segment_without_a_name_is_refused(labels, node, name):
    node.GetSegmentation().GetSegment("Segment_5").SetName(name)
    with pytest.raises(EncodingError, match="segment with the label 5 has no name"):
        label_volume_from(node, labels.source)


def test_a_colour_that_is_none_is_the_nearest_one(labels, node):
    node.GetSegmentation().GetSegment("Segment_5").SetColor(float("nan"), 1.2, -0.1)
    assert label_volume_from(node, labels.source).segment("Right lung").color_rgb == (0, 255, 0)
    assert [found.color_rgb for found in list(summarize_in_steps(node))[-1]][1] == (0, 255, 0)


@pytest.mark.parametrize(("dtype", "background"), [(np.int16, -1), (np.float32, np.nan)])
def test_label_arrays_of_any_type_are_listed_and_sent(labels, node, dtype, background):
    import slicer

    array = labels.labels.astype(dtype)
    array[labels.labels == 0] = background
    image = fill_image(slicer.vtkOrientedImageData(), array)
    image.SetImageToWorldMatrix(ijk_to_ras_matrix(labels.ijk_to_lps))
    expected = [found.volume_ml for found in list(summarize_in_steps(node))[-1]]
    for index in range(3):
        node.GetSegmentation().GetNthSegment(index).AddRepresentation("Binary labelmap", image)
    assert [found.volume_ml for found in list(summarize_in_steps(node))[-1]] == expected
    np.testing.assert_array_equal(label_volume_from(node, labels.source).labels, labels.labels)


def test_an_algorithm_name_comes_back_from_a_file_whole(core, labels, tmp_path):
    """A "|" parts the tags there."""
    lung = replace(labels.segments[1], algorithm_name="this|that")
    node = segmentation_node_from(replace(labels, segments=(labels.segments[0], lung, labels.segments[2])), core.scene)
    storage = core.scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "result.seg.nrrd"))
    assert storage.WriteData(node)
    read = core.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(read)
    assert label_volume_from(read, labels.source).segment("Right lung").algorithm_name == "this/that"
