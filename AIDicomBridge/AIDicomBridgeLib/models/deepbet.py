"""deepbet around its two networks: one finds the head on a coarse grid, the other outlines the brain in that box."""

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from ..inference.ensemble import Ensemble
from ..inference.memory_plan import FixedNeed
from ..inference.orientation import Orientation
from ..inference.postprocessing import CLEANUP_BYTES, fill_holes, keep_largest_component
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.volume import ImageVolume

if TYPE_CHECKING:
    import torch

_COARSE, _FINE = (128, 128, 128), (256, 256, 256)
_QUANTILES = (0.005, 0.995)
_LAYERS_BYTES = {True: 32, False: 100}  # a voxel of what the networks see, in float32 or not: measured, rounded up
_MARGIN = 0.1  # of the box's extent, on each side
_OCCUPIED = 0.02  # a plane belongs to the box from this share of brain on


def label_brain(
    volume: ImageVolume,
    finder: Ensemble,
    network: Ensemble,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> np.ndarray:
    """Return 1 for the brain of a T1-weighted head MR, 0 elsewhere: uint8 (k, j, i).

    Raises
    ------
    ModelError
        No brain was found.
    """
    import torch

    turn = Orientation.between(volume.ijk_to_lps, "RAS")
    voxels = torch.from_numpy(np.ascontiguousarray(turn.apply(volume.voxels))).to(network.device).float()
    coarse = _resized(voxels, _COARSE)
    low, high = (float(torch.quantile(coarse.flatten(), share)) for share in _QUANTILES)
    report(progress, "segment", 0, 2, "networks", "finding the head")
    found = finder(_normalised(coarse, low, high)[None, None], cancel)[0, 1].float() > 0.5
    check_cancel(cancel)
    head = keep_largest_component(found.cpu().numpy().astype(np.uint8), 1)
    box = _box(head, voxels.shape)
    report(progress, "segment", 1, 2, "networks", "outlining the brain")
    outline = network(_normalised(_resized(voxels[box], _FINE), low, high)[None, None], cancel)[0, 1].float()
    check_cancel(cancel)
    inside = _resized(outline, voxels[box].shape) > 0.5
    labels = np.zeros(tuple(voxels.shape), np.uint8)
    labels[box] = fill_holes(keep_largest_component(inside.cpu().numpy().astype(np.uint8), 1), 1)
    report(progress, "segment", 2, 2, "networks", "done")
    return np.ascontiguousarray(turn.invert(labels))


def needed(volume: ImageVolume, finder: Ensemble, network: Ensemble) -> FixedNeed:
    """Return the memory that :func:`label_brain` takes."""
    import torch

    voxels, window = volume.voxels.size, math.prod(_FINE)
    seen = 4 * window + max(_LAYERS_BYTES[network.precision == torch.float32], 3 * 4) * window
    weights = finder.weights_bytes + network.weights_bytes
    cleaning = (2 + CLEANUP_BYTES) * voxels
    return FixedNeed(_FINE, 2, weights + 4 * voxels + seen, max(volume.voxels.nbytes, cleaning))


def _normalised(tensor: "torch.Tensor", low: float, high: float) -> "torch.Tensor":
    clipped = ((tensor - low) / max(high - low, 1e-8)).clamp(0, 1)
    return 0.226 * (clipped - clipped.mean()) / clipped.std().clamp(min=1e-8) + 0.449


def _resized(tensor: "torch.Tensor", size: tuple[int, ...]) -> "torch.Tensor":
    from torch.nn import functional

    return functional.interpolate(tensor[None, None], size=tuple(size), mode="nearest-exact")[0, 0]


def _box(head: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box of the head with its margin, in voxels of a volume of that shape."""
    box = []
    for axis, size in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(head.mean(axis=others) > _OCCUPIED)
        if not len(occupied):
            raise ModelError("no brain was found in the volume", advice="Is it a T1-weighted MR of a whole head?")
        scale = size / head.shape[axis]
        middle = round(scale * (int(occupied[-1]) + 1 + int(occupied[0])) / 2)
        extent = round((1 + 2 * _MARGIN) * scale * (int(occupied[-1]) + 1 - int(occupied[0])))
        box.append(slice(max(0, int(middle - extent / 2)), min(size, int(middle + extent / 2))))
    return tuple(box)
