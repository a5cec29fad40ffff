"""TorchScript files: networks that bring their own code. Only what :mod:`consent` lets through comes here."""

import io
from typing import TYPE_CHECKING

from ..errors import WeightsError

if TYPE_CHECKING:
    import torch


def load_torchscript(content: bytes) -> "torch.jit.ScriptModule":
    """Return the network of a TorchScript file, in evaluation mode, on the CPU; **this runs code of the file**.

    Raises
    ------
    WeightsError
        It is no TorchScript file, or is damaged.
    """
    import torch

    try:
        network = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except RuntimeError as error:
        raise WeightsError("the file is no TorchScript file that this torch can read, or is damaged") from error
    network.eval()
    return network
