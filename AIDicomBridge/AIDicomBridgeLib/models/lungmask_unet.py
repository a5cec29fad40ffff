"""The 2D U-Net of lungmask (Hofmanninger et al., Eur Radiol Exp 2020): five levels, bilinear upsampling."""

from typing import TYPE_CHECKING

from .card import NetworkRules
from .state_dicts import load_into

if TYPE_CHECKING:
    import torch
    from torch import nn

_LEVELS = (64, 128, 256, 512, 1024)
# The checkpoints hold branches that this variant of the network does not use.
_UNUSED = (".residual_input_conv.", ".residual_batchnorm.")


def build_lungmask(rules: NetworkRules, tensors: "dict[str, torch.Tensor]") -> "nn.Module":
    """Return the network with its weights, in evaluation mode: (N, 1, H, W) to log-probabilities (N, classes, H, W).

    Heights and widths must be multiples of 16.

    Raises
    ------
    WeightsError
        The tensors are not those of this architecture.
    """
    import torch
    from torch import nn

    class Convolutions(nn.Module):
        def __init__(self, inside: int, outside: int) -> None:
            super().__init__()
            self.block = nn.Sequential(
                nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outside),
                nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outside),
            )  # fmt: skip

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.block(tensor)
            return result

    class Up(nn.Module):
        def __init__(self, inside: int, outside: int) -> None:
            super().__init__()
            self.up = nn.Sequential(nn.Upsample(mode="bilinear", scale_factor=2), nn.Conv2d(inside, outside, 1))
            self.conv_block = Convolutions(inside, outside)

        def forward(self, tensor: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.conv_block(torch.cat([self.up(tensor), beside], 1))
            return result

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            down = zip((1, *_LEVELS[:-1]), _LEVELS, strict=True)
            up = zip(_LEVELS[:0:-1], _LEVELS[-2::-1], strict=True)
            self.down_path = nn.ModuleList(Convolutions(inside, outside) for inside, outside in down)
            self.up_path = nn.ModuleList(Up(inside, outside) for inside, outside in up)
            self.last = nn.Conv2d(_LEVELS[0], rules.classes, 1)

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            seen = []
            for level, convolutions in enumerate(self.down_path):
                tensor = convolutions(nn.functional.avg_pool2d(tensor, 2) if level else tensor)
                seen.append(tensor)
            seen.pop()
            for up in self.up_path:
                tensor = up(tensor, seen.pop())
            return nn.functional.log_softmax(self.last(tensor), 1)

    kept = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in _UNUSED)}
    return load_into(UNet(), kept)
