"""The built-in procedures: rules without a network, and pipelines with steps of their own around one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..inference.ensemble import Ensemble
from ..progress import CancelToken, ProgressCallback
from ..series.volume import ImageVolume
from .ct_tissues import label_tissues
from .deepbet import label_brain
from .lungmask import label_lungs

if TYPE_CHECKING:
    import torch

    from .card import ModelCard


@dataclass(frozen=True)
class RunContext:
    """What a procedure may use: the card, the device, the loaded networks by name, and the callbacks."""

    card: "ModelCard"
    device: "torch.device"
    networks: Mapping[str, Ensemble]
    progress: ProgressCallback | None
    cancel: CancelToken | None


Procedure = Callable[[ImageVolume, RunContext], np.ndarray]


def _ct_tissues(volume: ImageVolume, context: RunContext) -> np.ndarray:
    return label_tissues(volume, context.device, progress=context.progress, cancel=context.cancel)


def _lungmask(volume: ImageVolume, context: RunContext) -> np.ndarray:
    return label_lungs(volume, context.networks["network"], progress=context.progress, cancel=context.cancel)


def _deepbet(volume: ImageVolume, context: RunContext) -> np.ndarray:
    finder, network = context.networks["finder"], context.networks["network"]
    return label_brain(volume, finder, network, progress=context.progress, cancel=context.cancel)


PROCEDURES: Mapping[str, Procedure] = {"ct-tissues": _ct_tissues, "deepbet": _deepbet, "lungmask": _lungmask}
