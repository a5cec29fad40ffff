"""The weighted sums of overlapping windows, for the rows that windows still touch and no others."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .windows import Triple

if TYPE_CHECKING:
    import torch


class RollingSlab:
    """A ring of rows along one axis of the network's grid; it never holds more of them than a window is deep.

    A row is a plane across ``axis``. Row r lies in slot ``r % depth``. Windows come in ascending order along the axis,
    so that what lies before the next window is finished: it is taken, and its slots serve the rows to come. All
    classes of a whole 512x512x300 volume would be 37 GB for 118 classes in float32; the ring is a fraction of that.

    Parameters
    ----------
    classes
        Output channels of the network.
    grid
        (D, H, W) of the padded volume.
    importance
        (d, h, w) weight of every voxel of a window, on the device that the sums shall lie on.
    axis
        0, 1 or 2: the axis that the windows advance along.
    dtype
        Of the sums. float16 halves them; the labels then differ where two classes are within 0.1 % of each other.
    """

    def __init__(self, classes: int, grid: Triple, importance: "torch.Tensor", axis: int, dtype: "torch.dtype") -> None:
        import torch

        self.axis = axis
        self.depth = importance.shape[axis]
        self.first = 0  # the first row that was not taken yet
        if dtype == torch.float16:  # below 6e-5 it loses digits, and a corner may have nothing but its corner's weight
            importance = importance.clamp(min=1e-4)
        self._factors = importance.to(dtype)
        self._importance = self._factors.float()
        shape = list(grid)
        shape[axis] = self.depth
        self._sums = torch.zeros((classes, *shape), dtype=dtype, device=importance.device)
        self._weights = torch.zeros(shape, device=importance.device)

    def add(self, outputs: "torch.Tensor", start: Triple) -> None:
        """Add the outputs (C, d, h, w) of the window that begins at ``start``."""
        outputs = outputs.to(self._sums.device, self._sums.dtype)
        for row, slot, count in self._pieces(start[self.axis], start[self.axis] + self.depth):
            place = [slice(begin, begin + extent) for begin, extent in zip(start, self._importance.shape, strict=True)]
            place[self.axis] = slice(slot, slot + count)
            skipped = row - start[self.axis]
            factors = self._factors.narrow(self.axis, skipped, count)
            piece = outputs.narrow(self.axis + 1, skipped, count)
            self._sums[:, place[0], place[1], place[2]].addcmul_(piece, factors)
            self._weights[place[0], place[1], place[2]] += self._importance.narrow(self.axis, skipped, count)

    def take(self, until: int) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        """Yield the finished rows before ``until``, in order, as (sums (C, ...), weights (...)): views.

        Each is cleared as soon as the next one is asked for.
        """
        for _, slot, count in self._pieces(self.first, until):
            sums = self._sums.narrow(self.axis + 1, slot, count)
            weights = self._weights.narrow(self.axis, slot, count)
            yield sums, weights
            sums.zero_()
            weights.zero_()
        self.first = until

    def _pieces(self, first: int, until: int) -> Iterator[tuple[int, int, int]]:
        """Yield (row, slot, count) for rows first to until, in runs that do not cross the end of the ring."""
        while first < until:
            slot = first % self.depth
            count = min(until - first, self.depth - slot)
            yield first, slot, count
            first += count
