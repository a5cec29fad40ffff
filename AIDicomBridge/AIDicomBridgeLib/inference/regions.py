"""Small regions of a label array go to the neighbour that they touch most; what stays is whole and without holes."""

import numpy as np

from ..progress import CancelToken, check_cancel
from .postprocessing import holes, remove_small_components, sizes_of

BYTES_A_VOXEL = 20  # at the most: numbers of regions, those of one value, masks; measured
_SMALL_HOLE = 64  # pixels, from which on a hole in a single slice stays one
_IGNORED_BELOW = 3  # voxels: so small a region is removed, not given away


def give_small_regions_away(labels: np.ndarray, *, cancel: CancelToken | None = None) -> np.ndarray:
    """Return labels (k, j, i) uint8 with one region per value, holes filled; a copy.

    All but the largest region of each value become part of the region with which they share the largest border, the
    smallest first (the clean-up of lungmask). Regions are joined by faces, edges and corners.
    """
    regions, values, sizes = _regions(labels)
    boxes = _boxes(regions, len(sizes))
    largest = np.zeros(256, np.int64)
    kept = np.zeros(len(sizes), np.uint8)  # what a region's voxels become
    order = np.argsort(sizes[1:], kind="stable") + 1
    for region in order:
        if sizes[region] > largest[values[region]]:
            largest[values[region]] = sizes[region]
            kept[region] = values[region]
    for region in order:
        check_cancel(cancel)
        size = sizes[region]
        if not _IGNORED_BELOW <= size < largest[values[region]]:
            continue
        box = tuple(slice(max(0, low - 2), high + 2) for low, high in boxes[region])
        around = regions[box]
        inside = around == region
        touched, counts = np.unique(around[_dilated(inside)], return_counts=True)
        counts[(touched == 0) | (touched == region)] = 0
        if not len(counts) or not counts.max():
            continue
        neighbour = int(touched[counts.argmax()])
        around[inside] = neighbour
        boxes[neighbour] = [
            (min(a, c), max(b, d)) for (a, b), (c, d) in zip(boxes[neighbour], boxes[region], strict=True)
        ]
        if sizes[neighbour] == largest[values[neighbour]]:
            largest[values[neighbour]] += size
        sizes[neighbour] += size
    mapped = np.stack([kept[numbers] for numbers in regions])
    del regions
    result = np.zeros_like(labels)
    for value in np.flatnonzero(sizes_of(mapped)[1:]) + 1:
        check_cancel(cancel)
        result[_whole(mapped == value)] = value
    return result


def _regions(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of each voxel's region, and each region's value and size; numbers go in reading order."""
    import SimpleITK as sitk

    regions = np.zeros(labels.shape, np.int32)
    count = 0
    for value in np.flatnonzero(sizes_of(labels)[1:]) + 1:
        found = sitk.ConnectedComponent(sitk.GetImageFromArray((labels == value).view(np.uint8)), True)
        numbers = sitk.GetArrayViewFromImage(found)
        for plane, new in zip(regions, numbers, strict=True):
            plane[new > 0] = new[new > 0] + count
        count += int(numbers.max())
    # Plane by plane: an index of a whole volume takes 8 bytes a voxel.
    ranks = np.zeros(count + 1, np.int32)
    values = np.zeros(count + 1, np.uint8)
    known = 0
    for plane, inside in zip(regions, labels, strict=True):
        present, firsts = np.unique(plane, return_index=True)
        new = (present > 0) & (ranks[present] == 0)
        in_order = present[new][np.argsort(firsts[new])]
        ranks[in_order] = np.arange(known + 1, known + 1 + len(in_order))
        known += len(in_order)
        plane[...] = ranks[plane]
        values[plane] = inside
    values[0] = 0
    return regions, values, sizes_of(regions)


def _boxes(regions: np.ndarray, count: int) -> list[list[tuple[int, int]]]:
    """Return, by region number, the (first, last + 1) index along each axis."""
    bounds = []
    for axis in range(regions.ndim):
        low, high = np.full(count, regions.shape[axis]), np.zeros(count, int)
        for index in range(regions.shape[axis]):
            present = np.unique(regions.take(index, axis))
            low[present] = np.minimum(low[present], index)
            high[present] = index + 1
        bounds.append(list(zip(low.tolist(), high.tolist(), strict=True)))
    return [[bounds[axis][number] for axis in range(regions.ndim)] for number in range(count)]


def _dilated(mask: np.ndarray) -> np.ndarray:
    """Return the mask with its face neighbours."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        to, of = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        to[1:] |= of[:-1]
        to[:-1] |= of[1:]
    return grown


def _whole(mask: np.ndarray) -> np.ndarray:
    """Return the largest region of a mask, with its holes filled; in a single slice only holes below 64 voxels."""
    import SimpleITK as sitk

    found = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.view(np.uint8)), True)
    numbers = sitk.GetArrayViewFromImage(found)
    sizes = sizes_of(numbers)[1:]
    largest = numbers == len(sizes) - int(sizes[::-1].argmax())
    del numbers, found
    if len(mask) > 1:
        return largest | holes(largest)
    between = np.pad(largest, ((1, 1), (0, 0), (0, 0)), constant_values=True)  # what ends in the slice may be enclosed
    enclosed = holes(between)[1:-1]
    return largest | (enclosed & (remove_small_components(enclosed.view(np.uint8), 1, _SMALL_HOLE) == 0))
