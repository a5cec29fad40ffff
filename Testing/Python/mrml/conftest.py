"""Fixtures of the node tests: one scene per test, a source series in any orientation, and its labels."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from AIDicomBridgeLib.mrml.core_scene import CoreScene, has_slicer_core, open_core_scene
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Provenance, Segment
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from synthetic import body_phantom, make_series, save_series

ANATOMY = Code("123037004", "SCT", "Anatomical Structure")


@pytest.fixture
def core() -> Iterator[CoreScene]:
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    core = open_core_scene()
    yield core
    core.close()


@pytest.fixture
def volume_of(tmp_path: Path) -> Callable[..., ImageVolume]:
    """Return a maker of small volumes, read from files; keywords as make_series."""

    def make(**keywords: object) -> ImageVolume:
        folder = tmp_path / f"series-{len(list(tmp_path.iterdir()))}"
        return read_volume(save_series(make_series(body_phantom((8, 40, 48)), **keywords), folder))

    return make


def organ_labels(volume: ImageVolume) -> LabelVolume:
    """Return the phantom's bone (2), right lung (5) and left lung (7), with all the codes a segment may have."""
    voxels = volume.voxels
    labels = np.zeros(voxels.shape, np.uint8)
    labels[voxels == 700] = 2
    columns = np.arange(voxels.shape[2])
    labels[(voxels == -850) & (columns < voxels.shape[2] / 2)] = 5
    labels[(voxels == -850) & (columns >= voxels.shape[2] / 2)] = 7
    lung = Code("39607008", "SCT", "Lung")
    thorax = Code("51185008", "SCT", "Thorax")
    right, left = Code("24028007", "SCT", "Right"), Code("7771000", "SCT", "Left")
    segments = (
        Segment(2, "Bone", ANATOMY, Code("272673000", "SCT", "Bone"), color_rgb=(241, 214, 145), algorithm_name="Test"),
        Segment(
            5,
            "Right lung",
            *(ANATOMY, lung),
            type_modifier=right,
            region=thorax,
            region_modifier=right,
            color_rgb=(1, 128, 255),
            tracking_uid="2.25.1234567",
            algorithm_name="Test",
        ),
        Segment(7, "Left lung", ANATOMY, lung, type_modifier=left, color_rgb=(9, 8, 7), algorithm_type="MANUAL"),
    )
    return LabelVolume(labels, segments, source=volume.source, provenance=Provenance("Test model", "1.2"))


def mirrored(affine: np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """Return the affine of a grid that runs through another one backwards along some of (k, j, i)."""
    result = affine.copy()
    for axis in axes:
        result[:3, 3] += (shape[axis] - 1) * affine[:3, 2 - axis]
        result[:3, 2 - axis] *= -1
    return result


def put_under_transform(node: Any, matrix: np.ndarray) -> None:
    """Put a node under a linear transform (4x4, RAS), as by dragging it there in the subject hierarchy."""
    import vtk

    transform = node.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode")
    to_parent = vtk.vtkMatrix4x4()
    to_parent.DeepCopy(matrix.ravel())
    transform.SetMatrixTransformToParent(to_parent)
    node.SetAndObserveTransformNodeID(transform.GetID())


def shift(slices: float) -> np.ndarray:
    """Return a translation towards the head by that many slices of 5 mm."""
    matrix = np.eye(4)
    matrix[2, 3] = slices * 5.0
    return matrix
