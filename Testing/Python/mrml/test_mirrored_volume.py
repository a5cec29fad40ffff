"""Slicer's loader may mirror a volume: what is drawn on it still lands on the frames of the source."""

import numpy as np
import pytest
from AIDicomBridgeLib.errors import GeometryError
from AIDicomBridgeLib.mrml.coordinates import ijk_to_ras_matrix
from AIDicomBridgeLib.mrml.segment_summary import summarize_in_steps
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.terminology import terminology_entry
from AIDicomBridgeLib.mrml.volume_node import fill_image, scalar_volume_node
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.series.volume import ImageVolume
from synthetic import OBLIQUE

from .conftest import ANATOMY, mirrored

FLIPS = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
LESION = Segment(1, "Lesion", ANATOMY, Code("52988006", "SCT", "Lesion"), algorithm_name="Test")
BOX = (slice(2, 5), slice(7, 19), slice(11, 40))  # in the source's order; no flip leaves it where it is


@pytest.fixture(params=FLIPS, ids=str)
def flipped(request, core, volume_of) -> tuple[ImageVolume, object, tuple[int, ...]]:
    """Return a volume, the node that Slicer's loader would have made of it, and the axes that it mirrored."""
    volume = volume_of(orientation=OBLIQUE, spacing_mm=(5.0, 0.25, 1.75))
    affine = mirrored(volume.ijk_to_lps, volume.voxels.shape, request.param)
    return volume, scalar_volume_node(np.flip(volume.voxels, request.param), affine, core.scene, "L"), request.param


def drawn(volume: ImageVolume, axes: tuple[int, ...], box: tuple[slice, ...]) -> tuple[object, np.ndarray]:
    """Return a box as the Segment Editor hands it over: on the mirrored grid, only as large as it must be."""
    import slicer

    mask = np.zeros(volume.voxels.shape, np.uint8)
    mask[box] = 1
    found = np.flip(mask, axes)
    at = np.argwhere(found)
    low, high = at.min(axis=0), at.max(axis=0) + 1
    image = fill_image(slicer.vtkOrientedImageData(), np.ascontiguousarray(found[tuple(map(slice, low, high))]))
    image.SetImageToWorldMatrix(ijk_to_ras_matrix(mirrored(volume.ijk_to_lps, mask.shape, axes)))
    (k, j, i), (k_end, j_end, i_end) = low, high - 1
    image.SetExtent(*(int(end) for end in (i, i_end, j, j_end, k, k_end)))
    return image, mask


def test_what_is_drawn_on_it_lands_on_the_source(core, flipped):
    volume, volume_node, axes = flipped
    node = core.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    image, mask = drawn(volume, axes, BOX)
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "Lesion")
    target = node.GetSegmentation().GetNthSegment(0)
    target.SetTag(target.GetTerminologyEntryTagName(), terminology_entry(LESION))
    labels = label_volume_from(node, volume.source)
    np.testing.assert_array_equal(labels.labels, mask)
    assert labels.labels.flags.c_contiguous
    *_, (shown,) = summarize_in_steps(node, volume.source)
    assert shown.volume_ml == pytest.approx(measure(labels, volume)[0].volume_ml)


def test_what_is_added_to_a_models_segment_lands_on_the_source(core, flipped):
    import slicer

    volume, volume_node, axes = flipped
    by_model = np.zeros(volume.voxels.shape, np.uint8)
    by_model[1:7, 20:30, 5:9] = 1
    node = segmentation_node_from(
        LabelVolume(by_model.copy(), (LESION,), source=volume.source), core.scene, volume_node=volume_node
    )
    image, mask = drawn(volume, axes, BOX)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, node, "Segment_1", logic.MODE_MERGE_MAX, image.GetExtent())
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels > 0, (by_model | mask) > 0)


def test_a_models_segments_laid_out_anew_on_it_come_back(core, flipped):
    """As when a person changes the source geometry in the Segment Editor."""
    import slicer
    import vtk

    volume, volume_node, _ = flipped
    by_model = np.zeros(volume.voxels.shape, np.uint8)
    by_model[BOX] = 1
    labels = LabelVolume(by_model, (LESION,), source=volume.source)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node)
    logic, label_node = slicer.vtkSlicerSegmentationsModuleLogic, slicer.vtkMRMLLabelMapVolumeNode()
    core.scene.AddNode(label_node)
    ids = vtk.vtkStringArray()
    ids.InsertNextValue("Segment_1")
    assert logic.ExportSegmentsToLabelmapNode(node, ids, label_node, volume_node)
    assert logic.ImportLabelmapToSegmentationNode(label_node, node, ids)
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels > 0, by_model > 0)


def test_axes_that_were_swapped_lose_nothing_either(core, volume_of):
    volume = volume_of(orientation=OBLIQUE, spacing_mm=(5.0, 0.25, 1.75))
    import slicer

    swapped = volume.ijk_to_lps[:, [1, 2, 0, 3]]  # i, j, k run along the source's j, k, i
    mask = np.zeros(volume.voxels.shape, np.uint8)
    mask[BOX] = 1
    image = fill_image(slicer.vtkOrientedImageData(), np.ascontiguousarray(mask.transpose(2, 0, 1)))
    image.SetImageToWorldMatrix(ijk_to_ras_matrix(swapped))
    node = segmentation_node_from(LabelVolume(mask, (LESION,), source=volume.source), core.scene)
    node.GetSegmentation().GetNthSegment(0).AddRepresentation("Binary labelmap", image)
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels, mask)


def test_half_a_voxel_beside_is_refused(core, volume_of):
    volume = volume_of()
    labels = LabelVolume(np.ones(volume.voxels.shape, np.uint8), (LESION,), source=volume.source)
    node = segmentation_node_from(labels, core.scene)
    layer = node.GetBinaryLabelmapInternalRepresentation("Segment_1")
    affine = volume.ijk_to_lps.copy()
    affine[0, 0] *= 1 + 0.5 / 48  # half a voxel at the last column, 0.006 mm a voxel
    layer.SetImageToWorldMatrix(ijk_to_ras_matrix(affine))
    with pytest.raises(GeometryError, match="not on the grid"):
        label_volume_from(node, volume.source)
    *_, (shown,) = summarize_in_steps(node, volume.source)
    assert not shown.on_slices, "what is shown says that it is no report's volume"
    assert shown.volume_ml > 0
