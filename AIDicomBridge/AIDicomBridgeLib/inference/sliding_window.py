"""Running a network window by window, with labels made as soon as no later window can change them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .label_rows import LabelRows
from .memory_plan import MemoryPlan
from .rules import Decision, WindowRules
from .slab import RollingSlab
from .windows import Triple, importance_map, padding_to_patch, window_starts

if TYPE_CHECKING:
    import torch

_CERTAIN = 15.0  # an output whose softmax or sigmoid is 1 in float16
Predict = Callable[["torch.Tensor"], "torch.Tensor"]  # (N, C, d, h, w) -> (N, classes, d, h, w)


def padded_shape(grid: Triple, patch: Triple) -> Triple:
    """Return the grid, widened where it is smaller than a window."""
    first, second, third = (max(pair) for pair in zip(grid, patch, strict=True))
    return first, second, third


def count_windows(grid: Triple, patch: Triple, rules: WindowRules) -> int:
    """Return how many windows cover a grid."""
    starts = _starts(padded_shape(grid, patch), patch, rules)
    return len(starts[0]) * len(starts[1]) * len(starts[2])


def run_windows(
    predict: Predict,
    tensor: "torch.Tensor",
    rows: LabelRows,
    rules: WindowRules,
    patch: Triple,
    plan: MemoryPlan,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Run a network over a volume and put every finished row of outputs, ascending along ``rows.axis``.

    Parameters
    ----------
    predict
        Takes and returns windows on the network's device: (N, C, d, h, w) to (N, classes, d, h, w).
    tensor
        (C, D, H, W), where ``plan.accumulator_device`` says.
    patch
        (d, h, w).

    Raises
    ------
    ModelError
        The network's outputs are not of the shape that the card says.
    JobCancelled
        ``cancel`` was called; it takes effect after the current batch of windows.
    """
    import torch
    from torch.nn import functional

    axis = rows.axis
    padding = padding_to_patch((tensor.shape[1], tensor.shape[2], tensor.shape[3]), patch)
    if any(any(pair) for pair in padding):
        flat = [count for pair in reversed(padding) for count in pair]
        tensor = functional.pad(tensor, flat, value=rules.padding_value)
    grid = (tensor.shape[1], tensor.shape[2], tensor.shape[3])
    starts = _starts(grid, patch, rules)
    importance = importance_map(patch, rules.importance, rules.tiling).to(tensor.device)
    classes = len(rows.decision.values)
    slab = RollingSlab(classes, grid, importance, axis, getattr(torch, plan.accumulator_precision))
    done, total = 0, len(starts[0]) * len(starts[1]) * len(starts[2])
    for place in starts[axis]:
        _put_finished(slab, place, rows, rules, padding)
        across = [[place] if index == axis else starts[index] for index in range(3)]
        for batch in _batches(product(*across), plan.batch):
            check_cancel(cancel)
            done += len(batch)
            kept = [start for start in batch if _is_worth_running(_window(tensor, start, patch), rules)]
            if kept:
                outputs = predict(torch.stack([_window(tensor, start, patch) for start in kept]).to(plan.device))
                if outputs.shape[1:] != (classes, *patch):
                    raise ModelError(
                        f"the network gives {tuple(outputs.shape[1:])} for a window of {patch}, and the card says "
                        f"{classes} channels"
                    )
                for output, start in zip(outputs, kept, strict=True):
                    slab.add(output, start)
            report(progress, "segment", done, total, "windows", f"{plan.device}, {plan.precision}")
    _put_finished(slab, grid[axis], rows, rules, padding)


def _starts(grid: Triple, patch: Triple, rules: WindowRules) -> list[list[int]]:
    return [window_starts(size, extent, rules.overlap, rules.tiling) for size, extent in zip(grid, patch, strict=True)]


def _window(tensor: "torch.Tensor", start: Triple, patch: Triple) -> "torch.Tensor":
    first, second, third = (slice(begin, begin + extent) for begin, extent in zip(start, patch, strict=True))
    return tensor[:, first, second, third]


def _is_worth_running(window: "torch.Tensor", rules: WindowRules) -> bool:
    return rules.skip_empty_up_to is None or float(window.max()) > rules.skip_empty_up_to


def _batches(starts: Iterable[tuple[int, ...]], size: int) -> Iterator[list[Triple]]:
    batch: list[Triple] = []
    for first, second, third in starts:
        batch.append((first, second, third))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _fill_with_background(sums: "torch.Tensor", weights: "torch.Tensor", decision: Decision) -> None:
    """Give voxels of which no window was run the outputs of certain background."""
    skipped = weights == 0
    none, all_ = (0.0, 1.0) if decision.outputs_are_probabilities else (-_CERTAIN, _CERTAIN)
    for channel, value in enumerate(decision.values):
        sums[channel].masked_fill_(skipped, none if value else all_)
    weights.masked_fill_(skipped, 1.0)


def _put_finished(
    slab: RollingSlab, until: int, rows: LabelRows, rules: WindowRules, padding: list[tuple[int, int]]
) -> None:
    """Hand over the rows before ``until``, without those that were padded."""
    axis = slab.axis
    row = slab.first
    before = padding[axis][0]
    for sums, weights in slab.take(until):
        count = weights.shape[axis]
        for index, (left, right) in enumerate(padding):
            # Along the axis only the padding that falls into this run of rows.
            low = left if index != axis else max(0, before - row)
            high = weights.shape[index] - right
            if index == axis:
                high = min(weights.shape[index], before + rows.grid_rows - row)
            sums = sums.narrow(index + 1, low, max(0, high - low))  # noqa: PLW2901 - a narrower view
            weights = weights.narrow(index, low, max(0, high - low))  # noqa: PLW2901
        if weights.numel():
            if rules.skip_empty_up_to is not None:
                _fill_with_background(sums, weights, rows.decision)
            rows.put(sums, weights)
        row += count
