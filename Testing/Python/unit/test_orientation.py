"""Turning a volume for a network loses nothing and points every axis where it should."""

import numpy as np
import pytest
from AIDicomBridgeLib.inference.orientation import Orientation
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL

_DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def _affine(orientation: tuple[float, ...]) -> np.ndarray:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * 0.6, column * 0.8, np.cross(row, column) * 3])
    return affine


@pytest.mark.parametrize("source", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("target", ["LIA", "SPL", "RAS", "PSR"])
def test_axes_point_to_the_target_and_back(source: tuple[float, ...], target: str) -> None:
    affine = _affine(source)
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    orientation = Orientation.between(affine, target)

    turned = orientation.apply(array)

    # Where each voxel lies in the world, carried through the same turn, must increase along the wanted direction.
    k, j, i = np.indices(array.shape)
    world = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ affine.T
    positions = np.stack([orientation.apply(world[..., axis]) for axis in range(3)], axis=-1)
    for axis, letter in enumerate(target):
        step = np.diff(positions, axis=axis) @ np.array(_DIRECTIONS[letter])
        assert (step > 0).all()
    np.testing.assert_array_equal(orientation.invert(turned), array)
    assert orientation.permuted((3.0, 0.8, 0.6)) == tuple((3.0, 0.8, 0.6)[a] for a in orientation.permutation)
