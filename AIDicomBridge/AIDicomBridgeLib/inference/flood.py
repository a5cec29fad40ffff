"""Flood fill of a mask from seeds, by sweeps along the axes: whole lines at once instead of voxel by voxel."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def flood(passable: "torch.Tensor", seeds: "torch.Tensor") -> "torch.Tensor":
    """Return the passable voxels that are face-connected to a seed: bool, same shape (D, H, W), same device, a copy.

    Along a line, a voxel is reached if the last reached voxel before it comes after the last wall. Both are running
    maxima, so one sweep carries the flood through any straight run; bends take further rounds (some ten for a body).
    """
    reached = passable & seeds
    while True:
        before = int(reached.sum())
        for axis in range(passable.ndim):
            for reverse in (False, True):
                reached |= _sweep(passable, reached, axis, reverse)
        if int(reached.sum()) == before:
            return reached


def _sweep(passable: "torch.Tensor", reached: "torch.Tensor", axis: int, reverse: bool) -> "torch.Tensor":
    import torch

    if reverse:
        passable, reached = passable.flip(axis), reached.flip(axis)
    shape = [1] * passable.ndim
    shape[axis] = -1
    index = torch.arange(1, passable.shape[axis] + 1, dtype=torch.int16, device=passable.device).view(shape)
    nothing = torch.zeros((), dtype=torch.int16, device=passable.device)
    last_wall = torch.where(passable, nothing, index).cummax(axis).values
    last_reached = torch.where(reached, index, nothing).cummax(axis).values
    swept = passable & (last_reached > last_wall)
    return swept.flip(axis) if reverse else swept
