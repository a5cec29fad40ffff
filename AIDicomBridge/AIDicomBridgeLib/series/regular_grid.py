"""A regular grid for the network, where the slices of a series are uneven or tilted, and the way back to them.

The slices stay parallel, so both ways shift and mix whole planes: no voxel is looked up by itself.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import GeometryError
from .geometry import spacing_mm

if TYPE_CHECKING:
    from .source_series import SourceSeries
    from .volume import ImageVolume

_MOST_GROWTH = 8  # of a series that is resampled, in voxels: memory and time of the network grow with it


@dataclass(frozen=True, eq=False)
class RegularGrid:
    """A right-angled grid of even spacing.

    Attributes
    ----------
    shape
        (k, j, i).
    ijk_to_lps
        4x4 affine, (i, j, k, 1) to LPS millimetres.
    """

    shape: tuple[int, int, int]
    ijk_to_lps: np.ndarray


def regular_grid(source: "SourceSeries") -> RegularGrid:
    """Return the grid that holds all slices of a series: its own, or where it is irregular :func:`enclosing_grid`."""
    if not source.irregularity:
        return RegularGrid(source.shape, source.ijk_to_lps)
    return enclosing_grid(source.positions_mm, source.ijk_to_lps, source.shape)


def enclosing_grid(positions_mm: np.ndarray, ijk_to_lps: np.ndarray, shape: tuple[int, int, int]) -> RegularGrid:
    """Return the right-angled grid around irregular slices.

    In-plane spacing is kept; the slice spacing is the narrowest gap, so that every slice has a plane of its own and
    the network sees what lies on a single one.

    Parameters
    ----------
    positions_mm
        (n, 3) of each slice's first voxel, in order along the normal, LPS.
    ijk_to_lps
        4x4, as in :class:`~.geometry.SliceStack`.
    shape
        (slices, rows, columns).

    Raises
    ------
    GeometryError
        The grid would be more than eight times as large as the series.
    """
    offsets, (row, column, normal) = _offsets_mm(positions_mm, ijk_to_lps)
    _, dy, dx = spacing_mm(ijk_to_lps)
    dz = float(np.diff(offsets[:, 2]).min())
    low, high = offsets.min(axis=0), offsets.max(axis=0)
    grid = (
        _nearest((high[2] - low[2]) / dz) + 1,
        shape[1] + int(np.ceil((high[1] - low[1]) / dy - 1e-6)),
        shape[2] + int(np.ceil((high[0] - low[0]) / dx - 1e-6)),
    )
    if np.prod(grid, dtype=float) > _MOST_GROWTH * np.prod(shape, dtype=float):
        raise GeometryError(
            f"the series cannot be resampled: with planes {dz:.3f} mm apart, as its closest slices lie, a regular grid "
            f"would have {grid[0]} x {grid[1]} x {grid[2]} voxels, more than {_MOST_GROWTH} times those of the series",
            advice="Choose another series or stack, one whose slices lie closer to even.",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * dx, column * dy, normal * dz], axis=1)
    affine[:3, 3] = positions_mm[0] + low[0] * row + low[1] * column + low[2] * normal
    return RegularGrid(grid, affine)


def regular_volume(volume: "ImageVolume") -> "ImageVolume":
    """Return the volume on :func:`regular_grid`; itself where it is on it already.

    Voxels are interpolated linearly along the slice normal and within the planes; where no slice reaches, they have the
    volume's least value.
    """
    source = volume.source
    if volume.resampled or not source.irregularity:
        return volume
    grid = regular_grid(source)
    offsets, _ = _offsets_mm(source.positions_mm, source.ijk_to_lps)
    gaps = np.diff(offsets[:, 2])
    dz, dy, dx = spacing_mm(grid.ijk_to_lps)
    low = offsets.min(axis=0)
    filling = volume.voxels.min()
    result = np.full(grid.shape, filling, volume.voxels.dtype)
    for k in range(grid.shape[0]):
        at = low[2] + k * dz
        above = int(np.clip(np.searchsorted(offsets[:, 2], at), 1, len(offsets) - 1))
        share = float(np.clip((at - offsets[above - 1, 2]) / gaps[above - 1], 0, 1))
        plane = np.zeros(grid.shape[1:], np.float32)
        for index, weight in ((above - 1, 1 - share), (above, share)):
            if weight > 0:
                shift = (offsets[index, 1] - low[1]) / dy, (offsets[index, 0] - low[0]) / dx
                plane += np.float32(weight) * _placed(volume.voxels[index], grid.shape[1:], shift, filling)
        result[k] = np.rint(plane) if result.dtype.kind in "iu" else plane
    return replace(volume, voxels=result, ijk_to_lps=grid.ijk_to_lps, resampled=True)


def labels_on_slices(labels: np.ndarray, source: "SourceSeries") -> np.ndarray:
    """Return labels on the regular grid of a series, (k, j, i), as they lie on its slices.

    Each voxel of a slice has the label of the nearest voxel of the regular grid. Of a regular series they are the
    labels themselves, not a copy.
    """
    if not source.irregularity:
        return labels
    result = np.empty(source.shape, labels.dtype)
    for index, window in enumerate(slice_windows(source)):
        result[index] = labels[window]
    return result


def labels_between_slices(labels: np.ndarray, source: "SourceSeries") -> np.ndarray:
    """Return labels on the slices of a series, (k, j, i), on its regular grid, for :func:`labels_on_slices` to undo.

    A plane of the grid that is no slice's has the labels of the slice that lies nearest to it. Of a regular series they
    are the labels themselves, not a copy.
    """
    if not source.irregularity:
        return labels
    grid = regular_grid(source)
    windows = slice_windows(source)
    result = np.zeros(grid.shape, labels.dtype)
    planes = np.array([window[0] for window in windows])
    for k in range(grid.shape[0]):
        nearest = int(np.abs(planes - k).argmin())
        result[(k, *windows[nearest][1:])] = labels[nearest]
    return result


def labels_off_slices(labels: np.ndarray, source: "SourceSeries") -> np.ndarray:
    """Return what :func:`labels_on_slices` would lose of labels on the regular grid of a series, (k, j, i).

    On a slice's plane that is what lies beside the slice. Between two slices a voxel may be as on either of them: where
    a segment ends between them, no slice tells. Any other is lost.

    Returns
    -------
    np.ndarray
        New, of the same shape and type: the label that was drawn, or erased, where no slice shows it; 0 elsewhere.
    """
    lost = np.zeros_like(labels)
    windows = slice_windows(source)
    for window in windows:
        lost[window[0]] = labels[window[0]]
        lost[window] = 0
    for below, above in pairwise(windows):
        sides = np.zeros((2, *labels.shape[1:]), labels.dtype)
        for side, window in zip(sides, (below, above), strict=True):
            side[window[1:]] = labels[window]
        for k in range(below[0] + 1, above[0]):
            drawn = (labels[k] != 0) & (labels[k] != sides).all(axis=0)
            erased = (labels[k] == 0) & (sides[0] == sides[1])
            lost[k] = np.where(drawn, labels[k], np.where(erased, sides[0], 0))
    return lost


def slice_windows(source: "SourceSeries") -> list[tuple[int, slice, slice]]:
    """Return which voxels of the regular grid (plane, rows, columns) lie nearest to those of each slice.

    No two slices share a plane, as none lie closer to each other than the planes.
    """
    count, rows, columns = source.shape
    if not source.irregularity:
        return [(k, slice(0, rows), slice(0, columns)) for k in range(count)]
    offsets, _ = _offsets_mm(source.positions_mm, source.ijk_to_lps)
    dz, dy, dx = spacing_mm(regular_grid(source).ijk_to_lps)
    windows = []
    for along_row, along_column, along_normal in offsets - offsets.min(axis=0):
        j, i = round(along_column / dy), round(along_row / dx)
        windows.append((_nearest(along_normal / dz), slice(j, j + rows), slice(i, i + columns)))
    return windows


def _nearest(number: float) -> int:
    """Return the nearest whole number, halves up: ``round`` would give 1.5 and 2.5 the same one."""
    return int(np.floor(number + 0.5 + 1e-6))


def _offsets_mm(
    positions_mm: np.ndarray, ijk_to_lps: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return each slice's position from the first one's along row, column and normal, (n, 3), and those directions."""
    row = ijk_to_lps[:3, 0] / np.linalg.norm(ijk_to_lps[:3, 0])
    column = ijk_to_lps[:3, 1] / np.linalg.norm(ijk_to_lps[:3, 1])
    normal = np.cross(row, column)
    return (positions_mm - positions_mm[0]) @ np.stack([row, column, normal], axis=1), (row, column, normal)


def _placed(plane: np.ndarray, shape: tuple[int, int], shift: tuple[float, float], filling: float) -> np.ndarray:
    """Return a slice in a larger plane, moved by (rows, columns) with fractions, bilinear, float32."""
    whole = [int(np.floor(part + 1e-6)) for part in shift]
    fractions = [max(part - base, 0.0) for part, base in zip(shift, whole, strict=True)]
    values = np.full((plane.shape[0] + 2, plane.shape[1] + 2), filling, np.float32)
    values[1:-1, 1:-1] = plane
    moved = (1 - fractions[0]) * values[1:, :] + fractions[0] * values[:-1, :]
    moved = (1 - fractions[1]) * moved[:, 1:] + fractions[1] * moved[:, :-1]
    result = np.full(shape, filling, np.float32)
    rows, columns = min(moved.shape[0], shape[0] - whole[0]), min(moved.shape[1], shape[1] - whole[1])
    result[whole[0] : whole[0] + rows, whole[1] : whole[1] + columns] = moved[:rows, :columns]
    return result
