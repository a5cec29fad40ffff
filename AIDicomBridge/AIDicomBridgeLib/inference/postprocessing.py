"""Cleaning up labels: holes, the largest component, specks."""

import math

import numpy as np

from .rules import Cleanup

Box = tuple[slice, ...]


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
    cleaned = labels.copy()
    if len(sizes):
        cleaned[box][(components > 0) & (components != sizes.argmax())] = 0
    return cleaned


def remove_small_components(
    labels: np.ndarray, value: int, minimum_voxels: int, *, by_corners: bool = False
) -> np.ndarray:
    """Return the labels without the connected components of one value below a number of voxels; a copy."""
    box, components, sizes = _components(labels, value, by_corners)
    cleaned = labels.copy()
    if len(sizes):
        small = sizes < minimum_voxels
        small[0] = False
        cleaned[box][small[components]] = 0
    return cleaned


def fill_holes(labels: np.ndarray, value: int) -> np.ndarray:
    """Return the labels with background that one value encloses in 3D given that value; a copy.

    Another label inside a hole stays what it is.
    """
    import SimpleITK as sitk

    mask = labels == value
    cleaned = labels.copy()
    if mask.any():
        box = _bounding_box(mask)
        filled = sitk.BinaryFillhole(sitk.GetImageFromArray(mask[box].astype(np.uint8)))
        cleaned[box][(sitk.GetArrayViewFromImage(filled) > 0) & (labels[box] == 0)] = value
    return cleaned


def _components(labels: np.ndarray, value: int, by_corners: bool) -> tuple[Box, np.ndarray, np.ndarray]:
    """Return the value's bounding box, its components in there, and their sizes by number with 0 for the rest."""
    import SimpleITK as sitk

    mask = labels == value
    if not mask.any():
        return (), np.zeros(0, int), np.zeros(0, int)
    box = _bounding_box(mask)  # components cannot reach beyond it
    image = sitk.GetImageFromArray(mask[box].astype(np.uint8))
    components = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, by_corners))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return box, components, sizes


def _bounding_box(mask: np.ndarray) -> Box:
    hits = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)
