"""Bringing intensities into the range that a network was trained on."""

import numpy as np


def scale_percentiles(voxels: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Return the voxels as float32 with two percentiles of them mapped to 0 and 1 and values beyond clipped: a copy.

    A volume of one value becomes all zeros.
    """
    low, high = np.percentile(voxels, percentiles)
    scaled = voxels.astype(np.float32)
    scaled -= np.float32(low)
    scaled /= np.float32(max(high - low, np.finfo(np.float32).tiny))
    return np.clip(scaled, 0, 1, out=scaled)


def cormack_units(hounsfield: np.ndarray) -> np.ndarray:
    """Return a CT in Cormack units, float32, a copy: air is 0, and -100 to 100 HU is stretched eleven-fold.

    The range of the brain, 200 HU of some 4000, then covers about half of the scale (Rorden et al., NeuroImage 2012).
    Values below -1024, which some scanners write outside their field of view, count as -1024.
    """
    shifted = np.maximum(hounsfield, -1024).astype(np.float32)
    shifted -= shifted.min()
    return shifted + 10 * np.clip(shifted - 900, 0, 200)
