"""``torch.export`` files (.pt2): networks with their own code. Only what :mod:`consent` lets through comes here."""

import io
from typing import TYPE_CHECKING

from ..errors import WeightsError
from ..inference.member import Member

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def load_export(content: bytes) -> Member:
    """Return the network of a ``torch.export`` file, as exported, on the CPU; **this runs code of the file**.

    It runs in float32, as the types of its tensors are part of the file, and on as many windows as it was exported for.

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
    return Member(program.module(), casting="none", windows_at_once=_exported_for(program))


def _exported_for(program: "ExportedProgram") -> int | None:
    """Return the number of windows that a program was exported for; None if it takes any."""
    names = program.graph_signature.user_inputs
    inputs = [node.meta.get("val") for node in program.graph.nodes if node.name in names]
    count = inputs[0].shape[0] if inputs and hasattr(inputs[0], "shape") and inputs[0].ndim else None
    return count if isinstance(count, int) else None
