"""The built-in procedures: rules without a network, and pipelines with steps of their own around one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..inference.device import is_out_of_memory
from ..inference.ensemble import Ensemble
from ..inference.kept_memory import freed_memory_kept
from ..inference.memory_plan import FixedNeed, MemoryPlan, available_bytes, out_of_memory
from ..progress import CancelToken, ProgressCallback
from ..series.volume import ImageVolume
from . import ct_tissues, deepbet, lungmask

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ProcedureRun:
    """A procedure of :data:`PROCEDURES`, its loaded networks by name, and the volume that it is to see.

    Attributes
    ----------
    limit
        Bytes that may be used at most; None for what is free.
    """

    procedure: str
    networks: Mapping[str, Ensemble]
    device: "torch.device"
    precision: "torch.dtype"
    volume: ImageVolume
    limit: int | None

    def plan(self) -> MemoryPlan:
        """Return what it will take; :class:`MemoryLimitError` if that does not fit."""
        device_available, host_available = available_bytes(self.device, self.limit)
        planes, rows, columns = self.volume.voxels.shape
        plan = (
            PROCEDURES[self.procedure]
            .needs(self)
            .plan(
                (planes, rows, columns),
                device=self.device,
                precision=self.precision,
                device_available=device_available,
                host_available=host_available,
            )
        )
        plan.refuse_if_too_large()
        return plan

    def labels(
        self, progress: ProgressCallback | None, cancel: CancelToken | None
    ) -> tuple[np.ndarray, None, MemoryPlan]:
        """Return the labels on the volume's grid, no probabilities, and how they were come by."""
        plan = self.plan()
        try:
            with freed_memory_kept(plan.keeps_freed):
                return PROCEDURES[self.procedure].run(self, progress, cancel), None, plan
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(plan) from error


@dataclass(frozen=True)
class Procedure:
    """What it does, and the memory that takes: known before, as the shapes that its networks see are fixed.

    Attributes
    ----------
    run
        Gives the labels, uint8 (k, j, i).
    needs
        Gives the memory that the run will take.
    """

    run: Callable[[ProcedureRun, ProgressCallback | None, CancelToken | None], np.ndarray]
    needs: Callable[[ProcedureRun], FixedNeed]


def _ct_tissues(run: ProcedureRun, progress: ProgressCallback | None, cancel: CancelToken | None) -> np.ndarray:
    return ct_tissues.label_tissues(run.volume, run.device, progress=progress, cancel=cancel)


def _lungmask(run: ProcedureRun, progress: ProgressCallback | None, cancel: CancelToken | None) -> np.ndarray:
    return lungmask.label_lungs(run.volume, run.networks["network"], progress=progress, cancel=cancel)


def _deepbet(run: ProcedureRun, progress: ProgressCallback | None, cancel: CancelToken | None) -> np.ndarray:
    finder, network = run.networks["finder"], run.networks["network"]
    return deepbet.label_brain(run.volume, finder, network, progress=progress, cancel=cancel)


PROCEDURES: Mapping[str, Procedure] = {
    "ct-tissues": Procedure(_ct_tissues, lambda run: ct_tissues.needed(run.volume)),
    "deepbet": Procedure(
        _deepbet, lambda run: deepbet.needed(run.volume, run.networks["finder"], run.networks["network"])
    ),
    "lungmask": Procedure(_lungmask, lambda run: lungmask.needed(run.volume, run.networks["network"])),
}
