"""LPS, the world of DICOM and of the engine, to RAS, the world of Slicer, and back. Both in millimetres."""

from typing import Any

import numpy as np

from ..errors import GeometryError


def lps_to_ras() -> np.ndarray:
    """Return the 4x4 change between LPS and RAS; it is its own inverse."""
    return np.diag([-1.0, -1.0, 1.0, 1.0])


def ijk_to_ras_matrix(ijk_to_lps: np.ndarray) -> Any:
    """Return the vtkMatrix4x4 that maps (i, j, k, 1) to RAS for an affine that maps it to LPS."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((lps_to_ras() @ ijk_to_lps).ravel())
    return matrix


def ijk_to_lps_affine(ijk_to_ras: Any) -> np.ndarray:
    """Return the 4x4 float64 affine to LPS of a vtkMatrix4x4 that maps (i, j, k, 1) to RAS."""
    values = [ijk_to_ras.GetElement(row, column) for row in range(4) for column in range(4)]
    return lps_to_ras() @ np.reshape(values, (4, 4))


def refuse_parent_transform(node: Any) -> None:
    """Raise GeometryError if a transform moves or bends the node: its voxels are then not where the source has them."""
    import vtk

    transform = node.GetParentTransformNode()
    if transform is None:
        return
    if not transform.IsTransformToWorldLinear():
        raise GeometryError(
            "the node is under a transform that bends its grid; Slicer's loader adds one where slices are unevenly "
            "spaced, missing or tilted",
            advice="Load the series from its files, resampled (loadSeries(..., resample=True)): its results then lie "
            "on its slices.",
        )
    to_world = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(to_world)
    if to_world.IsIdentity():
        return
    raise GeometryError(
        f"the {node.GetNodeTagName().lower()} node is under a transform, so its voxels no longer lie on the frames of "
        "the source",
        advice="Remove the transform from the node, and look whether what was drawn meanwhile lies right; a moved "
        "result belongs to no source frame.",
    )
