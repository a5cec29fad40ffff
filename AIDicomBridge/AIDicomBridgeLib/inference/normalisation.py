"""Bringing intensities into the range that a network was trained on; each rule takes and returns a float32 tensor."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..models.card import IntensityStep

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


def normalise(tensor: "torch.Tensor", steps: "tuple[IntensityStep, ...]", modality: str) -> "torch.Tensor":
    """Return a volume of any shape with the steps of a card applied in order, float32; the input may be changed.

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
    """
    tensor = tensor.float()
    for step in steps:
        if not step.modalities or modality in step.modalities:
            tensor = _apply(tensor, step)
    return tensor


def _apply(tensor: "torch.Tensor", step: "IntensityStep") -> "torch.Tensor":  # noqa: PLR0911 - one return per rule
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
    return z_score(tensor, nonzero_only=step.nonzero_only)


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


def z_score(tensor: "torch.Tensor", *, nonzero_only: bool = False) -> "torch.Tensor":
    """Return the tensor with mean 0 and (population) standard deviation 1.

    With ``nonzero_only`` both come from the voxels that are not 0, and the others stay 0.
    """
    import torch

    if not nonzero_only:
        return (tensor - tensor.mean()).div_(max(float(tensor.std(correction=0)), 1e-8))
    inside = tensor != 0
    values = tensor[inside]
    if not len(values):
        return tensor
    scaled = (tensor - values.mean()) / max(float(values.std(correction=0)), 1e-8)
    return torch.where(inside, scaled, torch.zeros((), device=tensor.device))


def cormack_units(hounsfield: "torch.Tensor") -> "torch.Tensor":
    """Return a CT in Cormack units, a copy: air is 0, and -100 to 100 HU is stretched eleven-fold.

    The range of the brain, 200 HU of some 4000, then covers about half of the scale (Rorden et al., NeuroImage 2012).
    Values below -1024, which some scanners write outside their field of view, count as -1024.
    """
    shifted = hounsfield.float().clamp(min=-1024)
    shifted -= shifted.min()
    return shifted + 10 * (shifted - 900).clamp(0, 200)


def _scale(tensor: "torch.Tensor", low: float, high: float) -> "torch.Tensor":
    return tensor.sub_(low).div_(max(high - low, 1e-38))
