"""``torch.export`` files (.pt2): networks with their own code. Only what :mod:`consent` lets through comes here."""

import io
from typing import TYPE_CHECKING

from ..errors import WeightsError

if TYPE_CHECKING:
    from torch import nn


def load_export(content: bytes) -> "nn.Module":
    """Return the network of a ``torch.export`` file, as exported, on the CPU; **this runs code of the file**.

    Raises
    ------
    WeightsError
        It is no such file, or is damaged.
    """
    import torch

    try:
        program = torch.export.load(io.BytesIO(content))
    except Exception as error:
        raise WeightsError("the file is no torch.export file that this torch can read, or is damaged") from error
    return program.module()
