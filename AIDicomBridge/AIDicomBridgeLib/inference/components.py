"""Connected components of label arrays."""

import numpy as np


def keep_largest_component(labels: np.ndarray, value: int) -> np.ndarray:
    """Return the labels with only the largest face-connected component of one value left; a copy.

    Parameters
    ----------
    labels
        (k, j, i), any integer type.
    value
        The label value to clean; other values are untouched.
    """
    import SimpleITK as sitk

    mask = labels == value
    if not mask.any():
        return labels.copy()
    # Only the bounding box is searched: components cannot reach beyond it.
    box = tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in (np.flatnonzero(mask.any(axis=a)) for a in _others()))
    components = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask[box].astype(np.uint8))))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    cleaned = labels.copy()
    cleaned[box][mask[box] & (components != sizes.argmax())] = 0
    return cleaned


def _others() -> tuple[tuple[int, int], ...]:
    """Return, for each axis of a volume, the two other axes."""
    return (1, 2), (0, 2), (0, 1)
