"""A volume becomes a node of Slicer and comes back: same memory, same place in the patient."""

import gc

import numpy as np
import pytest
from AIDicomBridgeLib.errors import GeometryError, NotFoundError
from AIDicomBridgeLib.mrml.source_files import SourceFiles
from AIDicomBridgeLib.mrml.volume_node import image_volume_from, volume_node_from
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL

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


def test_patient_study_and_series_items_as_slicers_loader_makes_them(core, volume_of):
    import slicer

    first = volume_of(study_uid="1.2.3", series_uid="1.2.3.1", series_number=1)
    second = volume_of(study_uid="1.2.3", series_uid="1.2.3.2", series_number=2)
    nodes = [volume_node_from(volume, core.scene) for volume in (first, second)]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(core.scene)
    study = hierarchy.GetItemByUID("DICOM", "1.2.3")
    patient = hierarchy.GetItemByUID("DICOM", "SYN-1")
    assert [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes] == [study, study]
    assert hierarchy.GetItemParent(study) == patient
    assert (hierarchy.GetItemLevel(patient), hierarchy.GetItemLevel(study)) == ("Patient", "Study")
    assert hierarchy.GetItemAttribute(patient, "DICOM.PatientName") == "Synthetic^Sample"
    assert hierarchy.GetItemAttribute(study, "DICOM.StudyDate") == "20260102"
    series = hierarchy.GetItemByDataNode(nodes[1])
    assert hierarchy.GetItemUID(series, "DICOM") == "1.2.3.2"
    assert hierarchy.GetItemAttribute(series, "DICOM.Modality") == "CT"


def test_patients_without_an_id_stay_apart(core, volume_of):
    import slicer

    nodes = [volume_node_from(volume_of(patient_id="", patient_name=""), core.scene) for _ in range(2)]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(core.scene)
    patients = {hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(node), "Patient") for node in nodes}
    assert len(patients) == 2


def test_a_node_that_moved_or_was_cropped_is_refused(core, volume_of):
    import slicer
    import vtk

    volume = volume_of(orientation=OBLIQUE)
    node = volume_node_from(volume, core.scene)
    transform = core.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
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
    node.SetAttribute("DICOM.instanceUIDs", " ".join(reversed(volume.source.sop_instance_uids)))
    with pytest.raises(GeometryError, match="another order"):
        SourceFiles().source_of(node, Database(volume.source))
