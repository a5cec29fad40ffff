"""What is drawn on a volume that no longer lies where its files do has no frames: it is refused, not put elsewhere."""

import numpy as np
import pytest
from AIDicomBridgeLib.errors import GeometryError
from AIDicomBridgeLib.mrml.console_calls import ConsoleCalls
from AIDicomBridgeLib.mrml.coordinates import ijk_to_ras_matrix
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.terminology import terminology_entry
from AIDicomBridgeLib.mrml.volume_node import fill_image, scalar_volume_node, volume_node_from
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment

from .conftest import ANATOMY, put_under_transform, shift

LESION = Segment(1, "Lesion", ANATOMY, Code("52988006", "SCT", "Lesion"), algorithm_type="MANUAL")
BOX = (2, slice(7, 19), slice(3, 8))  # one slice, columns on the left
CROP = (slice(1, 6), slice(5, 30), slice(2, 40))


@pytest.fixture
def volume(volume_of):
    return volume_of(spacing_mm=(5.0, 0.8, 0.8))


@pytest.fixture
def volume_node(core, volume):
    return volume_node_from(volume, core.scene)


def mirror(volume_node) -> np.ndarray:
    """Return what swaps left and right of a volume about its own middle."""
    bounds = [0.0] * 6
    volume_node.GetRASBounds(bounds)
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = bounds[0] + bounds[1]
    return matrix


def drawn_on(volume_node, array: np.ndarray):
    """Return a segmentation with an array drawn on a volume: where the volume is seen, whatever moved it there."""
    import slicer
    import vtk

    scene = volume_node.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    label_node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    place = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(place)
    label_node.SetIJKToRASMatrix(place)
    label_node.SetAndObserveImageData(fill_image(vtk.vtkImageData(), array))
    label_node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    assert slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(label_node, node)
    target = node.GetSegmentation().GetNthSegment(0)
    target.SetTag(target.GetTerminologyEntryTagName(), terminology_entry(LESION))
    return node


def lesion(volume) -> np.ndarray:
    mask = np.zeros(volume.voxels.shape, np.uint8)
    mask[BOX] = 1
    return mask


def test_a_volume_under_a_translation_is_refused(volume, volume_node):
    put_under_transform(volume_node, shift(slices=2))
    with pytest.raises(GeometryError, match=r"[Tt]he volume node is under a transform"):
        label_volume_from(drawn_on(volume_node, lesion(volume)), volume.source)


def test_a_volume_under_a_mirror_is_refused(volume, volume_node):
    put_under_transform(volume_node, mirror(volume_node))
    with pytest.raises(GeometryError, match=r"[Tt]he volume node is under a transform"):
        label_volume_from(drawn_on(volume_node, lesion(volume)), volume.source)


@pytest.mark.parametrize("slices", [2, 0.4])
def test_a_volume_with_another_origin_is_refused(volume, volume_node, slices):
    *in_plane, s = volume_node.GetOrigin()
    volume_node.SetOrigin(*in_plane, s + slices * 5.0)
    with pytest.raises(GeometryError, match=r"[Tt]he volume node was moved or turned"):
        label_volume_from(drawn_on(volume_node, lesion(volume)), volume.source)


def test_the_console_writes_nothing_of_what_was_drawn_on_a_moved_volume(volume, volume_node, tmp_path):
    console = ConsoleCalls()
    console.sourceFiles.remember(volume.source)
    put_under_transform(volume_node, shift(slices=2))
    drawn = drawn_on(volume_node, lesion(volume))
    with pytest.raises(GeometryError, match="under a transform"):
        console.exportSegmentation(drawn, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_models_segments_are_refused_too_while_their_volume_is_moved(core, volume, volume_node):
    """What was added to them since was drawn on the moved one."""
    node = segmentation_node_from(
        LabelVolume(lesion(volume), (LESION,), source=volume.source), core.scene, volume_node=volume_node
    )
    put_under_transform(volume_node, shift(slices=1))
    with pytest.raises(GeometryError, match="under a transform"):
        label_volume_from(node, volume.source)
    volume_node.SetAndObserveTransformNodeID(None)
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels, lesion(volume))


def test_a_transform_that_moves_nothing_is_no_matter(volume, volume_node):
    put_under_transform(volume_node, np.eye(4))
    labels = label_volume_from(drawn_on(volume_node, lesion(volume)), volume.source)
    np.testing.assert_array_equal(labels.labels, lesion(volume))


def copy_of(volume_node, voxels: np.ndarray, ijk_to_lps: np.ndarray):
    """Return another volume made from one, as the Crop Volume module does: it names the same instances."""
    node = scalar_volume_node(np.ascontiguousarray(voxels), ijk_to_lps, volume_node.GetScene(), "Cropped")
    for name in volume_node.GetAttributeNames():
        node.SetAttribute(name, volume_node.GetAttribute(name))
    return node


def test_what_is_drawn_on_a_cropped_volume_lands_on_the_source(volume, volume_node):
    affine = volume.ijk_to_lps.copy()
    affine[:, 3] = affine @ [*(part.start for part in reversed(CROP)), 1]
    cropped = copy_of(volume_node, volume.voxels[CROP], affine)
    labels = label_volume_from(drawn_on(cropped, lesion(volume)[CROP].copy()), volume.source)
    np.testing.assert_array_equal(labels.labels, lesion(volume))


def test_what_is_drawn_on_a_padded_volume_lands_on_the_source(volume, volume_node):
    affine = volume.ijk_to_lps.copy()
    affine[:, 3] = affine @ [-3, -3, -3, 1]
    padded = copy_of(volume_node, np.pad(volume.voxels, 3), affine)
    labels = label_volume_from(drawn_on(padded, np.pad(lesion(volume), 3)), volume.source)
    np.testing.assert_array_equal(labels.labels, lesion(volume))


def test_a_models_segments_come_back_from_below_a_resampled_volume(core, volume, volume_node):
    finer = volume.ijk_to_lps @ np.diag([0.5, 0.5, 0.25, 1.0])
    resampled = copy_of(volume_node, np.repeat(volume.voxels, 4, axis=0)[:, :, ::2], finer)
    node = segmentation_node_from(
        LabelVolume(lesion(volume), (LESION,), source=volume.source), core.scene, volume_node=resampled
    )
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels, lesion(volume))


def test_a_moved_volume_of_another_series_says_nothing_of_this_one(volume, volume_node, volume_of, core):
    """As where it was registered to this one, and the caller says what the segmentation belongs to."""
    other = volume_node_from(volume_of(patient_id=volume.source.headers[0].PatientID), core.scene)
    put_under_transform(other, shift(slices=2))
    mask = drawn_on(volume_node, lesion(volume))
    mask.SetNodeReferenceID(mask.GetReferenceImageGeometryReferenceRole(), other.GetID())
    np.testing.assert_array_equal(label_volume_from(mask, volume.source).labels, lesion(volume))


def test_a_series_that_is_one_grid_with_its_mirror_is_told_apart_by_its_instances(volume, volume_node):
    """A hardened mirror along the slices lies on the source's grid; its slices do not lie where they say."""
    affine = volume.ijk_to_lps @ np.diag([1.0, 1.0, -1.0, 1.0])
    affine[:3, 3] += (volume.voxels.shape[0] - 1) * volume.ijk_to_lps[:3, 2]
    volume_node.SetIJKToRASMatrix(ijk_to_ras_matrix(affine))
    with pytest.raises(GeometryError, match="in another order than its slices lie"):
        label_volume_from(drawn_on(volume_node, lesion(volume)), volume.source)
