"""One or several networks that are asked the same question, and whose answers are averaged."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .activation_memory import activation_bytes

if TYPE_CHECKING:
    import torch

Member = Callable[["torch.Tensor"], "torch.Tensor"]  # torch modules, mostly


class Ensemble:
    """Networks on their device, ready to be called with windows.

    Parameters
    ----------
    members
        Networks of one kind, such as the folds of a cross-validation; moved to the device and kept there.
    precision
        Of the weights; float16 by autocast, which keeps what it must in float32.
    flat
        The networks are 2D: they take (N, C, h, w), and windows are one slice thick.
    mirror_axes
        Axes of D, H, W along which mirrored windows are averaged in.
    """

    def __init__(
        self,
        members: Sequence[Member],
        device: "torch.device",
        precision: "torch.dtype",
        *,
        flat: bool = False,
        mirror_axes: tuple[int, ...] = (),
    ) -> None:
        import torch

        self.device = device
        self.precision = precision
        self.flat = flat
        self._autocast = precision == torch.float16
        weights_type = torch.float32 if self._autocast else precision
        self.members = [
            member.to(device, weights_type) if isinstance(member, torch.nn.Module) else member for member in members
        ]
        self._mirrored = tuple(
            chain.from_iterable(combinations(mirror_axes, count) for count in range(1, len(mirror_axes) + 1))
        )

    @property
    def weights_bytes(self) -> int:
        """What the weights of all members take on the device."""
        import torch

        modules = (member for member in self.members if isinstance(member, torch.nn.Module))
        return sum(tensor.nbytes for module in modules for tensor in module.state_dict().values())

    def activations(self, batch: int, channels: int, patch: tuple[int, ...]) -> tuple[int, bool]:
        """Return the predicted bytes of one forward pass, and whether a dry run found them."""
        shape = (batch, channels, *(patch[1:] if self.flat else patch))
        return activation_bytes(self.members[0], shape, self.precision)

    def __call__(self, windows: "torch.Tensor") -> "torch.Tensor":
        """Return the averaged outputs (N, classes, d, h, w) of windows (N, C, d, h, w), both on the device."""
        total = self._forward(windows)
        for axes in self._mirrored:
            dims = [axis + 2 for axis in axes]
            total = total + self._forward(windows.flip(dims)).flip(dims)
        count = len(self.members) * (1 + len(self._mirrored))
        return total / count if count > 1 else total

    def whole(
        self, tensor: "torch.Tensor", progress: ProgressCallback | None, cancel: CancelToken | None
    ) -> "torch.Tensor":
        """Return the outputs (classes, D, H, W) of a whole volume (C, D, H, W) seen at once.

        A stack of layers reports and can be cancelled after each; any other network only before and after.
        """
        import torch

        network = self.members[0]
        where = f"{self.device}, {str(self.precision).removeprefix('torch.')}"
        if len(self.members) > 1 or self._mirrored or not isinstance(network, torch.nn.Sequential):
            report(progress, "segment", 0, 1, "volumes", where)
            return self(tensor[None])[0]
        activation = tensor[None].to(self._input_type)
        with self._running():
            for number, layer in enumerate(network, start=1):
                check_cancel(cancel)
                activation = layer(activation)
                report(progress, "segment", number, len(network), "layers", where)
        return activation[0]

    @property
    def _input_type(self) -> "torch.dtype":
        import torch

        return torch.float32 if self._autocast else self.precision

    def _running(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self.device.type, torch.float16, enabled=self._autocast)

    def _forward(self, windows: "torch.Tensor") -> "torch.Tensor":
        windows = windows.to(self._input_type)
        if self.flat:
            windows = windows[:, :, 0]
        total: torch.Tensor | None = None
        with self._running():
            for member in self.members:
                outputs = _tensor_of(member(windows))
                total = outputs if total is None else total + outputs
        if total is None:
            raise ModelError("the model was released", advice="Load it again.")
        return total[:, :, None] if self.flat else total


def _tensor_of(outputs: Any) -> "torch.Tensor":
    """Return the full-resolution output of networks that give several, or a dictionary of them."""
    import torch

    if isinstance(outputs, dict):
        outputs = next(iter(outputs.values()))
    if isinstance(outputs, list | tuple):
        outputs = outputs[0]
    if not isinstance(outputs, torch.Tensor) or math.prod(outputs.shape) == 0:
        raise ModelError("the network does not give a tensor", advice="Use another model file.")
    return outputs
