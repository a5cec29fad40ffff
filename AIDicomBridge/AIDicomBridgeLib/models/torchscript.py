"""TorchScript files: networks that bring their own code. Only what :mod:`consent` lets through comes here."""

import io

from ..errors import WeightsError
from ..inference.member import Member


def load_torchscript(content: bytes) -> Member:
    """Return the network of a TorchScript file, in evaluation mode, on the CPU; **this runs code of the file**.

    Its weights stay in float32, as types may be written into the program.

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
    return Member(network, casting="autocast")
