"""Before a run: the way of running that fits the memory there is, or a refusal with the number."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import MemoryLimitError, ModelError
from ..free_memory import free_memory
from .postprocessing import CLEANUP_BYTES
from .windows import Triple

if TYPE_CHECKING:
    import torch

Activations = Callable[[int], int]  # a batch size -> bytes that its forward pass holds

_KEPT_SHARE = 0.4  # of a forward pass: what lies unused between blocks of other sizes where freed memory is kept


@dataclass(frozen=True)
class Task:
    """What is to be run, as far as memory depends on it.

    Attributes
    ----------
    source_voxels
        Of the source volume.
    box
        (D, H, W) of the part of it that the network sees, on the source's spacing.
    grid
        (D, H, W) of the network's input, padded to hold one window.
    patch
        (d, h, w) of a window; the grid itself where the network sees it whole.
    whole
        The network sees the whole grid at once, and no sums are needed.
    itemsize
        Bytes of a voxel of the source.
    normalising
        Bytes a voxel of the box that the intensity rules hold beside the volume, as :func:`.normalisation.bytes_beside`
        says.
    cleaned
        The card asks for a clean-up of the labels.
    channels, classes
        Input and output channels.
    window_count
        How many windows there are.
    probabilities
        How many segments' probabilities are wanted.
    weights_bytes
        Of all networks of the ensemble, in the precision that they run in.
    """

    source_voxels: int
    box: Triple
    grid: Triple
    patch: Triple
    classes: int
    window_count: int
    whole: bool = False
    itemsize: int = 2
    normalising: int = 0
    cleaned: bool = False
    channels: int = 1
    probabilities: int = 0
    weights_bytes: int = 0

    @property
    def axis(self) -> int:
        """The axis for the windows to advance along: the one across which the fewest sums are held."""
        return min(range(3), key=lambda axis: self.patch[axis] * math.prod(self.grid) // self.grid[axis])


@dataclass(frozen=True)
class FixedNeed:
    """What is run in one way only, whatever memory there is.

    Attributes
    ----------
    window, window_count
        (d, h, w) of what is seen at once, and how often.
    device_bytes, host_bytes
        Where the networks run, and on the host beside that; where both are one, their sum.
    notes
        As :attr:`MemoryPlan.notes`.
    """

    window: Triple
    window_count: int
    device_bytes: int
    host_bytes: int
    notes: tuple[str, ...] = ()

    def plan(
        self,
        grid: Triple,
        *,
        device: "torch.device",
        precision: "torch.dtype",
        device_available: int | None,
        host_available: int | None,
    ) -> "MemoryPlan":
        """Return it as a plan, which may not fit."""
        on_cpu = device.type == "cpu"
        plan = MemoryPlan(
            device=str(device),
            precision=_name(precision),
            batch=1,
            accumulator_device=str(device),
            accumulator_precision="",
            grid=grid,
            patch=self.window,
            window_count=self.window_count,
            device_bytes=0 if on_cpu else self.device_bytes,
            host_bytes=self.host_bytes + (self.device_bytes if on_cpu else 0),
            device_available=None if on_cpu else device_available,
            host_available=host_available,
            notes=self.notes,
        )
        keeping = plan.keeping_freed(self.device_bytes)
        return keeping if on_cpu and keeping.fits else plan


@dataclass(frozen=True)
class MemoryPlan:
    """How a model will run on a volume, and the memory that it is predicted to need beside the volume itself.

    Attributes
    ----------
    device, precision
        Where the network runs, and in which floating-point type: ``"cuda:0"``, ``"bfloat16"``.
    batch
        Windows that run at once.
    accumulator_device, accumulator_precision
        Where the volume lies and the windows' outputs are summed, and in which type; empty where there are no sums.
    grid, patch
        (D, H, W) of the network's grid and of a window.
    window_count
        How many windows there are.
    device_bytes, host_bytes
        The predicted peak on the GPU (0 where the CPU does all) and in the machine's memory.
    device_available, host_available
        What was free or allowed when the plan was made; None where the system does not say.
    notes
        What a person may want to know: what was estimated, and every step down.
    keeps_freed
        Memory that a layer frees is kept for the next one, see :func:`.kept_memory.freed_memory_kept`.
    """

    device: str
    precision: str
    batch: int
    accumulator_device: str
    accumulator_precision: str
    grid: Triple
    patch: Triple
    window_count: int
    device_bytes: int
    host_bytes: int
    device_available: int | None = None
    host_available: int | None = None
    notes: tuple[str, ...] = ()
    keeps_freed: bool = False

    @property
    def fits(self) -> bool:
        """True if the predicted bytes are available, as far as the system says."""
        return not self._shortage()

    def _shortage(self) -> str:
        for where, needed, available in (
            (self.device, self.device_bytes, self.device_available),
            ("the machine's memory", self.host_bytes, self.host_available),
        ):
            if available is not None and needed > available:
                return f"about {format_bytes(needed)} of {where}, and {format_bytes(available)} are available"
        return ""

    def keeping_freed(self, forward_bytes: int) -> "MemoryPlan":
        """Return the plan with freed memory kept, on the CPU, for forward passes that hold so many bytes."""
        return replace(self, host_bytes=self.host_bytes + int(_KEPT_SHARE * forward_bytes), keeps_freed=True)

    def refuse_if_too_large(self) -> None:
        """Raise :class:`MemoryLimitError`, with the numbers, if the plan does not fit."""
        if shortage := self._shortage():
            raise MemoryLimitError(
                f"even at its leanest, the model needs {shortage}",
                advice="Close other programs, use another device, or choose a series that covers less of the body.",
            )

    def describe(self) -> str:
        """Return the plan as one line without commas, for provenance."""
        size = "x".join(str(extent) for extent in self.patch)
        parts = [
            f"{self.window_count} window{'s' if self.window_count > 1 else ''} of {size}",
            f"batch {self.batch}",
            *(
                [f"sums {self.accumulator_precision} on {self.accumulator_device}"]
                if self.accumulator_precision
                else []
            ),
            *([f"{format_bytes(self.device_bytes)} {self.device}"] if self.device_bytes else []),
            f"{format_bytes(self.host_bytes)} host",
            *self.notes,
        ]
        return "; ".join(part.replace(",", "") for part in parts)


def possible_plans(
    task: Task,
    *,
    device: "torch.device",
    precision: "torch.dtype",
    activations: Activations,
    device_available: int | None,
    host_available: int | None,
    largest_batch: int = 1,
    notes: tuple[str, ...] = (),
) -> list[MemoryPlan]:
    """Return the ways to run a task, the quickest first and the leanest last.

    They differ in the batch, in the type of the sums, on the CPU in whether freed memory is kept, and on a GPU in where
    the volume and the sums lie.
    """
    import torch

    batches = [largest_batch // 2**step for step in range(largest_batch.bit_length())] or [1]
    places = [str(device)] if device.type == "cpu" else [str(device), "cpu"]
    plans = []
    for place in places:
        for sums in (torch.float32,) if task.whole else (torch.float32, torch.float16):  # the whole needs no sums
            for batch in batches if place == places[0] and sums == torch.float32 else batches[-1:]:
                forward = activations(batch) + batch * task.classes * math.prod(task.patch) * 8
                preparing, running = _preparing(task), _volume_and_sums(task, sums.itemsize)
                # What lies on the host and on a GPU while the volume is prepared, and while the network runs.
                on_cpu, host = device.type == "cpu", _preparing_on_host(task)
                if on_cpu:
                    on_device = 0
                    host = max(host + preparing, forward + running) + task.weights_bytes
                elif place == str(device):
                    on_device = max(preparing, forward + running) + task.weights_bytes
                else:
                    on_device = forward + task.weights_bytes
                    host = max(host + preparing, running + task.classes * math.prod(task.patch) * sums.itemsize)
                host = max(host + _labels(task), _finishing(task))
                plan = MemoryPlan(
                    device=str(device),
                    precision=_name(precision),
                    batch=batch,
                    accumulator_device=place,
                    accumulator_precision="" if task.whole else _name(sums),
                    grid=task.grid,
                    patch=task.patch,
                    window_count=task.window_count,
                    device_bytes=on_device,
                    host_bytes=host,
                    device_available=None if on_cpu else device_available,
                    host_available=host_available,
                    notes=notes,
                )
                keeping = plan.keeping_freed(forward)
                plans += [keeping, plan] if on_cpu and keeping.fits else [plan]
    return plans


def choose_plan(plans: list[MemoryPlan]) -> MemoryPlan:
    """Return the first plan that fits; a later one says what it gave up.

    Raises
    ------
    MemoryLimitError
        Not even the last one fits.
    """
    for number, plan in enumerate(plans):
        if plan.fits:
            return _stepped_down(plan, "to fit the memory") if number else plan
    plans[-1].refuse_if_too_large()
    return plans[-1]


def available_bytes(device: "torch.device", limit: int | None) -> tuple[int | None, int | None]:
    """Return what is free on a GPU and on the host, but no more than a limit; None for what the system does not say."""
    import torch

    def least(free: int | None) -> int | None:
        return min((count for count in (free, limit) if count is not None), default=None)

    return least(free_memory(device) if device.type == "cuda" else None), least(free_memory(torch.device("cpu")))


def out_of_memory(plan: MemoryPlan) -> MemoryLimitError:
    """Return the error of a run that found less memory than its plan, and no leaner one."""
    return MemoryLimitError(
        f"the memory of {plan.device} did not suffice even for {plan.describe()}",
        advice="Close other programs, use another device, or choose a series that covers less of the body.",
    )


def leaner_plan(plans: list[MemoryPlan], failed: MemoryPlan) -> MemoryPlan | None:
    """Return the next plan after one that ran out of memory, with a note that says so; None if there is none."""

    def needs(plan: MemoryPlan) -> int:
        return plan.host_bytes if failed.device == "cpu" else plan.device_bytes

    for plan in plans:
        leaner = needs(plan) < needs(failed)
        if leaner and (plan.host_available is None or plan.host_bytes <= plan.host_available):
            given_up = "without keeping freed memory " if failed.keeps_freed and not plan.keeps_freed else ""
            return _stepped_down(replace(plan, notes=failed.notes), f"{given_up}after running out of memory")
    return None


def _stepped_down(plan: MemoryPlan, why: str) -> MemoryPlan:
    kind = f"sums in {plan.accumulator_precision}" if plan.accumulator_precision else "the volume"
    what = f"batch {plan.batch} with {kind} on {plan.accumulator_device}"
    return replace(plan, notes=(*plan.notes, f"stepped down to {what} {why}"))


def _preparing(task: Task) -> int:
    """Return the bytes of the volume while it is normalised and resampled, where it lies."""
    box = math.prod(task.box)
    # Axis after axis: what was and what becomes; before slices that stay apart shrink, their rows may have grown.
    resampling = 2 * math.prod(map(max, task.grid, task.box)) if task.grid != task.box else 0
    return max(4 * task.channels * (box + resampling), (4 * task.channels + task.normalising) * box)


def _preparing_on_host(task: Task) -> int:
    """Return the bytes of the turned source of one channel, before it becomes floating-point."""
    return task.itemsize * math.prod(task.box)


def _volume_and_sums(task: Task, itemsize: int) -> int:
    """Return the bytes of what lies where the sums lie: the input, the sums, and what makes labels of them."""
    grid, box = math.prod(task.grid), math.prod(task.box)
    plane = grid // task.grid[task.axis]
    depth = task.patch[task.axis]
    volume = 4 * task.channels * grid
    if task.whole:  # the outputs are the network's own
        sums, rows = 0, grid * task.classes * 4
    else:
        sums = (task.classes * itemsize + 4) * plane * depth
        rows = task.classes * plane * 4
    # One class at a time on the labels' grid: values, interpolated values, largest so far, comparison, labels.
    target_rows = math.ceil(depth * task.box[task.axis] / task.grid[task.axis])
    deciding = target_rows * (box // task.box[task.axis]) * (26 if task.probabilities else 18)
    return volume + sums + rows + deciding


def _labels(task: Task) -> int:
    """Return the bytes of the labels, and of the probabilities, of the box."""
    return (_label_bytes(task) + 2 * task.probabilities) * math.prod(task.box)


def _finishing(task: Task) -> int:
    """Return the bytes on the host when labels and probabilities go back to the source's grid, and are cleaned."""
    label, source, box = _label_bytes(task), task.source_voxels, math.prod(task.box)
    kept = 2 * task.probabilities * source
    returning = label * (box + 2 * source) + 2 * (task.probabilities * box + source)
    return kept + max(returning, (2 * label + CLEANUP_BYTES) * source if task.cleaned else 0)


def _label_bytes(task: Task) -> int:
    return 1 if task.classes < 256 else 2


def format_bytes(count: int) -> str:
    """Return a number of bytes as people read it: ``"640 MB"``, ``"7.4 GB"``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def parse_bytes(text: str) -> int:
    """Return the bytes that a person writes as ``"6 GB"`` or ``"800 MB"``; ModelError if it is no such text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])B", text.strip(), re.IGNORECASE)
    if not found:
        raise ModelError(f"the memory limit {text!r} is no size", advice='Write it as "6 GB" or "800 MB".')
    return int(float(found[1]) * {"M": 10**6, "G": 10**9}[found[2].upper()])


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")
