"""Proof that voxels which went through other hands are still those of their files, without moving them.

A result refers to the instances that it was computed from, so a volume that somebody smoothed, masked or painted over
must not pass for its source. Every row is summed up, plainly, which shows a change of one voxel by one unit, and
weighted by position, which shows voxels that changed places. How the values are stored makes no difference.
"""

import numpy as np

from ..errors import ConflictError
from .volume import ImageVolume

# Of a row's sum of magnitudes: well above the rounding of float32, below one unit of one voxel.
_TOLERANCE = 5e-7


def row_sums(voxels: np.ndarray) -> np.ndarray:
    """Return the sums along the last axis of (j, i) voxels, plain and weighted from -1 to 1: (j, 2) float64."""
    plane = voxels.astype(np.float64)
    return np.stack([plane.sum(axis=-1), plane @ np.linspace(-1, 1, plane.shape[-1])], axis=-1)


def refuse_other_voxels(sums: np.ndarray, volume: ImageVolume) -> None:
    """Raise if the row sums of all planes, (k, j, 2), are not those of a volume.

    Raises
    ------
    ConflictError
        They differ: the voxels were changed after they had been read.
    """
    own = np.stack([row_sums(plane) for plane in volume.voxels])
    sizes = np.stack([row_sums(np.abs(plane.astype(np.float64)))[:, :1] for plane in volume.voxels])
    if sums.shape != own.shape or (np.abs(sums - own) > _TOLERANCE * (sizes + 1)).any():
        raise ConflictError(
            "the voxels of the volume node are not those of its DICOM files",
            uid=volume.source.series_uid,
            advice="Load the series again: a result must come from the images that it refers to.",
        )
