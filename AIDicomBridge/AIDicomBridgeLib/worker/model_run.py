"""Which model the worker is asked to run, and how."""

from dataclasses import dataclass
from pathlib import Path

from ..models.card import ModelCard


@dataclass(frozen=True)
class ModelRun:
    """A model and the options of its run.

    Attributes
    ----------
    model
        Its name, card, or path.
    device, precision, mirror
        As :func:`~..models.loading.load_model` takes them.
    probabilities, memory_limit_bytes
        As :meth:`~..models.model.Model.segment` takes them.
    """

    model: str | Path | ModelCard
    device: str = "auto"
    precision: str = "auto"
    mirror: bool = True
    probabilities: bool = False
    memory_limit_bytes: int | None = None
