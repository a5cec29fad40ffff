"""Where the windows of a sliding window lie, and how much each of their voxels counts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Triple = tuple[int, int, int]

SIGMA_FRACTION = 0.125  # of the window's extent: the Gaussian that MONAI and nnU-Net both use


def window_starts(size: int, patch: int, overlap: float, tiling: str) -> list[int]:
    """Return the first index of every window along one axis, ascending; the windows cover ``size`` voxels.

    Parameters
    ----------
    size, patch
        Extent of the (padded) volume and of the window; ``size >= patch``.
    overlap
        Share of a window that the next one covers again, 0 to below 1.
    tiling
        ``"nnunet"``: as few windows as the overlap allows, evenly spread. ``"monai"``: a fixed step, the last window
        pushed back into the volume.
    """
    if tiling == "monai":
        step = max(1, int(patch * (1 - overlap)))
        starts = [0]
        while starts[-1] + patch < size:
            starts.append(min(starts[-1] + step, size - patch))
        return starts
    if patch == 1:  # slice by slice: neighbours cannot overlap, and to run one twice changes nothing
        return list(range(size))
    count = -(-(size - patch) // max(1e-9, patch * (1 - overlap))) + 1
    spread = (size - patch) / (count - 1) if count > 1 else 0.0
    return [round(spread * number) for number in range(int(count))]


def padding_to_patch(shape: Triple, patch: Triple) -> list[tuple[int, int]]:
    """Return voxels to add before and after each axis so that one window fits; the odd voxel goes after."""
    missing = [max(0, wanted - size) for size, wanted in zip(shape, patch, strict=True)]
    return [(count // 2, count - count // 2) for count in missing]


def importance_map(patch: Triple, kind: str, tiling: str) -> "torch.Tensor":
    """Return the weight of every voxel of a window: float32 (D, H, W), 1 at most, above 0 everywhere.

    ``"gaussian"`` trusts the middle of a window most; ``"constant"`` trusts all of it. The two tilings differ in where
    the middle of an even extent lies and in the smallest weight.
    """
    import torch

    weights = torch.ones(patch)
    if kind == "constant":
        return weights
    for axis, extent in enumerate(patch):
        middle = (extent - 1) / 2 if tiling == "monai" else extent // 2
        distance = (torch.arange(extent) - middle) / max(extent * SIGMA_FRACTION, 1e-6)
        shape = [1, 1, 1]
        shape[axis] = extent
        weights = weights * torch.exp(-0.5 * distance**2).view(shape)
    return weights.clamp_(min=max(float(weights.min()), 1e-3) if tiling == "monai" else 6e-9)
