"""A regular grid for the network, where the slices of a series are uneven or tilted, and the way back to them.

The slices stay parallel, so both ways shift and mix whole planes: no voxel is looked up by itself.
"""

from dataclasses import replace

import numpy as np

from ..errors import GeometryError
from .volume import ImageVolume


def regular_volume(volume: ImageVolume) -> ImageVolume:
    """Return the volume on a regular, right-angled grid that holds all its slices; itself where it is one already.

    In-plane spacing is kept; the slice spacing is the usual one of the series. Voxels are interpolated linearly along
    the slice normal and within the planes; where no slice reaches, they have the volume's least value.

    Raises
    ------
    GeometryError
        The grid would be more than eight times as large as the series: a gap is too wide to be filled.
    """
    source = volume.source
    if not source.irregularity:
        return volume
    offsets, (row, column, normal) = _offsets_mm(volume)
    gaps = np.diff(offsets[:, 2])
    dy, dx, dz = volume.spacing_mm[1], volume.spacing_mm[2], float(np.median(gaps))
    low, high = offsets.min(axis=0), offsets.max(axis=0)
    shape = (
        round((high[2] - low[2]) / dz) + 1,
        volume.voxels.shape[1] + int(np.ceil((high[1] - low[1]) / dy - 1e-6)),
        volume.voxels.shape[2] + int(np.ceil((high[0] - low[0]) / dx - 1e-6)),
    )
    if np.prod(shape, dtype=float) > 8 * volume.voxels.size:
        raise GeometryError(
            f"the series cannot be resampled: a regular grid would have {shape} voxels", uid=source.series_uid
        )
    filling = volume.voxels.min()
    result = np.full(shape, filling, volume.voxels.dtype)
    for k in range(shape[0]):
        at = low[2] + k * dz
        above = int(np.clip(np.searchsorted(offsets[:, 2], at), 1, len(offsets) - 1))
        share = float(np.clip((at - offsets[above - 1, 2]) / gaps[above - 1], 0, 1))
        plane = np.zeros(shape[1:], np.float32)
        for index, weight in ((above - 1, 1 - share), (above, share)):
            if weight > 0:
                shift = (offsets[index, 1] - low[1]) / dy, (offsets[index, 0] - low[0]) / dx
                plane += np.float32(weight) * _placed(volume.voxels[index], shape[1:], shift, filling)
        result[k] = np.rint(plane) if result.dtype.kind in "iu" else plane
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * dx, column * dy, normal * dz], axis=1)
    affine[:3, 3] = source.positions_mm[0] + low[0] * row + low[1] * column + low[2] * normal
    return replace(volume, voxels=result, ijk_to_lps=affine)


def labels_on_slices(labels: np.ndarray, regular: ImageVolume, volume: ImageVolume) -> np.ndarray:
    """Return labels on the grid of ``regular``, (k, j, i), as they lie on the slices of ``volume``.

    Each voxel of a slice has the label of the nearest voxel of the regular grid. Where ``regular`` is ``volume``, so is
    the result the labels.
    """
    if regular is volume:
        return labels
    offsets, _ = _offsets_mm(volume)
    low = offsets.min(axis=0)
    dz, dy, dx = regular.spacing_mm
    _, rows, columns = volume.voxels.shape
    result = np.empty(volume.voxels.shape, labels.dtype)
    for index, (along_row, along_column, along_normal) in enumerate(offsets - low):
        k = min(round(along_normal / dz), len(labels) - 1)
        j, i = round(along_column / dy), round(along_row / dx)
        result[index] = labels[k, j : j + rows, i : i + columns]
    return result


def _offsets_mm(volume: ImageVolume) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return each slice's position from the first one's along row, column and normal, (n, 3), and those directions."""
    affine = volume.source.ijk_to_lps
    row = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    column = affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    normal = np.cross(row, column)
    positions = volume.source.positions_mm
    return (positions - positions[0]) @ np.stack([row, column, normal], axis=1), (row, column, normal)


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
