"""Reading plain weights: safetensors, and torch checkpoints without ever running what they hold."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, WeightsError

if TYPE_CHECKING:
    import torch


def read_safetensors(content: bytes) -> "dict[str, torch.Tensor]":
    """Return the tensors of a safetensors file by name.

    Raises
    ------
    DependencyError
        safetensors is not installed.
    WeightsError
        The content is no safetensors file.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise DependencyError(
            "the package safetensors is not installed", advice="Install it: pip install safetensors"
        ) from error
    try:
        tensors: dict[str, torch.Tensor] = load(content)
    except SafetensorError as error:
        raise WeightsError("the weights file is no safetensors file, or is damaged") from error
    return tensors


def read_checkpoint(source: bytes | Path) -> dict[str, Any]:
    """Return what ``torch.save`` wrote: tensors, numbers, texts, and containers of them; on the CPU.

    A checkpoint is a pickle, and a pickle can be a program. Only the types named here are made from it, whatever it
    says: those that torch allows, and numpy's numbers, which honest training scripts leave in their checkpoints.

    Raises
    ------
    DependencyError
        torch is not installed.
    WeightsError
        It is no checkpoint, is damaged, or holds anything else; nothing of it was run.
    """
    try:
        import torch
    except ImportError as error:
        raise DependencyError("the package torch is not installed", advice="Install it: pip install torch") from error

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with torch.serialization.safe_globals(_numpy_types()):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in torch's own reader
        raise WeightsError(
            "the checkpoint cannot be read as plain weights: it is damaged, or holds more than tensors and numbers",
            advice="Nothing of it was run. Ask the model's author for a safetensors file.",
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError("the checkpoint is no table of tensors")
    return content


def load_into(network: "torch.nn.Module", tensors: "dict[str, torch.Tensor]") -> "torch.nn.Module":
    """Fill a network with tensors of exactly its names and shapes; return it in evaluation mode.

    Raises
    ------
    WeightsError
        A tensor is missing, too many, or of another shape; the text names the first.
    """
    import torch

    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise WeightsError("the weights are no table of tensors")
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise WeightsError(f"the weights lack the tensor '{name}' of this architecture")
        if not isinstance(tensors[name], torch.Tensor):
            raise WeightsError(f"what the weights call '{name}' is no tensor")
        if tensors[name].shape != tensor.shape:
            raise WeightsError(
                f"the tensor '{name}' of the weights is {tuple(tensors[name].shape)}, and the card's network needs "
                f"{tuple(tensor.shape)}",
                advice="Check classes, channels and architecture on the card.",
            )
    if unknown := sorted(set(tensors) - set(wanted)):
        raise WeightsError(f"the weights hold the tensor '{unknown[0]}', which this architecture does not have")
    network.load_state_dict(tensors)
    return network.eval()


def _numpy_types() -> list[Any]:
    """Return what pickled numpy numbers are made of: no function among them that does more than make a number."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    # Under the name that numpy 1 gave it, checkpoints of many years call it.
    names = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype]
    return [*names, *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}]
