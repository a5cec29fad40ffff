"""The two networks that nnU-Net v2 trains, built from its plans: a plain and a residual-encoder U-Net, in 2D and 3D.

The names of the parts are those of the checkpoints, so that their tensors fit as they are.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .state_dicts import load_into

if TYPE_CHECKING:
    import torch
    from torch import nn

_PLAIN, _RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_USUAL_PARTS = {"norm_op": "InstanceNorm", "nonlin": "LeakyReLU", "block": "BasicBlockD"}


def read_architecture(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the network's class name and its arguments from one configuration of ``plans.json``, either form of it.

    Raises
    ------
    ModelError
        It is another network than the two.
    """
    if "architecture" in configuration:  # nnU-Net 2.4 and newer
        name = str(configuration["architecture"]["network_class_name"]).rpartition(".")[2]
        arguments = dict(configuration["architecture"]["arch_kwargs"])
    else:
        name = str(configuration.get("UNet_class_name", ""))
        stages = len(configuration["pool_op_kernel_sizes"])
        first, most = int(configuration["UNet_base_num_features"]), int(configuration["unet_max_num_features"])
        arguments = {
            "features_per_stage": [min(first * 2**stage, most) for stage in range(stages)],
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            "n_conv_per_stage": configuration["n_conv_per_stage_encoder"],
            "n_blocks_per_stage": configuration["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        }
    parts = {key: str(arguments.get(key) or usual).rpartition(".")[2] for key, usual in _USUAL_PARTS.items()}
    known = name in (_PLAIN, _RESIDUAL) and parts["norm_op"].startswith("InstanceNorm")
    if not known or parts["nonlin"] not in ("LeakyReLU", "ReLU") or parts["block"] != "BasicBlockD":
        raise ModelError(
            f"the plans name the network {name} of {', '.join(parts.values())}; known are {_PLAIN} and {_RESIDUAL} of "
            "InstanceNorm, LeakyReLU or ReLU, and BasicBlockD"
        )
    for key in ("nonlin_first", "bottleneck_channels", "squeeze_excitation"):
        if arguments.get(key):
            raise ModelError(f"the plans ask for '{key}' in the network {name}, which is not supported")
    return name, arguments


def build_nnunet(
    configuration: Mapping[str, Any], channels: int, classes: int, tensors: "dict[str, torch.Tensor]"
) -> "nn.Module":
    """Return the network with its weights, in evaluation mode: windows in, full-resolution logits out.

    Raises
    ------
    ModelError
        The network is none of the two.
    WeightsError
        The tensors are not those of the plans.
    """
    name, arguments = read_architecture(configuration)
    network = _unet(name == _RESIDUAL, arguments, channels, classes)
    # Checkpoints name most tensors two or three times, and hold the heads of the lower resolutions of training.
    wanted = network.state_dict()
    kept = {key.removeprefix("module.").replace("._orig_mod", ""): tensor for key, tensor in tensors.items()}
    aliases = ("decoder.encoder.", "decoder.seg_layers.")
    spare = {key for key in kept if key not in wanted and (key.startswith(aliases) or ".all_modules." in key)}
    return load_into(network, {key: tensor for key, tensor in kept.items() if key not in spare})


def _unet(residual: bool, given: Mapping[str, Any], channels: int, classes: int) -> "nn.Module":
    import torch
    from torch import nn

    kernels, strides = given["kernel_sizes"], given["strides"]
    flat = len(kernels[0]) == 2
    conv = nn.Conv2d if flat else nn.Conv3d
    transposed = nn.ConvTranspose2d if flat else nn.ConvTranspose3d
    norm_of = nn.InstanceNorm2d if flat else nn.InstanceNorm3d
    pool = nn.AvgPool2d if flat else nn.AvgPool3d
    norm_kwargs = given.get("norm_op_kwargs") or {"eps": 1e-5, "affine": True}
    leaky = str(given.get("nonlin") or "LeakyReLU").endswith("LeakyReLU")
    slope = float((given.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)) if leaky else 0.0
    features = [int(count) for count in given["features_per_stage"]]
    bias = bool(given.get("conv_bias", True))

    class Convolution(nn.Module):
        def __init__(
            self, inside: int, outside: int, kernel: Any, stride: Any, *, bias: bool = bias, active: bool = True
        ) -> None:
            super().__init__()
            padding: Any = [(size - 1) // 2 for size in kernel]
            self.conv = conv(inside, outside, kernel, stride, padding, bias=bias)
            self.norm = norm_of(outside, **norm_kwargs)
            self._active = active

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            tensor = self.norm(self.conv(tensor))
            return nn.functional.leaky_relu(tensor, slope, inplace=True) if self._active else tensor

    class Stack(nn.Module):
        def __init__(self, count: int, inside: int, outside: int, kernel: Any, stride: Any) -> None:
            super().__init__()
            ones = [1] * len(kernel)
            self.convs = nn.Sequential(
                *(
                    Convolution(outside if number else inside, outside, kernel, ones if number else stride)
                    for number in range(count)
                )
            )

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.convs(tensor)
            return result

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, kernel: Any, stride: Any) -> None:
            super().__init__()
            ones = [1] * len(kernel)
            self.conv1 = Convolution(inside, outside, kernel, stride)
            self.conv2 = Convolution(outside, outside, kernel, ones, active=False)
            ways: list[nn.Module] = [pool(stride, stride)] if any(step != 1 for step in stride) else []
            if inside != outside:
                ways.append(Convolution(inside, outside, ones, ones, bias=False, active=False))
            self.skip = nn.Sequential(*ways)

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            around = self.skip(tensor)
            return nn.functional.leaky_relu(self.conv2(self.conv1(tensor)) + around, slope, inplace=True)

    class Blocks(nn.Module):
        def __init__(self, count: int, inside: int, outside: int, kernel: Any, stride: Any) -> None:
            super().__init__()
            ones = [1] * len(kernel)
            self.blocks = nn.Sequential(
                *(
                    Block(outside if number else inside, outside, kernel, ones if number else stride)
                    for number in range(count)
                )
            )

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.blocks(tensor)
            return result

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            counts = _per_stage(given["n_blocks_per_stage" if residual else "n_conv_per_stage"], len(features))
            inside = channels
            if residual:
                inside = int(given.get("stem_channels") or features[0])
                self.stem = Stack(1, channels, inside, kernels[0], [1] * len(kernels[0]))
            stages: list[nn.Module] = []
            for count, outside, kernel, stride in zip(counts, features, kernels, strides, strict=True):
                stride_list = [stride] * len(kernel) if isinstance(stride, int) else list(stride)
                if residual:
                    stages.append(Blocks(count, inside, outside, kernel, stride_list))
                else:
                    stages.append(nn.Sequential(Stack(count, inside, outside, kernel, stride_list)))
                inside = outside
            self.stages = nn.Sequential(*stages)

        def forward(self, tensor: torch.Tensor) -> list[torch.Tensor]:
            if residual:
                tensor = self.stem(tensor)
            seen = []
            for stage in self.stages:
                tensor = stage(tensor)
                seen.append(tensor)
            return seen

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            last = len(features) - 1
            counts = _per_stage(given["n_conv_per_stage_decoder"], last)
            ups, stages = [], []
            for step in range(1, len(features)):
                below, skip, stride = features[-step], features[-step - 1], strides[-step]
                ups.append(transposed(below, skip, stride, stride, bias=bias))
                kernel = kernels[-step - 1]
                stages.append(Stack(counts[step - 1], 2 * skip, skip, kernel, [1] * len(kernel)))
            self.transpconvs, self.stages = nn.ModuleList(ups), nn.ModuleList(stages)
            # Of the heads only that of the full resolution is needed; it has the last number.
            self.seg_layers = nn.ModuleDict({str(last - 1): conv(features[0], classes, 1)})

        def forward(self, seen: list[torch.Tensor]) -> torch.Tensor:
            tensor = seen.pop()
            for up, stage in zip(self.transpconvs, self.stages, strict=True):
                tensor = stage(torch.cat((up(tensor), seen.pop()), 1))
            head = next(iter(self.seg_layers.values()))
            result: torch.Tensor = head(tensor)
            return result

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = Encoder(), Decoder()

        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.decoder(self.encoder(tensor))
            return result

    return UNet()


def _per_stage(value: "int | Sequence[int]", stages: int) -> list[int]:
    return [value] * stages if isinstance(value, int) else [int(count) for count in value]
