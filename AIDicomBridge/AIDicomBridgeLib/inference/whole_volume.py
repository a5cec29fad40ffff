"""Running a network on the whole volume at once, layer by layer, with labels back on the source grid."""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.volume import ImageVolume
from .device import free_memory
from .normalisation import cormack_units, scale_percentiles
from .orientation import Orientation

if TYPE_CHECKING:
    import torch

    from ..models.card import InputRules, NetworkRules


def network_input(volume: ImageVolume, rules: "InputRules") -> "tuple[torch.Tensor, Orientation]":
    """Return a volume as the network wants it: float32 (1, 1, D, H, W), turned, resampled, normalised; on the CPU.

    Resampling is trilinear along the volume's own axes, with voxel edges (not centres) of the first and last voxel
    kept in place; the true spacing then differs from the wanted one by less than half a voxel over the whole axis.
    """
    import torch
    from torch.nn import functional

    orientation = Orientation.between(volume.ijk_to_lps, rules.orientation)
    voxels = cormack_units(volume.voxels) if volume.modality == "CT" and rules.ct_units == "cormack" else volume.voxels
    scaled = scale_percentiles(voxels, rules.percentiles)
    tensor = torch.from_numpy(np.ascontiguousarray(orientation.apply(scaled)))[None, None]
    spacing = orientation.permuted(volume.spacing_mm)
    size = tuple(
        max(1, round(count * is_mm / want_mm))
        for count, is_mm, want_mm in zip(tensor.shape[2:], spacing, rules.spacing_mm, strict=True)
    )
    if size != tuple(tensor.shape[2:]):
        tensor = functional.interpolate(tensor, size=size, mode="trilinear", align_corners=False)
    return tensor, orientation


def refuse_if_too_large(
    voxel_count: int, rules: "NetworkRules", device: "torch.device", precision: "torch.dtype"
) -> None:
    """Raise :class:`ModelError` if the network cannot run on that many voxels within the free memory.

    Four activations of all channels live at once (input, convolution, normalisation, GELU): measured 1.6 GB for 15
    channels of 7.1 million voxels in float32, with what the process needs besides.
    """
    needed = voxel_count * rules.channels * 4 * precision.itemsize
    free = free_memory(device)
    if free is not None and needed > free:
        raise ModelError(
            f"the volume needs about {needed / 1e9:.1f} GB on {device} and {free / 1e9:.1f} GB are free",
            advice="Close other programs, use another device, or choose a series that covers less of the body.",
        )


def run_whole_volume(
    network: "torch.nn.Sequential",
    tensor: "torch.Tensor",
    *,
    device: "torch.device",
    precision: "torch.dtype",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> "torch.Tensor":
    """Return the logits, float32 (classes, D, H, W) on the CPU; a cancel takes effect after the current layer.

    Raises
    ------
    ModelError
        The memory of the device does not suffice.
    """
    import torch

    try:
        with torch.inference_mode():
            activation = tensor.to(device, precision)
            network = network.to(device, precision)
            for number, layer in enumerate(network, start=1):
                check_cancel(cancel)
                activation = layer(activation)
                where = f"{device}, {precision}".replace("torch.", "")
                report(progress, "segment", number, len(network), "layers", where)
            return activation[0].float().cpu()
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the memory of {device} does not suffice for this volume",
            advice="Close other programs, or run it with the device cpu.",
        ) from error


def labels_on_source_grid(
    logits: "torch.Tensor", orientation: Orientation, source_shape: tuple[int, ...]
) -> np.ndarray:
    """Return the class with the largest logit for every source voxel: uint8 (k, j, i), contiguous, a copy.

    Logits, not labels, are resampled back (trilinear), class by class, so that edges stay smooth and one class's
    full-resolution logits are held at a time.
    """
    import torch
    from torch.nn import functional

    turned_shape = tuple(source_shape[axis] for axis in orientation.permutation)
    labels = torch.zeros(turned_shape, dtype=torch.uint8)
    best: torch.Tensor | None = None
    for value, class_logits in enumerate(logits):
        if tuple(class_logits.shape) != turned_shape:
            class_logits = functional.interpolate(  # noqa: PLW2901
                class_logits[None, None], size=turned_shape, mode="trilinear", align_corners=False
            )[0, 0]
        if best is None:
            best = class_logits.clone()
            continue
        labels.masked_fill_(class_logits > best, value)
        torch.maximum(best, class_logits, out=best)
    return np.ascontiguousarray(orientation.invert(labels.numpy()))
