"""How much memory the layers of a network hold at their peak, found by a dry run that computes nothing."""

import copy
import math
import weakref
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Beside the tensors: the convolutions' own work space and the allocator's gaps. Measured: 1.0 to 1.3 in float32.
HEADROOM = 1.35
_FLOAT32_SHARE = 1.25  # of all in float32: the most that autocast can take, with a layer's input in both precisions
_CHANNELS_WHERE_UNKNOWN = 96  # full-resolution channels that a typical U-Net holds at its widest moment
_TENSORS_AT_ONCE = 10  # of a U-Net's full-resolution width, with headroom: skip, its join, what comes of it
# What autocast brings to the lower precision, and what to float32 on a GPU or on the CPU; the rest takes what comes.
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
_LOWERED = _CONVOLUTIONS | {
    "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "addbmm", "baddbmm", "einsum", "prelu",
    "scaled_dot_product_attention",
}  # fmt: skip
_RAISED = {
    "softmax", "log_softmax", "layer_norm", "group_norm", "rms_norm", "norm", "normalize", "softplus", "interpolate",
    "upsample", "avg_pool3d", "grid_sample", "exp", "expm1", "log", "log1p", "log2", "log10", "logsumexp", "pow",
    "__pow__", "__rpow__", "reciprocal", "rsqrt", "sum", "prod", "cumsum", "cumprod", "cosine_similarity", "dist",
    "cdist",
}  # fmt: skip


def activation_bytes(
    network: Any, shape: tuple[int, ...], precision: "torch.dtype", *, autocast: bool = False, unfolded: bool = False
) -> tuple[int, bool]:
    """Return the predicted peak of a forward pass in bytes, input included, and whether it was found by a dry run.

    The dry run sends a tensor without data through a copy of the network without data and follows every tensor from
    its making to its end. What cannot be run so is estimated: TorchScript from the window and its convolutions' width,
    other callables from the window alone.

    Parameters
    ----------
    network
        A ``torch.nn.Module``, or any callable.
    shape
        (N, C, D, H, W) or (N, C, H, W) of one batch.
    autocast
        Weights and windows are float32, and torch brings to the precision what bears it, copies of weights included.
    unfolded
        Convolutions write every voxel's neighbours out before they multiply, see :func:`.device.unfolds`.
    """
    import torch

    kept = torch.float32 if autocast else precision
    if isinstance(network, torch.nn.Module) and not isinstance(network, torch.jit.ScriptModule):
        for lowered, share in ((precision if autocast else None, 1.0), (None, _FLOAT32_SHARE)):
            try:
                return int(_peak_of_dry_run(network, shape, kept, lowered, unfolded) * share * HEADROOM), True
            except Exception:  # noqa: BLE001 - a network can raise anything; if it is wrong itself, its run says so
                if not autocast:
                    break
    return _estimated(network, shape, kept, precision if autocast else None, unfolded), False


def _peak_of_dry_run(
    network: "torch.nn.Module",
    shape: tuple[int, ...],
    kept: "torch.dtype",
    lowered: "torch.dtype | None",
    unfolded: bool,
) -> int:
    """Return the most bytes at once of tensors of a forward pass; raises whatever the network raises."""
    import torch

    # Parameters on the meta device share nothing with the network; copying them would copy the weights.
    memo: dict[int, Any] = {
        id(tensor): torch.nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False)
        if isinstance(tensor, torch.nn.Parameter)
        else torch.empty_like(tensor, device="meta")
        for tensor in (*network.parameters(), *network.buffers())
    }
    empty = copy.deepcopy(network, memo).to(kept)
    with torch.no_grad(), _live_bytes(lowered, unfolded) as live:
        empty(torch.empty(shape, dtype=kept, device="meta"))
    peak: int = live.peak
    return peak


def _estimated(
    network: Any, shape: tuple[int, ...], kept: "torch.dtype", lowered: "torch.dtype | None", unfolded: bool
) -> int:
    """Return what a forward pass may hold of a network that cannot be run without data."""
    import torch

    weights = list(network.state_dict().values()) if isinstance(network, torch.nn.Module) else []
    convolutions = [tuple(weight.shape) for weight in weights if weight.ndim == len(shape) and weight.numel()]
    # Programs have types written into them.
    itemsize = torch.float32.itemsize if isinstance(network, torch.jit.ScriptModule) else kept.itemsize
    copies = sum(weight.numel() for weight in weights) * lowered.itemsize if lowered is not None else 0
    beside = 0
    if unfolded and convolutions:  # a skip and what comes from below are joined, with all neighbours
        kernel = max(math.prod(extents[2:]) for extents in convolutions)
        beside = int(math.prod(shape[2:]) * shape[0] * 2 * max(_widths(convolutions)) * kernel * 2 * HEADROOM)
    return estimated_bytes(shape, convolutions, itemsize) + beside + copies


def estimated_bytes(shape: tuple[int, ...], convolutions: Sequence[tuple[int, ...]], itemsize: int) -> int:
    """Return what a forward pass may hold, from the window and the width of the first and the last convolution.

    They are the ones that mostly work at full resolution.

    Parameters
    ----------
    shape
        (N, C, D, H, W) or (N, C, H, W) of one batch.
    convolutions
        (outputs, inputs, d, h, w) or (outputs, inputs, h, w) of the weights of all that are known, in their order.
    itemsize
        Bytes of a value.
    """
    channels = max([_CHANNELS_WHERE_UNKNOWN, *(_TENSORS_AT_ONCE * width for width in _widths(convolutions))])
    return math.prod(shape[2:]) * shape[0] * channels * itemsize


def _widths(convolutions: Sequence[tuple[int, ...]]) -> list[int]:
    return [
        # An even kernel steps over voxels, mostly by its own size.
        math.ceil(max(out, into) / math.prod(size for size in kernel if size % 2 == 0))
        for out, into, *kernel in (*convolutions[:1], *convolutions[-1:])
    ]


def _live_bytes(lowered: "torch.dtype | None", unfolded: bool) -> Any:
    """Return a context that counts the bytes of all tensors made within it that are alive.

    With a lower precision it does as autocast does, which knows no tensors without data: what a layer wants in another
    precision is copied for as long as the layer takes, and the copies of weights stay until the end of the pass. Its
    class can only be made where torch is imported.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class LiveBytes(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self._seen: set[int] = set()
            self._weights: dict[int, torch.Tensor] = {}

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, options = getattr(func, "__name__", ""), kwargs or {}
            if lowered is not None and name in _LOWERED | _RAISED:
                wanted = lowered if name in _LOWERED else torch.float32
                args = self._cast(args, wanted)
                options = {key: self._cast(value, wanted) for key, value in options.items()}
            result = _known_result(name, args, options)
            if result is None:
                result = func(*args, **options)
            if unfolded and name in _CONVOLUTIONS:
                weight = args[1] if len(args) > 1 else options["weight"]
                columns = _unfolded_bytes(name, args[0] if args else options["input"], weight, result)
                self.peak = max(self.peak, self.now + columns + result.nbytes)
            for tensor in result if isinstance(result, list | tuple) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self._count(tensor)
            return result

        def _cast(self, value: Any, wanted: torch.dtype) -> Any:
            if isinstance(value, list | tuple):
                cast = (self._cast(item, wanted) for item in value)
                return list(cast) if isinstance(value, list) else tuple(cast)
            if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dtype == wanted:
                return value
            found = self._weights.get(id(value))
            if found is None:
                found = value.to(wanted)
                self._count(found)
                if isinstance(value, torch.nn.Parameter):
                    self._weights[id(value)] = found
            return found

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


def _unfolded_bytes(name: str, given: "torch.Tensor", weight: "torch.Tensor", result: "torch.Tensor") -> int:
    """Return the bytes of the neighbours that a convolution writes out, or a transposed one before it adds them up."""
    wide, at = (result, given) if "transpose" in name else (given, result)
    return wide.shape[1] * math.prod(weight.shape[2:]) * math.prod(at.shape[2:]) * at.shape[0] * at.itemsize


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
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in given))
        return torch.empty(size, dtype=dtype, device=given[0].device)
    return None
