"""A node finds the very slices that it shows: stacks of one instance, and files that were changed since."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import ConflictError, GeometryError, NotFoundError
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.source_files import SourceFiles
from AIDicomBridgeLib.mrml.volume_node import image_volume_from, shown_frames, volume_node_from
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from pydicom import dcmread
from synthetic import body_phantom, make_two_echoes, save_series

from .conftest import ANATOMY

SHAPE = (6, 16, 20)


class Database:
    """Stands in for ``slicer.dicomDatabase``: one file, whatever is asked for."""

    isOpen = True  # noqa: N815

    def __init__(self, path: Path):
        self.path = path

    def fileForInstance(self, uid):  # noqa: N802
        return str(self.path)


@pytest.fixture
def two_echoes(tmp_path: Path) -> Path:
    """Return a file whose frames 1 to 6 are a first echo, and 7 to 12 the same slices in a second one."""
    return save_series([make_two_echoes(body_phantom(SHAPE))], tmp_path / "echoes")[0]


def labels_of(volume: ImageVolume) -> LabelVolume:
    array = np.zeros(SHAPE, np.uint8)
    array[2, 3:6, 4:9] = 1
    segment = Segment(1, "Part", ANATOMY, Code("113343008", "SCT", "Organ"), algorithm_name="Test")
    return LabelVolume(array, (segment,), source=volume.source)


def referenced_frames(segmentation) -> set[int]:
    return {
        int(source.ReferencedFrameNumber)
        for group in segmentation.PerFrameFunctionalGroupsSequence
        for image in group.DerivationImageSequence
        for source in image.SourceImageSequence
    }


def test_the_result_of_one_echo_points_at_its_own_frames(core, two_echoes):
    files, nodes, volumes = SourceFiles(), [], []
    for number in (1, 2):
        volumes.append(read_volume(two_echoes, stack=number))
        files.remember(volumes[-1].source)
        nodes.append(volume_node_from(volumes[-1], core.scene))
    for node, volume, frame in zip(nodes, volumes, (3, 9), strict=True):
        source = files.source_of(node)
        assert source is volume.source
        np.testing.assert_array_equal(image_volume_from(node, source).voxels, volume.voxels)
        segmentation_node = segmentation_node_from(labels_of(volume), core.scene, volume_node=node)
        found = label_volume_from(segmentation_node, source)
        assert referenced_frames(build_segmentation(found)) == {frame}


def test_labels_of_one_echo_are_not_those_of_the_other(core, two_echoes):
    first, second = (read_volume(two_echoes, stack=number) for number in (1, 2))
    with pytest.raises(GeometryError, match="other instances"):
        image_volume_from(volume_node_from(first, core.scene), second.source)
    node = segmentation_node_from(labels_of(first), core.scene)
    with pytest.raises(ConflictError, match="other slices of it"):
        label_volume_from(node, second.source)
    node.RemoveAttribute("AIDicomBridge.Source")
    with pytest.raises(ConflictError, match="'Part' was made from another series"):
        label_volume_from(node, second.source)


def test_the_echo_of_a_saved_scene_is_found_in_slicers_database(core, two_echoes):
    second = read_volume(two_echoes, stack=2)
    node = volume_node_from(second, core.scene)
    assert shown_frames(node) == f"{second.source.sop_instance_uids[0]}:7-12"
    source = SourceFiles().source_of(node, Database(two_echoes))
    assert [piece.frame_number for piece in source.slices] == [7, 8, 9, 10, 11, 12]


def test_a_node_that_does_not_say_which_echo_it_shows_is_refused(core, two_echoes):
    first = read_volume(two_echoes, stack=1)
    files = SourceFiles()
    files.remember(first.source)
    node = volume_node_from(first, core.scene)
    node.RemoveAttribute("AIDicomBridge.Frames")  # as Slicer's own loader leaves it
    with pytest.raises(NotFoundError, match="not known here"):
        files.source_of(node)
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        files.source_of(node, Database(two_echoes))


@pytest.mark.parametrize("frames", ["1.2:", "1.2:1-", "x:1", "1.2:1-999999999", "1.2:7"])
def test_frames_that_a_scene_file_makes_up_are_refused(core, two_echoes, frames):
    volume = read_volume(two_echoes, stack=2)
    node = volume_node_from(volume, core.scene)
    node.SetAttribute("AIDicomBridge.Frames", frames.replace("1.2", volume.source.sop_instance_uids[0]))
    with pytest.raises(GeometryError, match=r"frames|other order"):
        image_volume_from(node, SourceFiles().source_of(node, Database(two_echoes)))


def overwrite(volume: ImageVolume, patient_id: str) -> None:
    """Put another patient with other voxels into a volume's files, which keep their sizes."""
    for path in volume.source.paths:
        ds, size = dcmread(path), path.stat().st_size
        ds.PatientID, ds.PixelData = patient_id, ds.PixelData[::-1]
        ds.save_as(path)
        assert path.stat().st_size == size


def test_voxels_of_another_patient_are_not_read_under_the_first_ones_header(volume_of):
    volume = volume_of(patient_id="AAAA1")
    overwrite(volume, "BBBB2")
    with pytest.raises(ConflictError, match=r"0001\.dcm was changed after its header had been read"):
        read_volume(volume.source)


def test_a_source_whose_files_were_changed_or_removed_is_not_used(core, volume_of):
    volume = volume_of(patient_id="AAAA1")
    node = volume_node_from(volume, core.scene)
    files = SourceFiles()
    files.remember(volume.source)
    overwrite(volume, "BBBB2")
    with pytest.raises(ConflictError, match="changed or removed"):
        files.source_of(node)
    removed = volume_of()
    files.remember(removed.source)
    node = volume_node_from(removed, core.scene)
    removed.source.paths[3].unlink()
    with pytest.raises(ConflictError, match="changed or removed"):
        files.source_of(node)


def test_both_echoes_hang_below_their_study(core, two_echoes):
    import slicer

    nodes = [volume_node_from(read_volume(two_echoes, stack=number), core.scene) for number in (1, 2)]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(core.scene)
    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes]
    assert parents[0] == parents[1]
    assert hierarchy.GetItemLevel(parents[0]) == "Study"
