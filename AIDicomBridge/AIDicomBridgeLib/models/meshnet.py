"""MeshNet: a stack of dilated 3x3x3 convolutions that keeps the full resolution (Fedorov et al., arXiv:1612.00940)."""

from typing import TYPE_CHECKING

from .card import NetworkRules
from .state_dicts import load_into

if TYPE_CHECKING:
    import torch
    from torch import nn


def build_meshnet(rules: NetworkRules, channels: int, tensors: "dict[str, torch.Tensor]") -> "nn.Module":
    """Return the network with its weights, in evaluation mode: (N, channels, D, H, W) to logits (N, classes, D, H, W).

    Every hidden block is convolution (no bias), group normalisation with one channel per group (no affine), GELU
    with the tanh approximation; the last layer is a 1x1x1 convolution.

    Raises
    ------
    WeightsError
        The tensors are not those of this architecture.
    """
    from torch import nn

    layers: list[nn.Module] = []
    channels_in = channels
    for dilation in rules.dilations:
        layers += [
            nn.Conv3d(channels_in, rules.channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.GroupNorm(rules.channels, rules.channels, eps=1e-5, affine=False),
            nn.GELU(approximate="tanh"),
        ]
        channels_in = rules.channels
    layers.append(nn.Conv3d(channels_in, rules.classes, 1, bias=False))
    return load_into(nn.Sequential(*layers), {name.removeprefix("model."): t for name, t in tensors.items()})
