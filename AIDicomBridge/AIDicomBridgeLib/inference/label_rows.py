"""From finished rows of network output to labels on the turned source grid, one class at a time."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from ..progress import CancelToken, check_cancel
from .rules import Decision
from .windows import Triple

if TYPE_CHECKING:
    import torch

_BLOCK_VOXELS = 1 << 17  # decided at once on the CPU: what is held of them stays in the cores' caches


class LabelRows:
    """Takes rows of outputs in ascending order and writes labels, and probabilities if asked for.

    Outputs, not labels, are interpolated to the target grid, so that edges stay smooth; the class with the largest
    value so far is kept as classes pass by, so that only one class is held at the target's resolution, of these rows.

    Parameters
    ----------
    grid, target
        (D, H, W) of the network's grid and of the labels. Both cover the same space, from voxel edge to voxel edge.
    axis
        The axis that the rows come along.
    nearest_axis
        An axis along which the nearest voxel is taken instead of a linear interpolation; None for none.
    probability_labels
        Labels whose probabilities are wanted, in that order.
    cancel
        Takes effect after the current class of the rows that are put.
    """

    def __init__(
        self,
        decision: Decision,
        grid: Triple,
        target: Triple,
        *,
        axis: int = 0,
        nearest_axis: int | None = None,
        probability_labels: tuple[int, ...] = (),
        cancel: CancelToken | None = None,
    ) -> None:
        import torch

        self.decision = decision
        self._cancel = cancel
        self.axis = axis
        self.grid_rows = grid[axis]
        self._plane = tuple(size for index, size in enumerate(target) if index != axis)
        self._plane_nearest = nearest_axis is not None and nearest_axis != axis
        self._nearest_row = sum(index != axis for index in range(nearest_axis)) if nearest_axis is not None else None
        wide = max(decision.values) > 255
        self._labels = torch.zeros(target, dtype=torch.int16 if wide else torch.uint8)
        self._wanted = probability_labels
        self.probabilities = np.zeros((len(probability_labels), *target), np.float16) if probability_labels else None
        # Along the axis, target row o lies between the grid's rows below[o] and above[o].
        place = (torch.arange(target[axis], dtype=torch.float64) + 0.5) * (grid[axis] / target[axis]) - 0.5
        place.clamp_(0, grid[axis] - 1)
        if nearest_axis == axis:
            place = (place + 0.5).floor().clamp_(max=grid[axis] - 1)
        self._below = place.floor().long()
        self._above = (self._below + 1).clamp_(max=grid[axis] - 1)
        self._share = (place - self._below).float()
        self._exact = bool((self._share == 0).all())
        self._needed = torch.where(self._share > 0, self._above, self._below)
        self._held = 0  # grid rows seen so far
        self._done = 0  # target rows written so far
        self._tail: torch.Tensor | None = None  # the last grid row seen, (C, 1, ...)

    @property
    def labels(self) -> np.ndarray:
        """The labels (D, H, W), uint8 or uint16; complete once every row of the grid was put."""
        array: np.ndarray = self._labels.numpy()
        return array.view(np.uint16) if array.dtype == np.int16 else array

    def put(self, sums: "torch.Tensor", weights: "torch.Tensor | None" = None) -> None:
        """Take the next rows: outputs (C, rows...) with the row axis where it is in the grid, any device.

        Parameters
        ----------
        weights
            (rows...): the outputs are divided by them; None for outputs that are final.
        """
        import torch

        rows = sums.movedim(self.axis + 1, 1)
        divisor = None if weights is None else weights.movedim(self.axis, 0).clamp(min=1e-12)
        count = rows.shape[1]
        until = int(torch.searchsorted(self._needed, self._held + count))
        if until > self._done:
            self._write(rows, divisor, slice(self._done, until), self._held)
        last = rows[:, -1:].float()
        self._tail = last / divisor[-1:] if divisor is not None else last.clone()
        self._held += count
        self._done = max(self._done, until)

    def _write(self, rows: "torch.Tensor", divisor: "torch.Tensor | None", written: slice, first: int) -> None:
        """Decide the target rows ``written`` and store them."""
        # Only the rows that the target rows lie between; -1 is the one kept from before.
        identical = self._exact and rows.shape[2:] == self._plane
        if identical and self._is_scale_free:
            divisor = None
        low, high = int(self._below[written.start]) - first, int(self._needed[written.stop - 1]) - first
        if identical and low >= 0 and high - low == written.stop - written.start - 1:
            # Nothing is interpolated: blocks that stay in the cache while all classes pass by.
            rows, divisor = rows[:, low : high + 1], None if divisor is None else divisor[low : high + 1]
            for block in self._blocks(rows):
                values, weights = rows[:, :, block], None if divisor is None else divisor[:, block]
                self._decide(partial(_class_of, values, weights), written, block)
            return

        def class_rows(channel: int) -> "torch.Tensor":
            return self._class_rows(rows, divisor, channel, written, low, high)

        self._decide(class_rows, written, slice(None))

    @property
    def _is_scale_free(self) -> bool:
        """True if dividing a voxel's outputs by its weight cannot change its label, and no probability is wanted."""
        return not self._wanted and (self.decision.activation == "softmax" or self.decision.cut == 0)

    def _blocks(self, rows: "torch.Tensor") -> "Iterator[slice]":
        """Yield runs along the first axis of the plane."""
        row_voxels = rows.shape[1] * rows.shape[3]
        step = max(1, _BLOCK_VOXELS // row_voxels) if rows.device.type == "cpu" else rows.shape[2]
        for start in range(0, rows.shape[2], step):
            yield slice(start, start + step)

    def _decide(self, outputs_of: "Callable[[int], torch.Tensor]", written: slice, block: slice) -> None:
        """Decide a block of target rows from the outputs (rows, block, ...) of each class, and store it."""
        import torch

        sigmoid = self.decision.activation == "sigmoid"
        best = torch.empty(0)
        labels = wins = best
        total: torch.Tensor | None = None  # softmax: the sum of exp(output - best) over the classes so far
        competing = not sigmoid and not self.decision.outputs_are_probabilities and bool(self._wanted)
        for channel, value in enumerate(self.decision.values):
            check_cancel(self._cancel)
            outputs = outputs_of(channel)
            if channel == 0:  # laid out in memory as the outputs are, of the same type
                best = torch.full_like(outputs, self.decision.cut if sigmoid else -math.inf)
                labels = torch.zeros_like(outputs, dtype=torch.int32)  # bytes are filled eight times as slowly
                wins = torch.empty_like(outputs, dtype=torch.bool)
            torch.gt(outputs, best, out=wins)
            labels.masked_fill_(wins, value)
            if competing:
                larger = torch.maximum(best, outputs)
                total = (outputs - larger).exp_() + (0 if total is None else total * (best - larger).exp_())
            if not (sigmoid and self.decision.overlap_rule == "last"):
                torch.maximum(best, outputs, out=best)
            elif not bool((outputs < math.inf).all()):
                best.fill_(math.nan)
            if self._wanted and not competing and value in self._wanted:
                final = self.decision.outputs_are_probabilities
                self._keep(value, outputs if final else outputs.sigmoid(), written, block)
        if not bool(torch.isfinite(best).all()):
            raise ModelError(
                "the network gives values that are no numbers (NaN or infinite)",
                advice="With float16 or bfloat16, try float32; else the weights or the intensity rules are wrong.",
            )
        if competing and total is not None:
            for channel, value in enumerate(self.decision.values):
                if value in self._wanted:
                    self._keep(value, (outputs_of(channel) - best).exp_() / total, written, block)
        self._labels.movedim(self.axis, 0)[written, block].copy_(labels)

    def _class_rows(
        self,
        rows: "torch.Tensor",
        divisor: "torch.Tensor | None",
        channel: int,
        written: slice,
        low: int,
        high: int,
    ) -> "torch.Tensor":
        """Return one class on the target rows: float32 (rows, plane...)."""
        import torch

        held = slice(max(low, 0), high + 1)
        values = _quotient(rows[channel, held].float(), None if divisor is None else divisor[held])
        if low < 0 and self._tail is not None:
            values = torch.cat([self._tail[channel], values])
        values = self._in_plane(values)
        start = int(self._below[written.start])
        below = (self._below[written] - start).to(values.device)
        if self._exact:
            return values if len(below) == len(values) else values.index_select(0, below)
        above = (self._needed[written] - start).to(values.device)
        share = self._share[written].to(values.device)[:, None, None]
        return torch.lerp(values.index_select(0, below), values.index_select(0, above), share)

    def _in_plane(self, values: "torch.Tensor") -> "torch.Tensor":
        """Return rows (n, A, B) interpolated to the target's plane."""
        from torch.nn import functional

        if tuple(values.shape[1:]) == self._plane:
            return values
        if not self._plane_nearest:
            return functional.interpolate(values[None], size=self._plane, mode="bilinear", align_corners=False)[0]
        sizes = list(values.shape[1:])
        nearest = int(self._nearest_row or 0)
        sizes[nearest] = self._plane[nearest]
        values = functional.interpolate(values[None], size=sizes, mode="nearest-exact")[0]
        if tuple(values.shape[1:]) == self._plane:
            return values
        return functional.interpolate(values[None], size=self._plane, mode="bilinear", align_corners=False)[0]

    def _keep(self, value: int, probabilities: "torch.Tensor", written: slice, block: slice) -> None:
        if self.probabilities is not None:
            kept = self.probabilities[self._wanted.index(value)]
            np.moveaxis(kept, self.axis, 0)[written, block] = probabilities.to("cpu").numpy()


def _class_of(rows: "torch.Tensor", divisor: "torch.Tensor | None", channel: int) -> "torch.Tensor":
    return _quotient(rows[channel], divisor)


def _quotient(values: "torch.Tensor", divisor: "torch.Tensor | None") -> "torch.Tensor":
    return values if divisor is None else values.float() / divisor
