"""How much memory the layers of a network hold at their peak, found by a dry run that computes nothing."""

import copy
import math
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Beside the tensors: the convolutions' own work space and the allocator's gaps. Measured: 1.0 to 1.3 in float32.
HEADROOM = 1.35
_CHANNELS_WHERE_UNKNOWN = 96  # full-resolution channels that a typical U-Net holds at its widest moment
_TENSORS_AT_ONCE = 10  # of a U-Net's full-resolution width, with headroom: skip, its join, what comes of it


def activation_bytes(network: Any, shape: tuple[int, ...], precision: "torch.dtype") -> tuple[int, bool]:
    """Return the predicted peak of a forward pass in bytes, input included, and whether it was found by a dry run.

    The dry run sends a tensor without data through a copy of the network without data and follows every tensor from
    its making to its end. What cannot be run so is estimated: TorchScript from the window and its convolutions' width,
    other callables (ONNX) from the window alone.

    Parameters
    ----------
    network
        A ``torch.nn.Module``, or any callable.
    shape
        (N, C, D, H, W) or (N, C, H, W) of one batch.
    """
    import torch

    fallback = _estimated(network, shape, precision)
    if not isinstance(network, torch.nn.Module) or isinstance(network, torch.jit.ScriptModule):
        return fallback, False
    try:
        # Parameters on the meta device share nothing with the network; copying them would copy the weights.
        memo: dict[int, Any] = {
            id(tensor): torch.nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False)
            if isinstance(tensor, torch.nn.Parameter)
            else torch.empty_like(tensor, device="meta")
            for tensor in (*network.parameters(), *network.buffers())
        }
        empty = copy.deepcopy(network, memo).to(precision)
        with torch.no_grad(), _live_bytes() as live:
            empty(torch.empty(shape, dtype=precision, device="meta"))
    except Exception:  # noqa: BLE001 - a network can raise anything; if it is wrong itself, its run says so by name
        return fallback, False
    return int(live.peak * HEADROOM), True


def _estimated(network: Any, shape: tuple[int, ...], precision: "torch.dtype") -> int:
    """Return what a forward pass may hold, from the window and the width of the first and the last convolution.

    They are the ones that mostly work at full resolution.
    """
    import torch

    weights = list(network.state_dict().values()) if isinstance(network, torch.nn.Module) else []
    convolutions = [weight.shape for weight in weights if weight.ndim == len(shape) and weight.numel()]
    widths = [
        # An even kernel steps over voxels, mostly by its own size.
        math.ceil(max(out, into) / math.prod(size for size in kernel if size % 2 == 0))
        for out, into, *kernel in (*convolutions[:1], *convolutions[-1:])
    ]
    channels = max([_CHANNELS_WHERE_UNKNOWN, *(_TENSORS_AT_ONCE * width for width in widths)])
    # Programs have types written into them.
    itemsize = torch.float32.itemsize if isinstance(network, torch.jit.ScriptModule) else precision.itemsize
    return math.prod(shape[2:]) * shape[0] * channels * itemsize


def _live_bytes() -> Any:
    """Return a context that counts the bytes of all tensors made within it that are alive.

    Its class can only be made where torch is imported.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class LiveBytes(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self._seen: set[int] = set()

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = _known_result(getattr(func, "__name__", ""), args, kwargs or {})
            if result is None:
                result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, list | tuple) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self._count(tensor)
            return result

        def _count(self, tensor: torch.Tensor) -> None:
            with torch._C.DisableTorchFunction():
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
            if key not in self._seen:
                self._seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, key, size)

        def _gone(self, key: int, size: int) -> None:
            self._seen.discard(key)
            self.now -= size

    return LiveBytes()


def _known_result(name: str, args: Any, options: Any) -> "torch.Tensor | None":
    """Return the outcome of what torch, without data, would run its reference code for: that imports the compiler.

    Seconds, for a shape that is known. None for all else.
    """
    import torch

    given = args[0] if args else options.get("tensors" if name == "cat" else "input")
    if given is None:
        return None
    if name.endswith("_norm"):
        return torch.empty_like(given)
    if name in ("leaky_relu", "elu", "gelu"):
        in_place = options.get("inplace") is True or any(value is True for value in args[1:])
        result: torch.Tensor = given if in_place else torch.empty_like(given)
        return result
    if name == "cat":
        dim = options.get("dim", args[1] if len(args) > 1 else 0)
        size = list(given[0].shape)
        size[dim] = sum(tensor.shape[dim] for tensor in given)
        return torch.empty(size, dtype=given[0].dtype, device=given[0].device)
    return None
