"""Proof that voxels which went through other hands are still those of their files.

A result refers to the instances that it was computed from, so a volume that somebody smoothed, masked or painted over
must not pass for its source. Every voxel is compared. How the values are stored makes no difference.
"""

import numpy as np

from ..errors import ConflictError

# Of the largest magnitude: a rescale by fractions, rounded to float32 at another step.
_ROUNDING = 2.0**-21


def refuse_other_voxels(voxels: np.ndarray, own: np.ndarray, uid: str) -> None:
    """Raise if voxels are not those that were read from the files, ``own``, of the same shape.

    Raises
    ------
    ConflictError
        One of them differs, or is no number: it was changed after it had been read. ``uid`` names the series.
    """
    if own.dtype.kind in "iu":
        same = np.array_equal(voxels, own)
    else:
        allowed = _ROUNDING * float(np.abs(own).max(initial=0))
        same = bool((np.abs(np.subtract(voxels, own, dtype=np.float64)) <= allowed).all())  # of NaN this is False
    if not same:
        raise ConflictError(
            "the voxels of the volume node are not those of its DICOM files",
            uid=uid,
            advice="Load the series again: a result must come from the images that it refers to.",
        )
