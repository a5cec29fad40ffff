"""From a volume to what a network sees: turned, cropped, resampled and normalised on the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.volume import ImageVolume
from .normalisation import normalise
from .orientation import Orientation
from .resampling import resample, resampled_shape, separate_axis
from .rules import InputRules
from .windows import Triple

if TYPE_CHECKING:
    import torch

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Framing:
    """How the network's grid lies in the source's; made before the volume is touched.

    Attributes
    ----------
    orientation
        The turn from the source's axes (k, j, i) to D, H, W.
    source_shape, itemsize
        (k, j, i), and the bytes of a voxel.
    box
        The part of the turned source that the network sees; labels outside of it are 0.
    grid
        (D, H, W) of the network's input, before padding.
    nearest_axis, labels_nearest_axis
        The axis along which slices are not interpolated but taken from the nearest, on the way to the network's grid
        and on the way back; nnU-Net asks for each way anew.
    """

    orientation: Orientation
    source_shape: Triple
    box: Box
    grid: Triple
    nearest_axis: int | None
    labels_nearest_axis: int | None
    itemsize: int = 2

    @property
    def turned_shape(self) -> Triple:
        """The source's shape in the order D, H, W."""
        first, second, third = (self.source_shape[axis] for axis in self.orientation.permutation)
        return first, second, third

    @property
    def box_shape(self) -> Triple:
        """The shape of ``box``: what the network's labels are brought back to."""
        first, second, third = (part.stop - part.start for part in self.box)
        return first, second, third

    def on_source_grid(self, array: np.ndarray) -> np.ndarray:
        """Return labels (D, H, W) of the box as (k, j, i) of the source, 0 outside of the box; contiguous."""
        if self.box_shape != self.turned_shape:
            whole = np.zeros(self.turned_shape, array.dtype)
            whole[self.box] = array
            array = whole
        return np.ascontiguousarray(self.orientation.invert(array))


def frame(volumes: Sequence[ImageVolume], rules: InputRules) -> Framing:
    """Return how a card's input rules frame volumes on one grid; only cropping looks at the voxels.

    The box holds what has to be seen of any of them.
    """
    volume = volumes[0]
    wanted_axes = rules.orientation or OWN_AXES
    if set(wanted_axes) == set(OWN_AXES):
        orientation = Orientation.of_axes(wanted_axes)
    else:
        orientation = Orientation.between(volume.ijk_to_lps, wanted_axes)
    box = _union([_BOXES[rules.crop](orientation.apply(channel.voxels)) for channel in volumes])
    cropped = [part.stop - part.start for part in box]
    shape = (cropped[0], cropped[1], cropped[2])
    spacing = orientation.permuted(volume.spacing_mm)
    wanted = tuple(want or has for want, has in zip(rules.spacing_mm or spacing, spacing, strict=True))
    grid = resampled_shape(shape, spacing, wanted)
    apart = rules.resampling == "nnunet" and grid != shape
    source = volume.voxels.shape
    return Framing(
        orientation,
        (source[0], source[1], source[2]),
        box,
        grid,
        separate_axis(spacing, wanted) if apart else None,
        separate_axis(wanted, spacing) if apart else None,
        max(channel.voxels.itemsize for channel in volumes),
    )


def network_input(
    volumes: Sequence[ImageVolume],
    rules: InputRules,
    framing: Framing,
    device: "torch.device",
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> "torch.Tensor":
    """Return what the network sees of its volumes: float32 (C, D, H, W) on the device.

    Resampling keeps the outer edges of the first and last voxel in place; the true spacing then differs from the
    wanted one by less than half a voxel over the whole axis.

    Raises
    ------
    JobCancelled
        ``cancel`` was called; it takes effect after the current step, of one channel.
    """
    import torch

    tensor = torch.empty((len(volumes), *framing.box_shape), device=device)
    for channel, volume in enumerate(volumes):  # one copy at a time: whole numbers go to the device, become float there
        check_cancel(cancel)
        turned = np.ascontiguousarray(framing.orientation.apply(volume.voxels)[framing.box])
        tensor[channel] = torch.from_numpy(turned).to(device)
        del turned
    modalities = [volume.modality for volume in volumes]
    if not rules.resampled_first:
        report(progress, "segment", 0, None, "windows", "intensities")
        tensor = normalise(tensor, rules.intensity, modalities, cancel=cancel)
    if tensor.shape[1:] != framing.grid:
        report(progress, "segment", 0, None, "windows", f"resampling to {'x'.join(map(str, framing.grid))}")
        cubic = rules.resampling != "linear"
        tensor = resample(tensor, framing.grid, cubic=cubic, nearest_axis=framing.nearest_axis, cancel=cancel)
    if rules.resampled_first:
        report(progress, "segment", 0, None, "windows", "intensities")
        tensor = normalise(tensor, rules.intensity, modalities, cancel=cancel)
    return tensor


def _whole(voxels: np.ndarray) -> Box:
    return slice(0, voxels.shape[0]), slice(0, voxels.shape[1]), slice(0, voxels.shape[2])


def _nonzero(voxels: np.ndarray) -> Box:
    return _box_of(voxels != 0)


def _body(voxels: np.ndarray) -> Box:
    """Return the box of what is denser than air in most of a 9-voxel neighbourhood: the body, without the table."""
    import torch
    from torch.nn import functional

    steps = [max(1, size // 128) for size in voxels.shape]
    coarse = torch.from_numpy(np.ascontiguousarray(voxels[:: steps[0], :: steps[1], :: steps[2]])).float()
    dense = (coarse > BODY_FROM_HU).float()[None, None]
    window = [min(5, size if size % 2 else size - 1) for size in dense.shape[2:]]
    thick = functional.avg_pool3d(dense, window, 1, [size // 2 for size in window], count_include_pad=False)[0, 0] > 0.5
    box = _box_of(thick.numpy())
    # A coarse cell and two of margin on each side.
    widened = [
        slice(max(0, (part.start - 2) * step), min(size, (part.stop + 2) * step))
        for part, step, size in zip(box, steps, voxels.shape, strict=True)
    ]
    return widened[0], widened[1], widened[2]


def _union(boxes: Sequence[Box]) -> Box:
    first, second, third = (
        slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*boxes, strict=True)
    )
    return first, second, third


def _box_of(mask: np.ndarray) -> Box:
    """Return the bounding box of a mask, the whole of an empty one."""
    hits = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not all(len(hit) for hit in hits):
        return _whole(mask)
    first, second, third = (slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)
    return first, second, third


OWN_AXES = "kji"
BODY_FROM_HU = -300.0
_BOXES = {"none": _whole, "nonzero": _nonzero, "body": _body}
