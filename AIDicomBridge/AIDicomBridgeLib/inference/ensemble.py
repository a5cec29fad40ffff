"""One or several networks that are asked the same question, and whose answers are averaged."""

from collections.abc import Sequence
from itertools import chain, combinations
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .member import Member, Network

if TYPE_CHECKING:
    import torch


class Ensemble:
    """Networks on their device, ready to be called with windows.

    Parameters
    ----------
    members
        Networks of one kind, such as the folds of a cross-validation; moved to the device and kept there.
    precision
        What they run in, as far as each bears it.
    flat
        The networks are 2D: they take (N, C, h, w), and windows are one slice thick.
    mirror_axes
        Axes of D, H, W along which mirrored windows are averaged in.
    compiled, classes
        Let torch compile the networks; which of several outputs is meant. See :meth:`.member.Member.to`.

    Attributes
    ----------
    precision
        What they do run in.
    """

    def __init__(
        self,
        members: Sequence[Member | Network],
        device: "torch.device",
        precision: "torch.dtype",
        *,
        flat: bool = False,
        mirror_axes: tuple[int, ...] = (),
        compiled: bool = False,
        classes: int = 0,
    ) -> None:
        self.device = device
        self.flat = flat
        self.members = [
            member.to(device, precision, compiled=compiled, classes=classes)
            for member in (given if isinstance(given, Member) else Member(given) for given in members)
        ]
        self.precision = self.members[0].precision
        self._mirrored = tuple(
            chain.from_iterable(combinations(mirror_axes, count) for count in range(1, len(mirror_axes) + 1))
        )

    @property
    def weights_bytes(self) -> int:
        """What the weights of all members take on the device."""
        return sum(member.weights_bytes for member in self.members)

    @property
    def forwards(self) -> int:
        """How many forward passes a window takes: one for each member and mirroring."""
        return len(self.members) * (1 + len(self._mirrored))

    def activations(self, batch: int, channels: int, patch: tuple[int, ...]) -> tuple[int, bool]:
        """Return the predicted bytes of one forward pass, and whether a dry run found them."""
        return self.members[0].activations((batch, channels, *(patch[1:] if self.flat else patch)))

    def __call__(self, windows: "torch.Tensor", cancel: CancelToken | None = None) -> "torch.Tensor":
        """Return the averaged outputs (N, classes, d, h, w) of windows (N, C, d, h, w), both on the device.

        Several are summed in float32, whatever they were computed in.

        Raises
        ------
        ModelError
            A network fails on the windows.
        JobCancelled
            ``cancel`` was called; it takes effect after the current operation, of a compiled network after the current
            forward pass.
        """
        total: torch.Tensor | None = None
        for axes in ((), *self._mirrored):
            dims = [axis + 2 for axis in axes]
            seen = windows.flip(dims) if axes else windows
            for member in self.members:
                check_cancel(cancel)
                if total is not None:
                    _add(total, self._outputs(member, seen, cancel), dims)
                else:
                    total = self._outputs(member, seen, cancel)
                    total = total.float() if self.forwards > 1 else total
        if total is None:
            raise ModelError("the model was released", advice="Load it again.")
        return total.div_(self.forwards) if self.forwards > 1 else total

    def _outputs(self, member: Member, windows: "torch.Tensor", cancel: CancelToken | None) -> "torch.Tensor":
        return member(windows[:, :, 0], cancel)[:, :, None] if self.flat else member(windows, cancel)

    def whole(
        self, tensor: "torch.Tensor", progress: ProgressCallback | None, cancel: CancelToken | None
    ) -> "torch.Tensor":
        """Return the outputs (classes, D, H, W) of a whole volume (C, D, H, W) seen at once.

        A stack of layers reports after each; any other network only before and after. A cancel is heard as in a call.
        """
        where = f"{self.device}, {str(self.precision).removeprefix('torch.')}"
        layers = self.members[0].layers if self.forwards == 1 else []
        if not layers:
            report(progress, "segment", 0, 1, "volumes", where)
            return self(tensor[None], cancel)[0]
        activation = tensor[None]
        for number, layer in enumerate(layers, start=1):
            check_cancel(cancel)
            activation = layer(activation, cancel)
            report(progress, "segment", number, len(layers), "layers", where)
        return activation[0]


def _add(total: "torch.Tensor", outputs: "torch.Tensor", dims: list[int]) -> None:
    """Add outputs (N, classes, d, h, w), mirrored along ``dims``, to the total: one class of them is turned at once."""
    for sums, added in zip(total.unbind(1), outputs.unbind(1), strict=True):
        sums.add_(added.flip([dim - 1 for dim in dims]) if dims else added)
