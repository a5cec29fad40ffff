"""Resampling as one small matrix per axis: what an axis of any length needs, whatever the interpolation."""

from typing import TYPE_CHECKING

import numpy as np

from ..progress import CancelToken, check_cancel
from .windows import Triple

if TYPE_CHECKING:
    import torch

_MARGIN = 12  # voxels of edge value on both sides for the spline's filter, whose influence falls 3.7-fold a voxel


def resampled_shape(shape: Triple, spacing_mm: tuple[float, ...], wanted_mm: tuple[float, ...]) -> Triple:
    """Return the shape with which a volume covers the same space at nearly the wanted spacing."""
    # In the order in which nnU-Net computes it: halves like those of 38 * 0.9 mm in 1.2 mm fall as the digits do.
    sizes = [
        max(1, round(is_mm / want_mm * count))
        for count, is_mm, want_mm in zip(shape, spacing_mm, wanted_mm, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def separate_axis(spacing_mm: tuple[float, ...], wanted_mm: tuple[float, ...], threshold: float = 3.0) -> int | None:
    """Return the axis of a much larger spacing, along which nnU-Net takes the nearest slice; None if there is none."""
    for candidate in (spacing_mm, wanted_mm):
        if max(candidate) / min(candidate) > threshold:
            coarse = [axis for axis, value in enumerate(candidate) if value == max(candidate)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def resample(
    tensor: "torch.Tensor",
    size: Triple,
    *,
    cubic: bool = False,
    nearest_axis: int | None = None,
    cancel: CancelToken | None = None,
) -> "torch.Tensor":
    """Return a volume (C, D, H, W) on another number of voxels over the same space, edges kept in place; float32.

    Parameters
    ----------
    cubic
        Interpolate by cubic B-splines, held within the range of the input's values; else linearly.
    nearest_axis
        Along this axis take the nearest voxel.

    Raises
    ------
    JobCancelled
        ``cancel`` was called; it takes effect after the current axis.
    """
    import torch
    from torch.nn import functional

    if tuple(tensor.shape[1:]) == tuple(size):
        return tensor
    if not cubic and nearest_axis is None:
        return functional.interpolate(tensor[None], size=size, mode="trilinear", align_corners=False)[0]
    # The limits are those of the region that is interpolated as one: a slice where slices stay apart.
    joined = [axis + 1 for axis in range(3) if axis != nearest_axis]
    low, high = tensor.amin(joined, keepdim=True), tensor.amax(joined, keepdim=True)
    given = tensor
    # What shrinks comes first, so that nothing between is larger than both; the nearest axis last, after the limits.
    for axis in sorted(
        (axis for axis in range(3) if tensor.shape[axis + 1] != size[axis]),
        key=lambda axis: (axis == nearest_axis, size[axis] / given.shape[axis + 1]),
    ):
        check_cancel(cancel)
        if axis == nearest_axis:
            taken = nearest_places(tensor.shape[axis + 1], size[axis])
            held = tensor if tensor is given else tensor.clamp_(low, high)
            return held.index_select(axis + 1, torch.from_numpy(taken).to(tensor.device))
        matrix = axis_matrix(tensor.shape[axis + 1], size[axis], "cubic" if cubic else "linear")
        tensor = _along(tensor, axis + 1, torch.from_numpy(matrix).to(tensor))
    return tensor.clamp_(low, high)


def _along(tensor: "torch.Tensor", dim: int, matrix: "torch.Tensor") -> "torch.Tensor":
    """Return the tensor with a matrix applied along one dimension, without a turned copy of it."""
    before, count, after = tensor.shape[:dim], tensor.shape[dim], tensor.shape[dim + 1 :]
    if not after:
        return tensor.reshape(-1, count).mm(matrix.T).view(*before, -1)
    planes = tensor.reshape(before.numel(), count, after.numel())
    return matrix.expand(len(planes), -1, -1).bmm(planes).view(*before, len(matrix), *after)


def axis_matrix(count: int, size: int, kind: str) -> np.ndarray:
    """Return the matrix (size, count) that takes ``count`` values to ``size`` values.

    ``kind`` is ``linear`` or ``cubic``. Beyond the first and last value the edge value goes on.
    """
    place = _places(count, size)
    if kind == "linear":
        place = np.clip(place, 0, count - 1)
        below = np.minimum(np.floor(place).astype(int), max(count - 2, 0))
        share = (place - below)[:, None]
        identity = np.eye(count)
        return (identity[below] * (1 - share) + identity[np.minimum(below + 1, count - 1)] * share).astype(np.float32)
    padded = count + 2 * _MARGIN
    # Cubic B-spline: the coefficients solve (1, 4, 1) / 6; at the far ends they are mirrored.
    system = (4 * np.eye(padded) + np.eye(padded, k=1) + np.eye(padded, k=-1)) / 6
    system[0, 1] = system[-1, -2] = 2 / 6
    edges = np.eye(count)[np.clip(np.arange(padded) - _MARGIN, 0, count - 1)]
    coefficients = np.linalg.solve(system, edges)
    place = place + _MARGIN
    below = np.floor(place).astype(int)
    t = place - below
    bases = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    matrix = sum(
        basis[:, None] * coefficients[below + offset] for basis, offset in zip(bases, (-1, 0, 1, 2), strict=True)
    )
    return np.asarray(matrix, np.float32)


def nearest_places(count: int, size: int) -> np.ndarray:
    """Return which of ``count`` values each of ``size`` values is nearest to: int64."""
    return np.clip(np.floor(_places(count, size) + 0.5), 0, count - 1).astype(np.int64)


def _places(count: int, size: int) -> np.ndarray:
    """Return where ``size`` values lie among ``count`` that cover the same space from edge to edge."""
    return (np.arange(size) + 0.5) * count / size - 0.5
