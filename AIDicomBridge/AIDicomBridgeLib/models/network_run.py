"""One run of a network on volumes: plan, prepare, windows, labels; after running out of memory a leaner plan."""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ..errors import ModelError
from ..inference.device import is_out_of_memory
from ..inference.ensemble import Ensemble
from ..inference.kept_memory import freed_memory_kept
from ..inference.label_rows import LabelRows
from ..inference.memory_plan import (
    MemoryPlan,
    Task,
    available_bytes,
    choose_plan,
    leaner_plan,
    out_of_memory,
    possible_plans,
)
from ..inference.normalisation import bytes_beside
from ..inference.preparation import Framing, frame, network_input
from ..inference.rules import Decision, InputRules, WindowRules
from ..inference.sliding_window import count_windows, padded_shape, run_windows
from ..progress import CancelToken, ProgressCallback, report
from ..series.volume import ImageVolume
from .card import ModelCard

GPU_BATCH = 4  # windows at once where memory allows; on the CPU one at a time is as quick


@dataclass(frozen=True)
class NetworkRun:
    """A network of a card, and the volumes that it is to see.

    Attributes
    ----------
    probabilities
        They are wanted too.
    limit
        Bytes that may be used at most; None for what is free.
    """

    card: ModelCard
    network: Ensemble
    volumes: Sequence[ImageVolume]
    probabilities: bool
    limit: int | None

    def plan(self) -> MemoryPlan:
        """Return how it will be run; :class:`MemoryLimitError` if no way fits."""
        return choose_plan(self._plans)

    def labels(
        self, progress: ProgressCallback | None, cancel: CancelToken | None
    ) -> tuple[np.ndarray, np.ndarray | None, MemoryPlan]:
        """Return labels and probabilities on the source's grid, and how they were come by."""
        report(progress, "segment", 0, None, "windows", "preparing")
        plan: MemoryPlan | None = self.plan()
        while plan is not None:
            try:
                rows = self._rows(plan, progress, cancel)
                return *self._on_source(rows), plan
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, where the error's frames no longer hold the tensors.
            gc.collect()
            if self.network.device.type == "cuda":
                import torch

                torch.cuda.empty_cache()
            failed, plan = plan, leaner_plan(self._plans, plan)
            if plan is not None:
                report(progress, "segment", 0, plan.window_count, "windows", plan.notes[-1])
        raise out_of_memory(failed)

    @cached_property
    def _framing(self) -> Framing:
        return frame(self.volumes, self._input)

    @cached_property
    def _plans(self) -> list[MemoryPlan]:
        network, task = self.network, self._task
        found: dict[int, tuple[int, bool]] = {}

        def activations(batch: int) -> int:
            found[batch] = found.get(batch) or network.activations(batch, task.channels, task.patch)
            return found[batch][0]

        largest = min(GPU_BATCH, task.window_count) if network.device.type == "cuda" else 1
        _, dry = found[1] = network.activations(1, task.channels, task.patch)
        device_available, host_available = available_bytes(network.device, self.limit)
        return possible_plans(
            task,
            device=network.device,
            precision=network.precision,
            activations=activations,
            device_available=device_available,
            host_available=host_available,
            largest_batch=1 << (max(1, largest).bit_length() - 1),
            notes=(*self._ways, *(() if dry else ("layers' memory estimated from the window",))),
        )

    @cached_property
    def _task(self) -> Task:
        windows, framing = self._windows, self._framing
        # (d, h, w) of a window: one slice for a 2D network, the grid itself where it is seen whole.
        first, second, third = (1,) * (3 - len(windows.patch)) + windows.patch if windows.patch else framing.grid
        patch = (first, second, third)
        return Task(
            source_voxels=math.prod(framing.source_shape),
            box=framing.box_shape,
            grid=padded_shape(framing.grid, patch),
            patch=patch,
            classes=len(self._decision.values),
            window_count=count_windows(framing.grid, patch, windows),
            whole=not windows.patch,
            itemsize=framing.itemsize,
            normalising=bytes_beside(self._input.intensity, on_gpu=self.network.device.type == "cuda"),
            cleaned=bool(self.card.cleanups),
            channels=self._input.channels,
            probabilities=len(self.card.segments) if self.probabilities else 0,
            weights_bytes=self.network.weights_bytes,
        )

    @property
    def _ways(self) -> list[str]:
        """What else two runs may differ by: the folds, mirroring, and how windows overlap."""
        rules, count = self._windows, len(self.network.members)
        said = [f"overlap {rules.overlap:g} {rules.tiling} {rules.importance}"] if rules.patch else []
        said += [f"{count} networks"] if count > 1 else []
        return [*said, "mirrored"] if self.network.forwards > count else said

    def _rows(self, plan: MemoryPlan, progress: ProgressCallback | None, cancel: CancelToken | None) -> LabelRows:
        """Run the network as planned; return the rows with the labels of the framing's box."""
        import torch

        framing, patch = self._framing, self._task.patch
        rows = LabelRows(
            self._decision,
            framing.grid,
            framing.box_shape,
            axis=self._task.axis,
            nearest_axis=framing.labels_nearest_axis,
            probability_labels=tuple(s.label for s in self.card.segments) if self.probabilities else (),
            cancel=cancel,
        )
        place = torch.device(plan.accumulator_device)
        given = [network_input(self.volumes, self._input, framing, place, progress=progress, cancel=cancel)]
        if self._windows.patch:
            predict = partial(self.network, cancel=cancel)
            with freed_memory_kept(plan.keeps_freed):  # taken out, the volume is held by nobody but the run
                run_windows(predict, given.pop(), rows, self._windows, patch, plan, progress=progress, cancel=cancel)
            return rows
        with freed_memory_kept(plan.keeps_freed):
            outputs = self.network.whole(given.pop().to(self.network.device), progress, cancel)
        if outputs.shape != (len(self._decision.values), *framing.grid):
            raise ModelError(
                f"the network gives {tuple(outputs.shape)} and the card says {len(self._decision.values)} channels of "
                f"{framing.grid}"
            )
        report(progress, "segment", 0, None, "labels", "deciding")
        rows.put(outputs)
        return rows

    def _on_source(self, rows: LabelRows) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the labels and probabilities on the source's grid."""
        shares: np.ndarray | None = None
        if rows.probabilities is not None:  # one at a time
            shares = np.empty((len(rows.probabilities), *self._framing.source_shape), np.float16)
            for share, found in zip(shares, rows.probabilities, strict=True):
                share[...] = self._framing.on_source_grid(found)
        return self._framing.on_source_grid(rows.labels), shares

    @property
    def _input(self) -> InputRules:
        if self.card.input is None:
            raise ModelError(f"the model {self.card.name} has no network")
        return self.card.input

    @property
    def _windows(self) -> WindowRules:
        return self.card.windows or WindowRules()

    @property
    def _decision(self) -> Decision:
        if self.card.decision is None:
            raise ModelError(f"the model {self.card.name} has no network")
        return self.card.decision
