"""Bringing intensities into the range that a network was trained on; each rule takes and returns a float32 tensor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..progress import CancelToken, check_cancel
from .postprocessing import holes
from .rules import IntensityStep

if TYPE_CHECKING:
    import torch

# What each rule of a model card needs: the card is checked against this table.
INTENSITY_RULES: dict[str, tuple[str, ...]] = {
    "window": ("low", "high"),
    "percentiles": ("low", "high"),
    "clip": ("low", "high"),
    "min-max": (),
    "z-score": (),
    "nnunet-ct": ("low", "high", "mean", "std"),
    "shift-scale": ("mean", "std"),
    "cormack": (),
}


def normalise(
    tensor: "torch.Tensor",
    steps: tuple[IntensityStep, ...],
    modalities: Sequence[str],
    *,
    cancel: CancelToken | None = None,
) -> "torch.Tensor":
    """Return volumes (C, D, H, W) with the steps of a card applied in order, float32; the input may be changed.

    Each channel is a volume by itself, of its own modality.

    ==============  ==========================================================================================
    window          ``low`` to ``high`` become 0 to 1; values beyond are clipped
    percentiles     the same for the ``low``-th and ``high``-th percentile of the volume
    clip            values are held within ``low`` and ``high``
    min-max         the volume's least and largest value become 0 and 1
    z-score         mean 0 and standard deviation 1; with ``nonzero_only``, of and for the voxels that are not 0
    nnunet-ct       clip to ``low`` and ``high``, then ``(x - mean) / std``, numbers from the training data
    shift-scale     ``(x - mean) / std`` with given numbers
    cormack         see :func:`cormack_units`
    ==============  ==========================================================================================

    A cancel takes effect after the current step of a channel.
    """
    tensor = tensor.float()
    inside = _joint_mask(tensor) if any(step.holes_too for step in steps) else None
    for channel, modality in enumerate(modalities):
        volume = tensor[channel]
        for step in steps:
            check_cancel(cancel)
            meant = not step.modalities or modality in step.modalities
            if meant and (not step.channels or channel in step.channels):
                volume = _apply(volume, step, inside)
        if volume.data_ptr() != tensor[channel].data_ptr():
            tensor[channel] = volume
    return tensor


def _apply(  # noqa: PLR0911 - one return per rule
    tensor: "torch.Tensor", step: IntensityStep, inside: "torch.Tensor | None"
) -> "torch.Tensor":
    if step.rule == "window":
        return _scale(tensor, step.low, step.high).clamp_(0, 1)
    if step.rule == "percentiles":
        return scale_percentiles(tensor, step.low, step.high)
    if step.rule == "clip":
        return tensor.clamp_(step.low, step.high)
    if step.rule == "min-max":
        return _scale(tensor, float(tensor.min()), float(tensor.max()))
    if step.rule == "nnunet-ct":
        return tensor.clamp_(step.low, step.high).sub_(step.mean).div_(max(step.std, 1e-8))
    if step.rule == "shift-scale":
        return tensor.sub_(step.mean).div_(step.std)
    if step.rule == "cormack":
        return cormack_units(tensor)
    if step.nonzero_only:
        return z_score(tensor, inside if step.holes_too and inside is not None else tensor != 0)
    return z_score(tensor)


def bytes_beside(steps: tuple[IntensityStep, ...], *, on_gpu: bool) -> int:
    """Return the bytes for each voxel of a channel that the steps hold at most beside the volume itself."""

    def held(step: IntensityStep) -> int:
        if step.rule == "percentiles":
            return 28 if on_gpu else 4  # sorted values, their places and the sort's own; on the CPU a copy
        if step.rule == "z-score" and step.nonzero_only:
            return 10 if step.holes_too else 1  # masks, and numbers of components
        return 4 if step.rule == "cormack" else 0

    return max(map(held, steps), default=0)


def scale_percentiles(tensor: "torch.Tensor", low: float, high: float) -> "torch.Tensor":
    """Return the tensor with two of its percentiles mapped to 0 and 1 and values beyond clipped, changed in place.

    A volume of one value becomes all zeros. Percentiles are interpolated linearly, as numpy does.
    """
    if tensor.device.type == "cpu":  # sorting would take the memory of three such volumes
        first, second = (float(limit) for limit in np.percentile(tensor.numpy(), (low, high)))
        return _scale(tensor, first, second).clamp_(0, 1)
    ordered = tensor.flatten().sort().values
    limits = []
    for percent in (low, high):
        place = percent / 100 * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        limits.append(float(ordered[below] + (ordered[above] - ordered[below]) * (place - below)))
    return _scale(tensor, limits[0], limits[1]).clamp_(0, 1)


def z_score(tensor: "torch.Tensor", inside: "torch.Tensor | None" = None) -> "torch.Tensor":
    """Return the tensor with mean 0 and (population) standard deviation 1; the input may be changed.

    With a mask, bool and of the same shape, both come from the voxels inside, and only these change.
    """
    if inside is None:
        return tensor.sub_(tensor.mean()).div_(max(float(tensor.std(correction=0)), 1e-8))
    # Plane by plane: picking voxels out of a whole volume takes the memory of seven.
    planes = list(zip(tensor, inside, strict=True))
    count = sum(int(mask.sum()) for _, mask in planes)
    if not count:
        return tensor
    # float32 within a plane, as Apple's GPUs have no other; Python's 64 bits over the planes.
    mean = sum(float(plane[mask].sum()) for plane, mask in planes) / count
    variance = sum(float((plane[mask] - mean).square_().sum()) for plane, mask in planes) / count
    spread = max(variance**0.5, 1e-8)
    for plane, mask in planes:
        plane[mask] = (plane[mask] - mean) / spread
    return tensor


def _joint_mask(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return where any channel is not 0, and what that encloses: bool (D, H, W)."""
    import torch

    mask = tensor[0] != 0
    for channel in tensor[1:]:
        mask |= channel != 0
    return mask | torch.from_numpy(holes(mask.cpu().numpy())).to(mask.device)


def cormack_units(hounsfield: "torch.Tensor") -> "torch.Tensor":
    """Return a CT in Cormack units, float32: air is 0, and -100 to 100 HU is stretched eleven-fold.

    The range of the brain, 200 HU of some 4000, then covers about half of the scale (Rorden et al., NeuroImage 2012).
    Values below -1024, which some scanners write outside their field of view, count as -1024. What is float32 already
    is changed in place.
    """
    shifted = hounsfield.float().clamp_(min=-1024)
    shifted -= shifted.min()
    return shifted.add_((shifted - 900).clamp_(0, 200), alpha=10)


def _scale(tensor: "torch.Tensor", low: float, high: float) -> "torch.Tensor":
    return tensor.sub_(low).div_(max(high - low, 1e-38))
