"""A volume becomes a node of Slicer and comes back: same memory, same place in the patient."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from AIDicomBridgeLib.errors import ConflictError, GeometryError, NotFoundError
from AIDicomBridgeLib.mrml.source_files import SourceFiles
from AIDicomBridgeLib.mrml.volume_node import (
    compared_planes,
    image_volume_from,
    scalar_volume_node,
    volume_node_from,
)
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, body_phantom, make_enhanced, make_series, save_series

from .conftest import put_under_transform, shift

GEOMETRIES = {
    "axial": {"orientation": AXIAL},
    "sagittal": {"orientation": SAGITTAL},
    "coronal": {"orientation": CORONAL},
    "oblique": {"orientation": OBLIQUE},
    "anisotropic": {"orientation": OBLIQUE, "spacing_mm": (5.0, 0.25, 1.75)},
    "last slice first": {"orientation": AXIAL, "reverse": True},
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_voxel_lies_where_dicom_says(core, volume_of, geometry):
    import vtk

    volume = volume_of(**geometry)
    node = volume_node_from(volume, core.scene)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    for k, j, i in ((0, 0, 0), (3, 17, 30), (7, 39, 47)):
        header = volume.source.headers[k]
        orientation = np.array(header.ImageOrientationPatient, float)
        row_spacing, column_spacing = (float(value) for value in header.PixelSpacing)
        lps = np.array(header.ImagePositionPatient, float)
        lps = lps + orientation[:3] * i * column_spacing + orientation[3:] * j * row_spacing
        ras = matrix.MultiplyPoint((i, j, k, 1))[:3]
        np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-3)
        assert node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0) == volume.voxels[k, j, i]
        assert node.GetAttribute("DICOM.instanceUIDs").split()[k] == header.SOPInstanceUID


def test_the_voxels_are_shared_both_ways_and_outlive_the_volume(core, volume_of):
    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    back = image_volume_from(node, volume.source)
    assert np.shares_memory(back.voxels, volume.voxels)
    back.voxels[1, 2, 3] = 1234
    assert node.GetImageData().GetScalarComponentAsDouble(3, 2, 1, 0) == 1234
    source, expected = volume.source, volume.voxels.copy()
    del volume, back
    gc.collect()
    others = [np.full(expected.shape, 7, np.int16) for _ in range(50)]
    np.testing.assert_array_equal(image_volume_from(node, source).voxels, expected)
    assert len(others) == 50


def test_the_name_tells_the_series_and_never_the_patient(core, volume_of):
    node = volume_node_from(volume_of(patient_name="Secret^Person", series_number=2), core.scene)
    assert node.GetName() == "CT: 2: Synthetic series"
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (400, 40)


def test_a_node_that_moved_or_was_cropped_is_refused(core, volume_of):
    import slicer
    import vtk

    volume = volume_of(orientation=OBLIQUE)
    node = volume_node_from(volume, core.scene)
    put_under_transform(node, shift(slices=1))
    with pytest.raises(GeometryError, match="under a transform"):
        image_volume_from(node, volume.source)
    node.SetAndObserveTransformNodeID(None)
    node.SetOrigin(node.GetOrigin()[0] + 0.5, *node.GetOrigin()[1:])
    with pytest.raises(GeometryError, match="not on the grid"):
        image_volume_from(node, volume.source)
    empty = slicer.vtkMRMLScalarVolumeNode()
    with pytest.raises(GeometryError, match="no grey-value voxels"):
        image_volume_from(empty, volume.source)
    empty.SetAndObserveImageData(vtk.vtkImageData())
    with pytest.raises(GeometryError, match="no grey-value voxels"):
        image_volume_from(empty, volume.source)


def test_the_source_of_a_node_is_found_again(core, volume_of):
    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    files = SourceFiles()
    files.remember(volume.source)
    assert files.source_of(node) is volume.source
    with pytest.raises(NotFoundError, match="8 instances"):
        SourceFiles().source_of(node)
    with pytest.raises(NotFoundError, match="which DICOM instances"):
        files.source_of(core.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))


class Database:
    """Stands in for ``slicer.dicomDatabase``."""

    isOpen = True  # noqa: N815

    def __init__(self, source):
        self.paths = dict(zip(source.sop_instance_uids, map(str, source.paths), strict=True))

    def fileForInstance(self, uid):  # noqa: N802
        return self.paths.get(uid, "")


def test_the_source_of_a_node_that_slicer_loaded_comes_from_its_database(core, volume_of):
    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    database = Database(volume.source)
    found = SourceFiles().source_of(node, database)
    assert found.paths == volume.source.paths
    del database.paths[volume.source.sop_instance_uids[3]]
    with pytest.raises(NotFoundError, match=volume.source.sop_instance_uids[3]):
        SourceFiles().source_of(node, database)
    first, second, *others = volume.source.sop_instance_uids
    node.SetAttribute("DICOM.instanceUIDs", " ".join([second, first, *others]))
    with pytest.raises(GeometryError, match="another order"):
        SourceFiles().source_of(node, Database(volume.source))


FLIPS = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


@pytest.mark.parametrize("axes", FLIPS, ids=str)
def test_a_volume_that_slicer_loaded_in_any_direction_maps_back(core, volume_of, axes):
    volume = volume_of(orientation=OBLIQUE, spacing_mm=(5.0, 0.25, 1.75))
    affine = volume.ijk_to_lps.copy()
    for axis in axes:
        affine[:3, 3] += (volume.voxels.shape[axis] - 1) * volume.ijk_to_lps[:3, 2 - axis]
        affine[:3, 2 - axis] *= -1
    node = scalar_volume_node(np.flip(volume.voxels, axes), affine, core.scene, "Loaded by Slicer")
    uids = volume.source.sop_instance_uids
    node.SetAttribute("DICOM.instanceUIDs", " ".join(reversed(uids) if 0 in axes else uids))

    found = image_volume_from(node, SourceFiles().source_of(node, Database(volume.source)))

    np.testing.assert_array_equal(found.voxels, volume.voxels)
    np.testing.assert_allclose(found.ijk_to_lps, volume.ijk_to_lps)
    assert found.voxels.flags.c_contiguous
    assert [*compared_planes(node, volume)] == [*range(1, 9)]


def test_slices_named_in_another_order_than_they_lie_are_refused(core, volume_of):
    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(reversed(volume.source.sop_instance_uids)))
    source = SourceFiles().source_of(node, Database(volume.source))
    with pytest.raises(GeometryError, match="another order than its slices lie"):
        image_volume_from(node, source)


@pytest.mark.parametrize("named", ["", "1.2.3.4", "first"])
def test_a_node_that_names_other_instances_is_refused(core, volume_of, named):
    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    node.SetAttribute("DICOM.instanceUIDs", volume.source.sop_instance_uids[0] if named == "first" else named)
    with pytest.raises(GeometryError, match="other instances than its source's"):
        image_volume_from(node, volume.source)


def test_a_spacing_that_moves_the_far_corner_is_another_grid(core, tmp_path):
    """A wrong spacing adds up: by a thousandth of a millimetre a voxel, and the last column is another one."""
    datasets = make_series(np.zeros((3, 4, 512), np.int16), spacing_mm=(3.0, 0.7, 0.7))
    volume = read_volume(save_series(datasets, tmp_path))
    for change_mm, is_same in ((1e-5, True), (0.00099, False)):
        affine = volume.ijk_to_lps.copy()
        affine[0, 0] += change_mm
        node = as_loaded(volume.voxels, volume, core.scene, affine)
        if is_same:
            image_volume_from(node, volume.source)
            continue
        with pytest.raises(GeometryError, match="not on the grid"):
            image_volume_from(node, volume.source)


@pytest.mark.parametrize("decimals", [4, 6])
def test_cosines_written_with_few_decimals_are_slicers_grid_too(core, tmp_path, decimals):
    datasets = make_series(np.zeros((3, 4, 512), np.int16), orientation=OBLIQUE)
    for ds in datasets:
        ds.ImageOrientationPatient = [f"{value:.{decimals}f}" for value in OBLIQUE]
    volume = read_volume(save_series(datasets, tmp_path))
    np.testing.assert_array_equal(image_volume_from(read_by_slicer(core, volume), volume.source).voxels, 0)


def smoothed(voxels: np.ndarray) -> np.ndarray:
    """Return voxels whose rows keep their sum and their first moment."""
    result = voxels.astype(np.float32)
    result[..., 2:-2] += (voxels[..., :-4] + voxels[..., 4:] - 2.0 * voxels[..., 2:-2]) / 4
    return result


def swapped(voxels: np.ndarray) -> np.ndarray:
    result = voxels.copy()
    result[3, 20, 20:23] += np.array([500, -1000, 500], np.int16)  # neither sum nor first moment changes
    return result


def with_nan(voxels: np.ndarray) -> np.ndarray:
    result = voxels.astype(np.float32)
    result[-1] = np.nan
    return result


CHANGES = {
    "slices mirrored": lambda voxels: np.flip(voxels, 0),
    "rows mirrored": lambda voxels: np.flip(voxels, 1),
    "columns mirrored": lambda voxels: np.flip(voxels, 2),
    "smoothed": smoothed,
    "moved along the row": swapped,
    "a plane without numbers": with_nan,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_voxels_that_are_not_those_of_the_files_are_seen(core, volume_of, change):
    volume = volume_of()
    node = as_loaded(change(volume.voxels).copy(), volume, core.scene)
    with pytest.raises(ConflictError, match="Load the series again"):
        [*compared_planes(node, volume)]


def test_voxels_that_are_replaced_meanwhile_are_seen(core, volume_of):
    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    steps = compared_planes(node, volume)
    next(steps)
    node.SetAndObserveImageData(volume_node_from(volume, core.scene).GetImageData())
    with pytest.raises(GeometryError, match="replaced meanwhile"):
        next(steps)


def as_loaded(voxels, volume, scene, affine=None):
    """Return a node that claims to show a volume's instances."""
    node = scalar_volume_node(voxels, volume.ijk_to_lps if affine is None else affine, scene, "Loaded")
    node.SetAttribute("DICOM.instanceUIDs", " ".join(volume.source.sop_instance_uids))
    return node


def read_by_slicer(core, volume):
    import vtk

    files = vtk.vtkStringArray()
    for path in volume.source.paths:
        files.InsertNextValue(str(path))
    node = core.module_logics["Volumes"].AddArchetypeVolume(str(volume.source.paths[0]), "Loaded", 0, files)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(volume.source.sop_instance_uids))
    return node


def test_the_series_that_slicers_own_reader_loads_maps_back(core, volume_of):
    volume = volume_of(orientation=OBLIQUE)
    node = read_by_slicer(core, volume)
    found = image_volume_from(node, volume.source)
    assert [*compared_planes(node, volume)]
    np.testing.assert_array_equal(found.voxels, volume.voxels)


@pytest.mark.parametrize("stored", [np.int16, np.int32, np.float32, np.float64])
def test_one_voxel_changed_by_one_unit_is_seen_however_they_are_stored(core, volume_of, stored):
    volume = volume_of()
    voxels = volume.voxels.astype(stored)
    node = as_loaded(voxels, volume, core.scene)
    assert [*compared_planes(node, volume)]
    voxels[3, 20, 30] += 1
    with pytest.raises(ConflictError, match="Load the series again"):
        [*compared_planes(node, volume)]


def test_a_rescale_by_fractions_may_be_rounded_at_another_step(core, volume_of):
    volume = volume_of()
    fractions = replace(volume, voxels=volume.voxels.astype(np.float32) * np.float32(0.7) - np.float32(1024))
    voxels = volume.voxels * 0.7 - 1024
    node = as_loaded(voxels, volume, core.scene)
    assert [*compared_planes(node, fractions)]
    voxels[3, 20, 30] += 0.01
    with pytest.raises(ConflictError):
        [*compared_planes(node, fractions)]


def test_a_grid_that_slicer_bent_is_refused_by_its_reason(core, volume_of):
    import slicer

    volume = volume_of()
    node = volume_node_from(volume, core.scene)
    grid = core.scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    grid.SetAndObserveTransformToParent(slicer.vtkOrientedGridTransform())
    node.SetAndObserveTransformNodeID(grid.GetID())
    with pytest.raises(GeometryError, match="unevenly spaced, missing or tilted"):
        image_volume_from(node, volume.source)


def test_a_frame_of_an_enhanced_instance_is_a_slice_of_the_node(core, tmp_path):
    enhanced = make_enhanced(make_series(body_phantom((6, 20, 24)), orientation=OBLIQUE, reverse=True))
    volume = read_volume(save_series([enhanced], tmp_path))
    node = volume_node_from(volume, core.scene)
    assert node.GetAttribute("DICOM.instanceUIDs") == enhanced.SOPInstanceUID
    source = SourceFiles().source_of(node, Database(volume.source))
    back = image_volume_from(node, source)
    assert np.shares_memory(back.voxels, volume.voxels)
    assert [piece.frame_number for piece in source.slices] == [6, 5, 4, 3, 2, 1]
