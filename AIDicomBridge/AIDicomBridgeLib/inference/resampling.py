"""Resampling as one small matrix per axis: what an axis of any length needs, whatever the interpolation."""

from typing import TYPE_CHECKING

import numpy as np

from .windows import Triple

if TYPE_CHECKING:
    import torch

_MARGIN = 12  # voxels of edge value on both sides for the spline's filter, whose influence falls 3.7-fold a voxel


def resampled_shape(shape: Triple, spacing_mm: tuple[float, ...], wanted_mm: tuple[float, ...]) -> Triple:
    """Return the shape with which a volume covers the same space at nearly the wanted spacing."""
    sizes = [
        max(1, round(count * is_mm / want_mm))
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
    tensor: "torch.Tensor", size: Triple, *, cubic: bool = False, nearest_axis: int | None = None
) -> "torch.Tensor":
    """Return a volume (C, D, H, W) on another number of voxels over the same space, edges kept in place; float32.

    Parameters
    ----------
    cubic
        Interpolate by cubic B-splines, held within the range of the input's values; else linearly.
    nearest_axis
        Along this axis take the nearest voxel.
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
    for axis in sorted(range(3), key=lambda a: a == nearest_axis):  # the nearest axis last, with its slices' limits
        if axis == nearest_axis:
            tensor = tensor.clamp(low, high)
        if tensor.shape[axis + 1] != size[axis]:
            kind = "nearest" if axis == nearest_axis else "cubic" if cubic else "linear"
            matrix = torch.from_numpy(axis_matrix(tensor.shape[axis + 1], size[axis], kind)).to(tensor)
            tensor = torch.tensordot(matrix, tensor, dims=([1], [axis + 1])).movedim(0, axis + 1)
    return tensor.contiguous() if nearest_axis is not None else tensor.clamp(low, high)


def axis_matrix(count: int, size: int, kind: str) -> np.ndarray:
    """Return the matrix (size, count) that takes ``count`` values to ``size`` values.

    ``kind`` is ``nearest``, ``linear`` or ``cubic``. Beyond the first and last value the edge value goes on.
    """
    place = (np.arange(size) + 0.5) * count / size - 0.5
    if kind == "nearest":
        rows = np.clip(np.floor(place + 0.5), 0, count - 1).astype(int)
        return np.eye(count)[rows].astype(np.float32)
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
