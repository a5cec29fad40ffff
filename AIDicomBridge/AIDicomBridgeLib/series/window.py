"""The display window that a source's headers store (PS3.3 C.11.2), in the unit of a volume's voxels."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

    from .volume import ImageVolume


def window_of(volume: "ImageVolume", k: int = 0) -> tuple[float, float] | None:
    """Return (width, center) of the first window of slice k, in the voxels' unit; None if it has no usable one."""
    window = _stored_window(volume.source.slices[k].header)
    if window is None or volume.suv is None:
        return window
    return window[0] * volume.suv.scale, window[1] * volume.suv.scale  # a header's is in the series' own unit


def _stored_window(header: "Dataset") -> tuple[float, float] | None:
    values = []
    for keyword in ("WindowWidth", "WindowCenter"):
        value = header.get(keyword)
        try:
            values.append(float(value if isinstance(value, float | int | str) else value[0]))
        except (TypeError, ValueError, LookupError):
            return None
    width, center = values
    return (width, center) if np.isfinite(values).all() and width > 0 else None
