"""One network as it is run: brought to a device and a precision in the way that it bears."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import BridgeError, JobCancelled, MemoryLimitError, ModelError
from ..progress import CancelToken
from .activation_memory import activation_bytes
from .device import is_out_of_memory, unfolds
from .interruptible import interruptible

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], Any]  # torch modules, mostly; some give several tensors
Layer = Callable[["torch.Tensor", CancelToken | None], "torch.Tensor"]


class Member:
    """A network, and how a lower precision than float32 is reached with it.

    Parameters
    ----------
    network
        Takes (N, C, d, h, w), or (N, C, h, w) for a 2D one, and gives as many channels as it has classes.
    casting
        ``"weights"``: they are converted. ``"autocast"``: they stay in float32, and torch converts what bears it; for
        programs, which may have float32 written into them. ``"none"``: it runs in float32, whatever is asked for.
    windows_at_once
        For what was exported for just so many; others are run in several goes. None for any number.

    Attributes
    ----------
    network
        As it was given, or as it was moved by :meth:`to`.
    precision
        What it runs in, since :meth:`to`.
    """

    def __init__(self, network: Network, *, casting: str = "weights", windows_at_once: int | None = None) -> None:
        self.network = network
        self.casting = casting
        self.windows_at_once = windows_at_once
        self._run = network

    def to(
        self, device: "torch.device", precision: "torch.dtype", *, compiled: bool = False, classes: int = 0
    ) -> "Member":
        """Move the network to a device and prepare it for a precision; return itself.

        Parameters
        ----------
        compiled
            Let torch compile a network with layers of its own for the shape of its first window: that takes a minute,
            and a C++ compiler on the machine.
        classes
            Channels of the output that is meant where the network gives several; 0 for any.

        Raises
        ------
        MemoryLimitError
            The device has no room for the weights.
        """
        import torch

        self.precision = torch.float32 if self.casting == "none" else precision
        # float16 has too few digits for sums: autocast keeps in float32 what must stay there.
        self._autocast = self.precision != torch.float32 and (
            self.casting == "autocast" or self.precision == torch.float16
        )
        self._input_type = torch.float32 if self._autocast else self.precision
        if isinstance(self.network, torch.nn.Module):
            try:
                self.network = self.network.to(device, self._input_type)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise MemoryLimitError(
                    f"the memory of {device} does not suffice for the weights of the network",
                    advice="Close other programs, or use another device.",
                ) from error
        self._device = device
        self._classes = classes
        self._run = self.network
        if compiled and isinstance(self.network, torch.nn.Module) and self.casting == "weights":
            self._run = torch.compile(self.network, dynamic=False)
        return self

    @property
    def compiled(self) -> bool:
        """True if torch compiles what is run."""
        return self._run is not self.network

    @property
    def weights_bytes(self) -> int:
        """What the weights take on the device."""
        import torch

        if not isinstance(self.network, torch.nn.Module):
            return 0
        return sum(tensor.nbytes for tensor in self.network.state_dict().values())

    def activations(self, shape: tuple[int, ...]) -> tuple[int, bool]:
        """Return the predicted bytes of one forward pass of windows of that shape, and whether a dry run found them."""
        return activation_bytes(
            self.network,
            self._run_at_once(shape),
            self.precision,
            autocast=self._autocast,
            unfolded=unfolds(self._device, self.precision),
        )

    def _run_at_once(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.windows_at_once or shape[0], *shape[1:]

    def __call__(self, windows: "torch.Tensor", cancel: CancelToken | None = None) -> "torch.Tensor":
        """Return the network's full-resolution outputs of windows on its device.

        Raises
        ------
        ModelError
            The network fails on them, gives no tensor, or several of which none, or not just one, can be meant.
        MemoryError
            There is not enough, on whichever device.
        JobCancelled
            ``cancel`` was called; it takes effect after the current operation, of a compiled network after the pass.
        """
        import torch

        if not self.windows_at_once or self.windows_at_once == len(windows):
            return self._outputs(self._run, windows, cancel)
        outputs = []
        for piece in windows.split(self.windows_at_once):
            missing = self.windows_at_once - len(piece)
            filled = torch.cat([piece, piece[-1:].expand(missing, *piece.shape[1:])]) if missing else piece
            outputs.append(self._outputs(self._run, filled, cancel)[: len(piece)])
        return torch.cat(outputs)

    @property
    def layers(self) -> list[Layer]:
        """The steps of a network that is a stack of layers, each to be called as this is; none for others."""
        import torch

        if not isinstance(self.network, torch.nn.Sequential) or self.compiled:
            return []
        return [partial(self._outputs, layer) for layer in self.network]

    def _outputs(self, run: Network, windows: "torch.Tensor", cancel: CancelToken | None) -> "torch.Tensor":
        import torch

        if windows.dtype == torch.float32:  # what a layer before gave stays as it is
            windows = windows.to(self._input_type)
        try:
            with torch.autocast(self._device.type, self.precision, enabled=self._autocast):
                outputs = self._passed(run, windows, cancel)
            if isinstance(outputs, torch.Tensor) and outputs.numel():
                return outputs
            return _one_of(outputs, self._classes, tuple(windows.shape[2:]))
        except (BridgeError, JobCancelled):
            raise
        except Exception as error:  # a program, a compiler or a runtime can raise anything
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error  # of one type, whatever ran the network
            raise self._failure(error, windows) from error

    def _passed(self, run: Network, windows: "torch.Tensor", cancel: CancelToken | None) -> Any:
        """Return whatever the network gives."""
        with interruptible(None if self.compiled else cancel):
            return run(windows)

    def _failure(self, error: Exception, windows: "torch.Tensor") -> ModelError:
        # torch ends what went wrong within a network with it; its compiler begins with it, and ends with advice.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0 if self.compiled else -1][:200]
        kind = str(self.precision).removeprefix("torch.")
        advice = "Is the card's patch, and its number of channels, what the network takes?"
        if self.compiled:
            advice = "Leave --compile out, or install a C++ compiler (g++, clang or MSVC) where it can be found."
        elif self._autocast or kind != "float32":
            advice += " If so: it may bear no other precision than float32 (--precision float32)."
        return ModelError(f"the network fails on a window of {tuple(windows.shape)} in {kind}: {said}", advice=advice)


def _one_of(outputs: Any, classes: int, extent: tuple[int, ...]) -> "torch.Tensor":
    """Return the output of full resolution and so many channels of a network that gives several, by name or not."""
    found = dict(_tensors(outputs))
    if not found:
        raise ModelError("the network does not give a tensor", advice="Use another model file.")
    fitting = [tensor for tensor in found.values() if tensor.shape[2:] == extent and classes in (0, *tensor.shape[1:2])]
    if len(found) > 1 and len(fitting) != 1:
        shown = ", ".join(f"{name} {tuple(tensor.shape[1:])}" for name, tensor in found.items())
        raise ModelError(
            f"the network gives {len(found)} outputs, {shown}, and {len(fitting) or 'none'} of them could be meant: "
            f"{classes or 'any'} channels of {extent}",
            advice="Export it with the one output that is the segmentation.",
        )
    return (fitting or list(found.values()))[0]


def _tensors(outputs: Any, name: str = "") -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield every tensor that holds something, with the names or numbers that lead to it."""
    import torch

    if isinstance(outputs, torch.Tensor) and outputs.numel():
        yield name, outputs
    elif isinstance(outputs, dict | list | tuple):
        for key, value in outputs.items() if isinstance(outputs, dict) else enumerate(outputs, start=1):
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
