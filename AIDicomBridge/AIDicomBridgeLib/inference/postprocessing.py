"""Cleaning up labels: holes, the largest component, specks."""

import math

import numpy as np

from .rules import Cleanup

Box = tuple[slice, ...]
_COUNTED_AT_ONCE = 1 << 22  # voxels
CLEANUP_BYTES = 11  # a voxel, beside the labels and their copy: masks, and twice the numbers of components; measured


def clean_up(labels: np.ndarray, cleanup: Cleanup, voxel_ml: float) -> np.ndarray:
    """Return the labels with what a card asks for one of them done, in the order of its keys; a copy.

    Parameters
    ----------
    voxel_ml
        Volume of one voxel in millilitres.
    """
    if cleanup.fill_holes:
        labels = fill_holes(labels, cleanup.label)
    if cleanup.keep_largest_component:
        labels = keep_largest_component(labels, cleanup.label, by_corners=cleanup.by_corners)
    if cleanup.minimum_ml:
        smallest = math.ceil(cleanup.minimum_ml / voxel_ml)
        labels = remove_small_components(labels, cleanup.label, smallest, by_corners=cleanup.by_corners)
    return labels


def keep_largest_component(labels: np.ndarray, value: int, *, by_corners: bool = False) -> np.ndarray:
    """Return the labels with only the largest connected component of one value left; a copy.

    Parameters
    ----------
    labels
        (k, j, i), any integer type.
    value
        The label value to clean; other values are untouched.
    by_corners
        What touches by an edge or a corner is one component too; else only what shares a face.
    """
    box, components, sizes = _components(labels, value, by_corners)
    gone = np.ones(len(sizes), bool)
    if len(sizes):
        gone[sizes.argmax()] = False
    return _without(labels, box, components, gone)


def remove_small_components(
    labels: np.ndarray, value: int, minimum_voxels: int, *, by_corners: bool = False
) -> np.ndarray:
    """Return the labels without the connected components of one value below a number of voxels; a copy."""
    box, components, sizes = _components(labels, value, by_corners)
    return _without(labels, box, components, sizes < minimum_voxels)


def fill_holes(labels: np.ndarray, value: int) -> np.ndarray:
    """Return the labels with background that one value encloses in 3D given that value; a copy.

    Another label inside a hole stays what it is.
    """
    mask = labels == value
    cleaned = labels.copy()
    if mask.any():
        inside = cleaned[_bounding_box(mask)]
        inside[holes(mask[_bounding_box(mask)]) & (inside == 0)] = value
    return cleaned


def holes(mask: np.ndarray) -> np.ndarray:
    """Return what a mask (k, j, i) encloses: what is joined, face by face, with no border of the array; bool."""
    import SimpleITK as sitk

    # ITK's own filter takes up to five times the memory, and minutes for a noisy mask.
    found = sitk.ConnectedComponent(sitk.GetImageFromArray((~mask).view(np.uint8)))
    components = sitk.GetArrayViewFromImage(found)
    enclosed = np.ones(int(components.max()) + 1, bool)
    enclosed[0] = False  # the mask
    for axis in range(components.ndim):
        for end in (0, -1):
            enclosed[components.take(end, axis)] = False
    return np.stack([enclosed[numbers] for numbers in components])


def _components(labels: np.ndarray, value: int, by_corners: bool) -> tuple[Box, np.ndarray, np.ndarray]:
    """Return the value's bounding box, its components in there, and their sizes by number with 0 for the rest."""
    import SimpleITK as sitk

    mask = labels == value
    if not mask.any():
        return (), np.zeros(0, int), np.zeros(0, int)
    box = _bounding_box(mask)  # components cannot reach beyond it
    image = sitk.GetImageFromArray(mask[box].astype(np.uint8))
    del mask
    image = sitk.ConnectedComponent(image, by_corners)
    components = sitk.GetArrayFromImage(image)
    del image
    sizes = sizes_of(components)
    sizes[0] = 0
    return box, components, sizes


def sizes_of(numbers: np.ndarray) -> np.ndarray:
    """Return how many voxels of an array (k, j, i) have each number, from 0 on: int64."""
    sizes = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    for planes in np.array_split(numbers, max(1, numbers.size // _COUNTED_AT_ONCE)):  # bincount makes int64 of it
        sizes += np.bincount(planes.ravel(), minlength=len(sizes))
    return sizes


def _without(labels: np.ndarray, box: Box, components: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Return the labels without the components in a box whose numbers are gone; a copy."""
    cleaned = labels.copy()
    if len(gone):
        gone[0] = False  # what is no component
        for plane, numbers in zip(cleaned[box], components, strict=True):  # an index of a whole volume has 8 bytes
            plane[gone[numbers]] = 0
    return cleaned


def _bounding_box(mask: np.ndarray) -> Box:
    hits = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)
