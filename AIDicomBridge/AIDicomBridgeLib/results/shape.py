"""Extent, centroid, surface area and longest diameter of every label of an array, on any grid.

Slice by slice, from the ends of runs of equal labels and from where neighbours differ, so that sixty organs cost hardly
more than one and no second volume is made.
"""

from dataclasses import dataclass

import numpy as np

# The steps (k, j, i) to the 13 neighbours of one half; the other half are the same lines.
_STEPS = np.array(
    [(0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1)] + [(1, j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)], dtype=np.int64
)
_LARGEST_BLOCK = 2_000_000  # distances at once


@dataclass(frozen=True, eq=False)
class LabelShape:
    """The shape of one label.

    Attributes
    ----------
    voxel_count
        Number of voxels.
    box
        Slices (k, j, i) of the smallest box that holds the label.
    centroid_lps_mm
        Mean of the voxel centres.
    surface_area_mm2
        By the Crofton formula: how often lines in 13 directions cross the surface. On cubic voxels what ITK and Slicer
        give, within 1 % for round shapes. On others each direction has the weight that the grid gives it: within 10 %
        for ellipsoids, where the fixed weights of ITK and Slicer are wrong by up to 30 %. Flat faces along the grid's
        axes come out too small, by up to 10 % on cubic voxels and 25 % on thick slices.
    longest_diameter_mm
        Distance between the centres of the two voxels that are farthest apart (Feret diameter in 3-D); 0 for one.
    """

    voxel_count: int
    box: tuple[slice, slice, slice]
    centroid_lps_mm: tuple[float, float, float]
    surface_area_mm2: float
    longest_diameter_mm: float


def label_shapes(labels: np.ndarray, ijk_to_lps: np.ndarray) -> dict[int, LabelShape]:
    """Return the shape of every label that occurs, by its value; background 0 is left out.

    Parameters
    ----------
    labels
        (k, j, i) of an unsigned integer type.
    ijk_to_lps
        4x4; the axes may have any directions and lengths.
    """
    largest = int(labels.max(initial=0))
    if largest == 0:
        return {}
    crossings = np.zeros((len(_STEPS), largest + 1), np.int64)
    sums = np.zeros((4, largest + 1))  # number of voxels, and the sums of their i, j and k
    ends: list[np.ndarray] = []  # rows of (label, k, j, i)
    columns = labels.shape[2] + 2
    below = np.zeros((labels.shape[1] + 2) * columns, labels.dtype)
    for k, plane in enumerate(labels):
        padded = np.pad(plane, 1).ravel()  # a step off the edge, or to the next row, lands on background
        _count_crossings(crossings, below, padded, columns)
        ends.append(_runs(sums, padded, k, columns))
        below = padded
    _count_crossings(crossings, below, np.zeros_like(below), columns)
    axes = ijk_to_lps[:3, 2::-1]  # columns: one step of k, of j, of i
    areas = _surface_areas(crossings, axes)
    points = np.concatenate(ends)
    points = points[np.argsort(points[:, 0], kind="stable")]
    found, starts = np.unique(points[:, 0], return_index=True)
    shapes = {}
    for label, own in zip(found.tolist(), np.split(points[:, 1:], starts[1:]), strict=True):
        low, high = own.min(axis=0).tolist(), (own.max(axis=0) + 1).tolist()
        center = ijk_to_lps @ np.append(sums[1:, label] / sums[0, label], 1.0)
        hull = _extreme_along(_extreme_along(own, 1), 0)
        shapes[label] = LabelShape(
            voxel_count=int(sums[0, label]),
            box=(slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])),
            centroid_lps_mm=(float(center[0]), float(center[1]), float(center[2])),
            surface_area_mm2=float(areas[label]),
            longest_diameter_mm=longest_distance((hull - low) @ axes.T),
        )
    return shapes


def _count_crossings(crossings: np.ndarray, below: np.ndarray, plane: np.ndarray, columns: int) -> None:
    """Add, by direction and label, the neighbours of which one has the label: within ``plane``, and from ``below``."""
    for direction, (k, j, i) in enumerate(_STEPS.tolist()):
        step = j * columns + i
        first = plane if k == 0 else below
        start, stop = max(-step, 0), len(plane) - max(step, 0)
        one, other = first[start:stop], plane[start + step : stop + step]
        differ = np.flatnonzero(one != other)
        if differ.size:
            both = np.concatenate([one[differ], other[differ]])
            crossings[direction] += np.bincount(both, minlength=crossings.shape[1])


def _runs(sums: np.ndarray, plane: np.ndarray, k: int, columns: int) -> np.ndarray:
    """Add the plane's runs of equal labels to the sums; return the outermost voxels of each label in each row."""
    change = np.flatnonzero(plane[1:] != plane[:-1])
    starts, stops = change[plane[change + 1] != 0] + 1, change[plane[change] != 0]
    label = plane[starts]
    length = stops - starts + 1
    row, first, last = starts // columns - 1, starts % columns - 1, stops % columns - 1
    for number, weights in enumerate((length, length * (first + last) / 2, length * row, length * k)):
        sums[number] += np.bincount(label, weights=weights, minlength=sums.shape[1])
    line = label.astype(np.int64) * (len(plane) // columns) + row
    _, leftmost = np.unique(line, return_index=True)
    _, rightmost = np.unique(line[::-1], return_index=True)
    rightmost = len(line) - 1 - rightmost
    outermost = [
        np.stack([label[at], np.full(len(at), k), row[at], column[at]], axis=1)
        for at, column in ((leftmost, first), (rightmost, last))
    ]
    return np.concatenate(outermost)


def _extreme_along(points: np.ndarray, axis: int) -> np.ndarray:
    """Return the points (k, j, i) that are the first or last on their line along an axis: no others can be a corner."""
    one, two = (other for other in range(3) if other != axis)
    points = points[np.lexsort((points[:, axis], points[:, one], points[:, two]))]
    new_line = (points[1:, one] != points[:-1, one]) | (points[1:, two] != points[:-1, two])
    return points[np.append(True, new_line) | np.append(new_line, True)]


def longest_distance(points: np.ndarray) -> float:
    """Return the largest distance between any two of the points (n, 3).

    Exact. From a pair that is far apart follows which points are too near the middle to be of a longer one.
    """
    points = points - points.mean(axis=0)
    radius = np.linalg.norm(points, axis=1)
    order = np.argsort(-radius, kind="stable")
    points, radius = points[order], radius[order]
    longest, here = 0.0, points[0]
    while True:  # from one end to the farthest, until that is no farther
        distances = np.linalg.norm(points - here, axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] <= longest:
            break
        longest, here = float(distances[farthest]), points[farthest]
    start = 0
    while start < len(points) and 2 * radius[start] > longest:
        partners = points[: np.searchsorted(-radius, radius[start] - longest, side="right")]
        block = points[start : start + max(_LARGEST_BLOCK // max(len(partners), 1), 1)]
        squares = (block**2).sum(axis=1)[:, None] + (partners**2).sum(axis=1) - 2 * (block @ partners.T)
        longest = max(longest, float(np.sqrt(max(squares.max(initial=0.0), 0.0))))
        start += len(block)
    return longest


def _surface_areas(crossings: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the surface area of every label: of lines in all directions, twice the mean density of crossings."""
    steps_mm = _STEPS @ axes.T
    voxel_mm3 = abs(float(np.linalg.det(axes)))
    weights = _shares_of_sphere(steps_mm) / np.linalg.norm(steps_mm, axis=1)
    return 2 * voxel_mm3 * (weights @ crossings)


def _shares_of_sphere(steps: np.ndarray) -> np.ndarray:
    """Return for which share of all directions each line is the nearest; the shares sum to 1."""
    number = np.arange(20000)
    height, turn = 1 - (number + 0.5) / len(number), number * np.pi * (3 - np.sqrt(5))  # an even half sphere
    circle = np.sqrt(1 - height**2)
    directions = np.stack([circle * np.cos(turn), circle * np.sin(turn), height])
    nearest = np.abs(steps / np.linalg.norm(steps, axis=1)[:, None] @ directions).argmax(axis=0)
    return np.bincount(nearest, minlength=len(steps)) / len(number)
