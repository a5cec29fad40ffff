"""Tissue classes of a CT by Hounsfield ranges inside the body: rules, no learned model, no weights."""

import math
from typing import TYPE_CHECKING

import numpy as np

from ..inference.flood import flood
from ..inference.memory_plan import FixedNeed
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.volume import ImageVolume

if TYPE_CHECKING:
    import torch

# Labels 1 air, 2 fat, 3 muscle, 4 bone: below -190 HU, to -30, to 150, above; the usual ranges of CT body composition.
_AIR = 1
_RANGE_STARTS_HU = (-190.0, -29.0, 151.0)
_BODY_FROM_HU = -300.0
_CELL_BYTES, _PIXEL_BYTES = 40, 40  # of a coarse cell while the body is flooded, of a pixel of one slice: measured
_COARSE_MM = 4.0  # the body's outline needs no finer grid: 100 to 200 voxels a side instead of 512


def label_tissues(
    volume: ImageVolume,
    device: "torch.device",
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> np.ndarray:
    """Return labels 1 air, 2 fat, 3 muscle, 4 bone within the body, 0 elsewhere: uint8 (k, j, i).

    The body is the densest connected object with its holes filled, found on a coarse grid; tables and clothes are
    apart from it. Air is what lies inside the body below -190 HU: lungs, airways, bowel gas.
    """
    import torch
    from torch.nn import functional

    report(progress, "segment", 0, len(volume.voxels), "slices", "outline of the body")
    body = _body(volume, device)
    # One coarse cell of tolerance: skin at the outline still counts, air just outside of it does not.
    with_rim = functional.max_pool2d(body.float(), 3, stride=1, padding=1) > 0
    interior = functional.max_pool2d((~body).float(), 3, stride=1, padding=1) == 0
    cells = [
        torch.arange(size, device=device) * coarse // size
        for size, coarse in zip(volume.voxels.shape, body.shape, strict=True)
    ]
    starts = torch.tensor(_RANGE_STARTS_HU, device=device)
    labels = np.zeros(volume.voxels.shape, np.uint8)
    for k, plane in enumerate(volume.voxels):  # slice by slice: no second full-size volume
        check_cancel(cancel)
        tissue = 1 + torch.bucketize(torch.from_numpy(plane.astype(np.float32)).to(device), starts, right=True)
        allowed = torch.where(tissue == _AIR, _plane(interior, cells, k), _plane(with_rim, cells, k))
        labels[k] = (tissue * allowed).to(torch.uint8).cpu().numpy()
        report(progress, "segment", k + 1, len(volume.voxels), "slices", "tissues")
    return labels


def needed(volume: ImageVolume) -> FixedNeed:
    """Return the memory that :func:`label_tissues` takes."""
    slices, rows, columns = volume.voxels.shape
    cells = math.prod(-(-size // step) for size, step in zip(volume.voxels.shape, _steps(volume), strict=True))
    in_device = _CELL_BYTES * cells + _PIXEL_BYTES * rows * columns
    return FixedNeed((1, rows, columns), slices, in_device, volume.voxels.size)


def _plane(mask: "torch.Tensor", cells: "list[torch.Tensor]", k: int) -> "torch.Tensor":
    """Return slice k of a coarse mask at the full resolution of that slice (nearest cell)."""
    return mask[cells[0][k]].index_select(0, cells[1]).index_select(1, cells[2])


def _steps(volume: ImageVolume) -> list[int]:
    """Return how many voxels along each axis make a coarse cell."""
    return [max(1, round(_COARSE_MM / spacing)) for spacing in volume.spacing_mm]


def _body(volume: ImageVolume, device: "torch.device") -> "torch.Tensor":
    """Return the body's mask on the coarse grid: bool (D, H, W) along (k, j, i)."""
    import torch
    from torch.nn import functional

    steps = _steps(volume)
    coarse = np.ascontiguousarray(volume.voxels[:: steps[0], :: steps[1], :: steps[2]])
    dense = torch.from_numpy(coarse).to(device).float() > _BODY_FROM_HU
    if not bool(dense.any()):
        return dense
    # The voxel with most tissue around it lies in the body: the table is thin.
    window = [min(9, size if size % 2 else size - 1) for size in dense.shape]
    density = functional.avg_pool3d(
        dense[None, None].float(), window, stride=1, padding=[size // 2 for size in window], count_include_pad=False
    )[0, 0]
    seeds = torch.zeros_like(dense).view(-1)
    seeds[torch.where(dense, density, -1.0).view(-1).argmax()] = True
    body = flood(dense, seeds.view_as(dense))
    # Outside is what the in-plane border reaches; through the first and last slice the lungs are open, so not those.
    border = torch.zeros_like(body)
    border[:, 0], border[:, -1], border[:, :, 0], border[:, :, -1] = True, True, True, True
    return torch.stack([~flood(~plane, edge) for plane, edge in zip(body, border, strict=True)])
