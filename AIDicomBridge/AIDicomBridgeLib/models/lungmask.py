"""lungmask around its network: each slice cut to the body and brought to 256x256, and small regions given away.

The labels are those of the package lungmask (Hofmanninger et al., Eur Radiol Exp 2020) on the same weights; it is not
needed.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..inference.ensemble import Ensemble
from ..inference.memory_plan import FixedNeed
from ..inference.orientation import Orientation
from ..inference.regions import BYTES_A_VOXEL, give_small_regions_away
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.volume import ImageVolume

if TYPE_CHECKING:
    import SimpleITK as sitk

_SIZE = 256
_COARSE = 128  # the body is looked for on that many rows and columns
_BODY_FROM_HU = -500
_LOW_HU, _HIGH_HU = -1024, 600

Box = tuple[slice, slice]


def label_lungs(
    volume: ImageVolume,
    network: Ensemble,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> np.ndarray:
    """Return the labels of a chest CT, uint8 (k, j, i); slice by slice, which on a CPU is the quickest batch."""
    import torch

    turn = Orientation.between(volume.ijk_to_lps, "SPL")
    voxels = np.clip(turn.apply(volume.voxels), _LOW_HU, _HIGH_HU)
    small = np.zeros((len(voxels), _SIZE, _SIZE), np.uint8)
    boxes: list[Box] = []
    for k, plane in enumerate(voxels):
        check_cancel(cancel)
        boxes.append(body_box(plane))
        scaled = (resized(plane[boxes[-1]], _SIZE) + 1024) / 1624
        window = torch.from_numpy(scaled.astype(np.float32))[None, None, None].to(network.device)
        small[k] = network(window, cancel)[0, :, 0].argmax(0).to("cpu", torch.uint8).numpy()
        report(progress, "segment", k + 1, len(voxels), "slices", str(network.device))
    del voxels, plane
    small = give_small_regions_away(small, cancel=cancel)
    labels = np.zeros(turn.apply(volume.voxels).shape, np.uint8)
    for k, box in enumerate(boxes):
        labels[k][box] = _nearest(small[k], labels[k][box].shape)
    return np.ascontiguousarray(turn.invert(labels))


def needed(volume: ImageVolume, network: Ensemble) -> FixedNeed:
    """Return the memory that :func:`label_lungs` takes."""
    window = (1, _SIZE, _SIZE)
    turned = Orientation.between(volume.ijk_to_lps, "SPL").apply(volume.voxels)
    small = len(turned) * _SIZE**2
    forward, dry = network.activations(1, 1, window)
    clipped, labels = turned.nbytes, 2 * turned.size
    return FixedNeed(
        window,
        len(turned),
        network.weights_bytes + forward,
        small + max(clipped, BYTES_A_VOXEL * small, labels),
        () if dry else ("layers' memory estimated from the window",),
    )


def body_box(plane: np.ndarray) -> Box:
    """Return the box of the body in an axial slice (HU), found on a coarse grid; the whole slice if there is none."""
    import SimpleITK as sitk

    mask = sitk.GetImageFromArray((_nearest(plane, (_COARSE, _COARSE)) > _BODY_FROM_HU).astype(np.uint8))
    mask = _eroded(sitk.BinaryDilate(mask, [1, 1], sitk.sitkCross, 0, 1), 1)  # closing
    # The background is joined by corners too: a hole is only what even so does not reach the border.
    around = sitk.ConstantPad(mask == 0, [1, 1], [1, 1], 1)
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(around, True))
    filled = sitk.GetImageFromArray((parts != parts[0, 0])[1:-1, 1:-1].astype(np.uint8))
    objects = sitk.ConnectedComponent(_eroded(filled, 2))
    found = sitk.GetArrayFromImage(objects)
    sizes = np.bincount(found.ravel())[1:]
    if len(sizes):
        body = objects == 1 + int(sizes.argmax())
        for _ in range(2):
            body = sitk.BinaryDilate(body, [1, 1], sitk.sitkCross, 0, 1)
        found = sitk.GetArrayFromImage(body)
    full = np.ascontiguousarray(_nearest(found, plane.shape)).astype(np.uint8)
    if not full.any():
        return slice(0, plane.shape[0]), slice(0, plane.shape[1])
    # Should scaling have parted it: the object that comes first in reading order.
    numbers = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(full), True))
    first = numbers == numbers.flat[int((full > 0).argmax())]
    hit_rows, hit_columns = np.flatnonzero(first.any(axis=1)), np.flatnonzero(first.any(axis=0))
    return slice(int(hit_rows[0]), int(hit_rows[-1]) + 1), slice(int(hit_columns[0]), int(hit_columns[-1]) + 1)


def resized(plane: np.ndarray, size: int) -> np.ndarray:
    """Return a slice of whole numbers on size x size pixels, linear from first to last pixel centre, rounded."""
    values = plane.astype(np.float64)
    for axis in (0, 1):
        count = values.shape[axis]
        place = np.arange(size) * ((count - 1) / (size - 1))
        below = np.minimum(place.astype(int), max(count - 2, 0))
        share = (place - below).reshape((-1, 1) if axis == 0 else (1, -1))
        above = np.minimum(below + 1, count - 1)
        values = values.take(below, axis) * (1 - share) + values.take(above, axis) * share
    return np.rint(values) if plane.dtype.kind in "iu" else values


def _nearest(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a slice on other rows and columns, each the nearest of its own, first and last kept in place: a copy.

    Of some sizes the last is 0. lungmask loses it where the place rounds to beyond the slice, and labels are to be its.
    """
    for axis, size in enumerate(shape):
        last = plane.shape[axis] - 1
        place = np.arange(size) * (last / (size - 1)) if size > 1 else np.zeros(1)
        plane = plane.take(np.floor(place + 0.5).astype(int), axis)
        plane[(slice(None),) * axis + (place > last,)] = 0
    return plane


def _eroded(mask: "sitk.Image", times: int) -> "sitk.Image":
    """Return a mask without its edge pixels; beyond the slice's edge counts as outside."""
    import SimpleITK as sitk

    for _ in range(times):
        grown = sitk.BinaryErode(sitk.ConstantPad(mask, [1, 1], [1, 1], 0), [1, 1], sitk.sitkCross, 0, 1)
        mask = sitk.Crop(grown, [1, 1], [1, 1])
    return mask
