"""The display window that a header stores (PS3.3 C.11.2)."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset


def stored_window(header: "Dataset") -> tuple[float, float] | None:
    """Return (width, center) of the header's first window, in the modality's unit; None if it has no usable one."""
    values = []
    for keyword in ("WindowWidth", "WindowCenter"):
        value = header.get(keyword)
        try:
            values.append(float(value if isinstance(value, float | int | str) else value[0]))
        except (TypeError, ValueError, LookupError):
            return None
    width, center = values
    return (width, center) if np.isfinite(values).all() and width > 0 else None
