"""The study of the benchmark, made in code: a CT of 512 x 512 slices and a label volume with 60 segments."""

from pathlib import Path

import numpy as np
from AIDicomBridgeLib import Code, LabelVolume, Provenance, Segment, SourceSeries
from synthetic import body_phantom, make_series, save_series

_GRID = (4, 3, 5)  # segments along k, j, i


def write_ct(folder: Path, slices: int) -> list[Path]:
    """Write the CT, 0.5 MB a slice, and return its files."""
    voxels = body_phantom((slices, 512, 512))
    voxels += np.random.default_rng(1).integers(-20, 20, voxels.shape, dtype=np.int16)  # no two slices are alike
    return save_series(make_series(voxels, spacing_mm=(1.0, 0.8, 0.8)), folder)


def make_labels(source: SourceSeries, grid: tuple[int, int, int] = _GRID) -> LabelVolume:
    """Return ellipsoids of different sizes, none touching another, as many along k, j, i as ``grid`` says."""
    labels = np.zeros(source.shape, np.uint8)
    random = np.random.default_rng(2)
    cell = np.array(source.shape) / grid
    for label, place in enumerate(np.ndindex(grid), start=1):
        radii = cell * random.uniform(0.2, 0.45, 3)
        low = (np.array(place) * cell).astype(int)
        high = (np.array(place) * cell + cell).astype(int)
        k, j, i = (
            ((np.arange(start, stop) + 0.5 - (start + stop) / 2) / radius) ** 2
            for start, stop, radius in zip(low, high, radii, strict=True)
        )
        box = labels[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))]
        box[k[:, None, None] + j[None, :, None] + i[None, None, :] < 1] = label
    structure, organ = Code("123037004", "SCT", "Anatomical Structure"), Code("113343008", "SCT", "Organ")
    segments = tuple(
        Segment(label, f"Structure {label}", structure, organ, algorithm_name="Benchmark")
        for label in range(1, int(np.prod(grid)) + 1)
    )
    return LabelVolume(labels, segments, source=source, provenance=Provenance("Benchmark", "1", learned=False))
