"""What a person does to a segmentation node between the model and the archive."""

from dataclasses import replace

import numpy as np
import pytest
from AIDicomBridgeLib.errors import ConflictError, EncodingError
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.terminology import choose_terminology, terminology_entry
from AIDicomBridgeLib.mrml.volume_node import image_array
from AIDicomBridgeLib.results.edited_segments import mark_edited, with_fingerprints
from AIDicomBridgeLib.results.labels import Code, Segment

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
