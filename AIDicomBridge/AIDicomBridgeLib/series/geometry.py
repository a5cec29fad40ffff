"""Patient-space geometry of a stack of slices (PS3.3 C.7.6.2.1.1). World is LPS in millimetres."""

from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError

# Positions are written with few decimals. Two leave up to 0.0173 mm between a slice and a line through two others: on
# each axis 0.005 mm of its own and as much of theirs. Of thick slices a hundredth is far below a voxel as well.
_ROUNDING_MM, _SHARE_OF_SPACING = 0.02, 0.01
_LARGEST_SHARE = 0.1  # of a voxel, along any of its axes: by so much nothing may be misplaced, or a stack lean
_PIXEL_SPACING_TOLERANCE = 0.01
# Direction cosines with 6 decimals leave about 1e-6; a tilt of 0.1 degrees is 1.7e-3.
DIRECTION_TOLERANCE = 1e-3
# Of unit vectors and their right angle: cosines with 4 decimals leave 2e-4, and readers differ on what is left.
_ORTHONORMAL_TOLERANCE = 5e-4
# Of the pixel spacing: slices that lie closer show one place.
_SAME_POSITION = 0.01


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Order and affine of parallel slices.

    Attributes
    ----------
    order
        Indices of the given slices, sorted along the slice normal ``cross(row, column)``: ``order[k]`` is slice k.
    ijk_to_lps
        4x4, float64: maps (i, j, k, 1) = (column, row, slice, 1) to LPS millimetres. Right-handed. It holds for the
        first and the last slice, and for each slice between them within :func:`position_tolerance_mm`: however many
        they are, errors do not add up. In an irregular stack that is not so; with gantry tilt alone it is, and the
        affine is sheared.
    irregularity
        What keeps the slices from being a regular grid, as a clause; empty where nothing does.
    """

    order: tuple[int, ...]
    ijk_to_lps: np.ndarray
    irregularity: str = ""


def stack_slices(
    positions: np.ndarray,
    orientations: np.ndarray,
    pixel_spacings: np.ndarray,
    *,
    single_slice_spacing: float | None = None,
    allow_irregular: bool = False,
) -> SliceStack:
    """Sort slices along their normal and derive the volume's affine.

    Parameters
    ----------
    positions
        (n, 3) Image Position (Patient), LPS millimetres.
    orientations
        (n, 6) Image Orientation (Patient): direction of a row (increasing i), then of a column (increasing j).
    pixel_spacings
        (n, 2) Pixel Spacing: between rows (j), then between columns (i), millimetres.
    single_slice_spacing
        Slice spacing of a stack of one slice, millimetres; None where nothing tells it.
    allow_irregular
        Accept parallel slices with gaps, of uneven spacing, or shifted within their plane, and name it.

    Raises
    ------
    GeometryError
        The slices are not parallel, differ in pixel spacing, share a position or, unless they may, miss a slice, are
        unevenly spaced, or are shifted within their plane (gantry tilt). Or it is one slice of unknown thickness.
    """
    if not (np.isfinite(positions).all() and np.isfinite(orientations).all() and np.isfinite(pixel_spacings).all()):
        raise GeometryError("positions, orientations or pixel spacings are not finite numbers")
    if max(np.abs(values).max() for values in (positions, orientations, pixel_spacings)) > 1e6:
        raise GeometryError("positions, orientations or pixel spacings are beyond a kilometre")
    if (pixel_spacings <= 1e-6).any():
        raise GeometryError("the pixel spacing is not positive")
    if np.abs(orientations - orientations[0]).max() > DIRECTION_TOLERANCE:
        raise GeometryError(
            "the slices have different orientations", advice="Choose a series that is one stack, not a localizer."
        )
    if np.abs(pixel_spacings / pixel_spacings[0] - 1).max() > _PIXEL_SPACING_TOLERANCE:
        raise GeometryError("the slices have different pixel spacings")
    row, column = orientations[0, :3], orientations[0, 3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > _ORTHONORMAL_TOLERANCE:
        raise GeometryError("the image orientation is not a pair of perpendicular unit vectors")
    turned, _, back = np.linalg.svd(np.stack([row, column], axis=1), full_matrices=False)
    row, column = (turned @ back).T  # the nearest pair that is: what is left from rounding would add up over a row
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)

    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    irregularity = ""
    if len(order) == 1:
        if single_slice_spacing is None:
            raise GeometryError(
                "the only slice does not say how thick it is, so every volume in it would be a guess",
                advice="Retrieve the series from where its header is complete (SliceThickness).",
            )
        step = normal * single_slice_spacing
    else:
        step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
        irregularity = _irregularity(distances[order], step, normal, positions[order], float(pixel_spacings.min()))
    if irregularity and not allow_irregular:
        raise GeometryError(
            irregularity,
            advice="Retrieve the series again, or choose a complete, straight reconstruction; or let the network see "
            "it on a regular grid, from which its labels are mapped back to these slices (--resample; in Python "
            "resample=True).",
        )
    affine = np.eye(4)
    affine[:3, 0] = row * pixel_spacings[0, 1]
    affine[:3, 1] = column * pixel_spacings[0, 0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    return SliceStack(tuple(int(index) for index in order), affine, irregularity)


def plane_numbers(positions: np.ndarray, orientation: np.ndarray, pixel_spacing: float) -> np.ndarray:
    """Return for each of the (n, 3) positions the number of its plane along the normal, (n,), from 0 on.

    Positions of one plane may differ by a hundredth of the pixel spacing, as those of several phases do.
    """
    distances = positions @ np.cross(orientation[:3], orientation[3:])
    order = np.argsort(distances, kind="stable")
    numbers = np.empty(len(order), int)
    numbers[order] = np.concatenate([[0], np.cumsum(np.diff(distances[order]) > _SAME_POSITION * pixel_spacing)])
    return numbers


def position_tolerance_mm(slice_spacing: float) -> float:
    """Return how far a slice of a regular stack may lie from its place there, millimetres.

    That is 0.02 mm or a hundredth of the slice spacing, whichever is more, but never more than a tenth of the spacing.
    Within its plane a slice may not be shifted by more than a tenth of a pixel either.
    """
    return min(max(_ROUNDING_MM, _SHARE_OF_SPACING * slice_spacing), _LARGEST_SHARE * slice_spacing)


def _irregularity(
    distances: np.ndarray, step: np.ndarray, normal: np.ndarray, positions: np.ndarray, pixel_spacing: float
) -> str:
    gaps = np.diff(distances)
    typical = float(np.median(gaps))
    if gaps.min() <= _SAME_POSITION * max(typical, pixel_spacing):
        raise GeometryError(
            "two slices share one position", advice="The series may hold several phases; choose one acquisition."
        )
    along, widest = float(step @ normal), float(gaps.max())
    tolerance = position_tolerance_mm(along)
    misplaced = positions - positions[0] - np.arange(len(positions))[:, None] * step
    along_normal = misplaced @ normal
    most = float(np.abs(along_normal).max())
    if most > tolerance:
        counts = np.round(gaps / typical)
        if counts.min() >= 1 and counts.max() >= 2 and np.abs(gaps / typical - counts).max() <= _LARGEST_SHARE:
            return f"slices are missing: most lie {typical:.3f} mm apart, the widest gap is {widest:.3f} mm"
        return (
            f"the slices are unevenly spaced: they lie {gaps.min():.3f} to {widest:.3f} mm apart, and up to {most:.3f} "
            "mm from where they would lie evenly"
        )
    shift = float(np.linalg.norm(step - along * normal))
    if shift * len(gaps) > _LARGEST_SHARE * pixel_spacing:
        degrees = np.degrees(np.arctan2(shift, along))
        shown = f"{degrees:.1f}" if degrees >= 0.1 else f"{degrees:.3f}"
        return f"the slices are shifted within their plane (gantry tilt of {shown} degrees)"
    most = float(np.linalg.norm(misplaced, axis=1).max())
    within_plane = float(np.linalg.norm(misplaced - along_normal[:, None] * normal, axis=1).max())
    if most > tolerance or within_plane > _LARGEST_SHARE * pixel_spacing:
        return f"the slice positions do not lie on one line, but up to {most:.3f} mm beside it"
    return ""


def spacing_mm(ijk_to_lps: np.ndarray) -> tuple[float, float, float]:
    """Return the voxel spacing of an affine as (k, j, i), millimetres."""
    lengths = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    return float(lengths[2]), float(lengths[1]), float(lengths[0])


def orientation_name(orientation: np.ndarray) -> str:
    """Return what people call slices of this orientation, (6,) or an affine: ``"axial"``, ``"oblique coronal"``, ..."""
    row, column = (orientation[:3], orientation[3:]) if orientation.ndim == 1 else orientation[:3, :2].T
    normal = np.abs(np.cross(row, column))
    normal /= np.linalg.norm(normal)
    axis = int(normal.argmax())
    name = ("sagittal", "coronal", "axial")[axis]
    return name if normal[axis] > np.cos(np.radians(1)) else f"oblique {name}"
