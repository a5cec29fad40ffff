"""A series with a gap, uneven or tilted slices in nodes: shown on a regular grid, its results on its slices."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import ConflictError, GeometryError
from AIDicomBridgeLib.mrml.segment_summary import summarize_in_steps
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.source_files import SourceFiles
from AIDicomBridgeLib.mrml.volume_node import (
    compared_planes,
    image_array,
    image_volume_from,
    place_of_volume,
    volume_node_from,
)
from AIDicomBridgeLib.results.edited_segments import mark_edited, with_fingerprints
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.series.regular_grid import labels_on_slices, regular_volume
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from synthetic import make_series, save_series

from .test_volume_node import Database

SHAPE, SPACING_MM, RADIUS_MM = (16, 40, 44), (2.0, 0.8, 0.7), 9.0
BALL = (Segment(1, "Ball", Code("49755003", "SCT", "Abnormal"), Code("52988006", "SCT", "Lesion"), algorithm_name="T"),)
STEPS = {
    "gap": np.delete(np.arange(16), [7, 8]),
    "uneven": np.where(np.arange(16) < 9, np.arange(16), np.arange(16) + 0.35),
    "two in one plane": np.array([*range(8), 7.2, *range(8, 15)]),
    "tilt": np.arange(16),
}


@pytest.fixture(params=STEPS)
def irregular(request, tmp_path: Path) -> tuple[ImageVolume, np.ndarray]:
    """Return a volume with a ball in it, and where the ball's middle is, in LPS millimetres."""
    datasets = make_series(np.zeros(SHAPE, np.int16), spacing_mm=SPACING_MM, origin=(-15.0, -16.0, 40.0))
    steps = STEPS[request.param]
    datasets = datasets[: len(steps)]
    for ds, step in zip(datasets, steps, strict=True):
        tilt = 0.7 * step if request.param == "tilt" else 0.0
        ds.ImagePositionPatient = [-15.0, -16.0 + tilt, 40.0 + SPACING_MM[0] * float(step)]
    middle = np.array([0.0, datasets[8].ImagePositionPatient[1] + 16.0, 55.0])
    j, i = np.mgrid[: SHAPE[1], : SHAPE[2]]
    for ds in datasets:
        x, y, z = (float(part) for part in ds.ImagePositionPatient)
        apart = np.stack([x + 0.7 * i, y + 0.8 * j, np.full(i.shape, z)], axis=-1) - middle
        ds.PixelData = (1000 * (np.linalg.norm(apart, axis=-1) <= RADIUS_MM) - 500).astype("<i2").tobytes()
    return read_volume(save_series(datasets, tmp_path), resample=True), middle


def found_by_a_network(volume: ImageVolume) -> LabelVolume:
    labels = (regular_volume(volume).voxels > 0).astype(np.uint8)
    return with_fingerprints(LabelVolume(labels_on_slices(labels, volume.source), BALL, source=volume.source))


def middle_of(array: np.ndarray, ijk_to_ras) -> np.ndarray:
    """Return where the voxels of an array are on the average, in LPS."""
    k, j, i = np.argwhere(array).mean(axis=0)
    return np.array(ijk_to_ras.MultiplyPoint([i, j, k, 1])[:3]) * [-1, -1, 1]


def test_the_volume_is_shown_where_it_is_and_known_again(core, irregular):
    import vtk

    volume, middle = irregular
    files = SourceFiles()
    files.remember(volume.source)
    node = volume_node_from(volume, core.scene)
    assert node.GetName().endswith("(resampled)")
    shown = regular_volume(volume)
    voxels = image_array(node.GetImageData())
    np.testing.assert_array_equal(voxels, shown.voxels)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(middle_of(voxels > 0, matrix), middle, atol=0.4)
    directions = np.array([[matrix.GetElement(row, column) for column in range(3)] for row in range(3)])
    np.testing.assert_allclose(directions.T @ directions, np.diag(np.square(shown.spacing_mm[::-1])), atol=1e-6)
    assert files.source_of(node) is volume.source
    read = SourceFiles().source_of(node, Database(volume.source))
    assert read.irregularity == volume.source.irregularity
    place_of_volume(node, read)
    assert sum(1 for _ in compared_planes(node, shown)) == len(voxels)
    back = image_volume_from(node, read)
    assert back.resampled
    on_slices = LabelVolume(np.ones(read.shape, np.uint8), BALL, source=read)
    with pytest.raises(GeometryError, match="not on the same grid"):
        measure(on_slices, replace(back, voxels=np.zeros(read.shape, np.int16), ijk_to_lps=read.ijk_to_lps))
    voxels[3, 4, 5] += 1
    with pytest.raises(ConflictError, match="not those of its DICOM files"):
        list(compared_planes(node, shown))


def test_what_a_network_found_comes_back_as_it_was_and_an_edit_on_its_slice(core, irregular):
    import vtk

    volume, middle = irregular
    labels = found_by_a_network(volume)
    volume_node = volume_node_from(volume, core.scene)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node)
    layer = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    matrix = vtk.vtkMatrix4x4()
    layer.GetImageToWorldMatrix(matrix)
    array = image_array(layer)
    np.testing.assert_allclose(middle_of(array > 0, matrix), middle, atol=0.4)
    back = label_volume_from(node, volume.source)
    np.testing.assert_array_equal(back.labels, labels.labels)
    assert [segment.algorithm_type for segment in mark_edited(back).segments] == ["AUTOMATIC"]

    lps = volume.source.positions_mm[3] + [5 * 0.7, 6 * 0.8, 0]
    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(matrix, inverse)
    i, j, k = (round(part) for part in inverse.MultiplyPoint([*(lps * [-1, -1, 1]), 1])[:3])
    array[k, j, i] = 1
    edited = label_volume_from(node, volume.source)
    changed = np.argwhere(edited.labels != labels.labels)
    assert changed.tolist() == [[3, 6, 5]]
    assert [segment.algorithm_type for segment in mark_edited(edited).segments] == ["SEMIAUTOMATIC"]


def test_the_volumes_that_are_shown_are_those_of_the_report(core, irregular):
    """On the end slices too, where a plane of the node and a slice of the series stand for different extents."""
    volume, _ = irregular
    array = np.zeros(volume.voxels.shape, np.uint8)
    array[:2, 3:30, 4:40], array[-2:, 5:20, 6:41], array[7:10, 8:30, 9:22] = 1, 2, 3
    segments = tuple(replace(BALL[0], label=label, name=f"Part {label}") for label in (1, 2, 3))
    labels = LabelVolume(array, segments, source=volume.source)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node_from(volume, core.scene))
    *_, shown = summarize_in_steps(node, volume.source)
    measured = measure(labels, volume)
    assert [segment.volume_ml for segment in shown] == pytest.approx([m.volume_ml for m in measured])
    assert all(segment.on_slices for segment in shown)
    *_, on_grid = summarize_in_steps(node)
    assert not any(segment.on_slices for segment in on_grid)


def test_labels_on_one_slice_come_back_however_close_the_next_one_lies(core, irregular):
    volume, _ = irregular
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[8] = 1
    labels = LabelVolume(labels, BALL, source=volume.source)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node_from(volume, core.scene))
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels, labels.labels)


def test_an_edit_where_there_is_no_slice_is_refused_and_never_dropped(core, irregular):
    volume, _ = irregular
    labels = found_by_a_network(volume)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node_from(volume, core.scene))
    array = image_array(node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap"))
    shown = array.copy()
    # What is shown and comes from no slice: painted there, a voxel changes no label of any slice.
    of_slices = labels_on_slices(np.arange(1, array.size + 1, dtype=np.uint32).reshape(array.shape), volume.source)
    beside = np.ones(array.shape, bool)
    beside.flat[of_slices.ravel() - 1] = False
    if not beside.any():
        assert len(array) == len(labels.labels)  # uneven by less than a slice: each plane is one
        return
    for painted in (True, False):
        places = beside & ((shown == 0) if painted else (shown != 0))
        if not places.any():
            assert volume.source.is_evenly_spaced  # tilted: beside a slice nothing is shown that could be erased
            continue
        array[...] = np.where(places, painted, shown)
        planes = np.flatnonzero(places.any(axis=(1, 2)))
        with pytest.raises(GeometryError, match="'Ball' was edited where the series has no slice") as caught:
            label_volume_from(node, volume.source)
        first, last = (int(number) for number in re.findall(r"planes (\d+) to (\d+)", str(caught.value))[0])
        assert planes[0] <= first <= last <= planes[-1]
    array[...] = shown
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels, labels.labels)


def test_a_segment_that_ends_between_two_slices_may_end_anywhere_there(core, irregular):
    """Painting on one slice says nothing about the planes beside it: nobody has to paint those too."""
    volume, _ = irregular
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[6] = 1
    node = segmentation_node_from(
        LabelVolume(labels, BALL, source=volume.source), core.scene, volume_node=volume_node_from(volume, core.scene)
    )
    array = image_array(node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap"))
    planes = np.flatnonzero(array.any(axis=(1, 2)))
    slice_planes = labels_on_slices(np.arange(len(array), dtype=np.uint16)[:, None, None] + 0 * array, volume.source)
    array[np.setdiff1d(planes, slice_planes[:, 0, 0])] = 0
    np.testing.assert_array_equal(label_volume_from(node, volume.source).labels, labels)


def test_a_node_that_slicer_loaded_of_it_is_refused_with_the_way_out(core, irregular):
    volume, _ = irregular
    node = volume_node_from(volume, core.scene)
    node.RemoveAttribute("AIDicomBridge.ReadAs")  # Slicer's own loader takes no note
    files = SourceFiles()
    files.remember(volume.source)  # of a node of ours, of the same instances
    with pytest.raises(GeometryError, match="resample=True"):
        files.source_of(node, Database(volume.source))
