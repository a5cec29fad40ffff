"""MeshNet: a stack of dilated 3x3x3 convolutions that keeps the full resolution (Fedorov et al., arXiv:1612.00940)."""

from typing import TYPE_CHECKING

from ..errors import DependencyError, WeightsError
from .card import NetworkRules

if TYPE_CHECKING:
    from torch import nn


def build_meshnet(rules: NetworkRules, weights: bytes) -> "nn.Sequential":
    """Return the network with its weights, in evaluation mode: (N, 1, D, H, W) to logits (N, classes, D, H, W).

    Every hidden block is convolution (no bias), group normalisation with one channel per group (no affine), GELU
    with the tanh approximation; the last layer is a 1x1x1 convolution.

    Raises
    ------
    DependencyError
        safetensors is not installed.
    WeightsError
        The file is no safetensors file, or its tensors are not those of this architecture.
    """
    from torch import nn

    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise DependencyError(
            "the package safetensors is not installed", advice="Install it: pip install safetensors"
        ) from error

    layers: list[nn.Module] = []
    channels_in = 1
    for dilation in rules.dilations:
        layers += [
            nn.Conv3d(channels_in, rules.channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.GroupNorm(rules.channels, rules.channels, eps=1e-5, affine=False),
            nn.GELU(approximate="tanh"),
        ]
        channels_in = rules.channels
    layers.append(nn.Conv3d(channels_in, rules.classes, 1, bias=False))
    network = nn.Sequential(*layers)
    try:
        state = {name.removeprefix("model."): tensor for name, tensor in load(weights).items()}
        network.load_state_dict(state, strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError("the weights file does not hold the tensors of this MeshNet") from error
    return network.eval()
