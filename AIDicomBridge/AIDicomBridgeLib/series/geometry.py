"""Patient-space geometry of a stack of slices (PS3.3 C.7.6.2.1.1). World is LPS in millimetres."""

from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError

# Positions are written with few decimals; 1 % of the slice spacing is far below a voxel and above rounding.
SPACING_TOLERANCE = 0.01
# Direction cosines with 6 decimals leave about 1e-6; a tilt of 0.1 degrees is 1.7e-3.
DIRECTION_TOLERANCE = 1e-3
_SAME_POSITION_MM = 1e-5


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Order and affine of parallel slices.

    Attributes
    ----------
    order
        Indices of the given slices, sorted along the slice normal ``cross(row, column)``: ``order[k]`` is slice k.
    ijk_to_lps
        4x4, float64: maps (i, j, k, 1) = (column, row, slice, 1) to LPS millimetres. Right-handed. In an irregular
        stack it holds for the first and the last slice; with gantry tilt alone it holds for all, and is sheared.
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
    single_slice_spacing: float = 1.0,
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
        Slice spacing to assume for one slice, millimetres.
    allow_irregular
        Accept parallel slices with gaps, of uneven spacing, or shifted within their plane, and name it.

    Raises
    ------
    GeometryError
        The slices are not parallel, differ in pixel spacing, share a position or, unless they may, miss a slice, are
        unevenly spaced, or are shifted within their plane (gantry tilt).
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
    if np.abs(pixel_spacings / pixel_spacings[0] - 1).max() > SPACING_TOLERANCE:
        raise GeometryError("the slices have different pixel spacings")
    row, column = orientations[0, :3], orientations[0, 3:]
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01 or abs(row @ column) > 0.01:
        raise GeometryError("the image orientation is not a pair of perpendicular unit vectors")
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)

    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    step = normal * single_slice_spacing
    irregularity = ""
    if len(order) > 1:
        step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
        irregularity = _irregularity(np.diff(distances[order]), step, normal, positions[order])
    if irregularity and not allow_irregular:
        raise GeometryError(
            irregularity,
            advice="Retrieve the series again, or choose a complete, straight reconstruction; --resample has the "
            "network see a regular grid and maps its labels back to these slices.",
        )
    affine = np.eye(4)
    affine[:3, 0] = row * pixel_spacings[0, 1]
    affine[:3, 1] = column * pixel_spacings[0, 0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    return SliceStack(tuple(int(index) for index in order), affine, irregularity)


def slices_at_one_position(positions: np.ndarray, orientation: np.ndarray) -> int:
    """Return how many of the (n, 3) positions lie at most in one plane of this orientation, (6,)."""
    distances = np.sort(positions @ np.cross(orientation[:3], orientation[3:]))
    gaps = np.diff(distances)
    apart = gaps[gaps > _SAME_POSITION_MM]
    closest = max(float(np.median(apart)) * SPACING_TOLERANCE if apart.size else 0.0, _SAME_POSITION_MM)
    planes = np.concatenate([[0], np.cumsum(gaps > closest)])
    return int(np.bincount(planes).max())


def _irregularity(gaps: np.ndarray, step: np.ndarray, normal: np.ndarray, positions: np.ndarray) -> str:
    typical = float(np.median(gaps))
    if gaps.min() <= max(typical * SPACING_TOLERANCE, _SAME_POSITION_MM):
        raise GeometryError(
            "two slices share one position", advice="The series may hold several phases; choose one acquisition."
        )
    along, widest = float(step @ normal), float(gaps.max())
    if (np.abs(gaps / typical - 1) > SPACING_TOLERANCE).any():
        missing = bool(np.allclose(gaps / typical, np.round(gaps / typical), atol=0.05))
        what = "slices are missing" if missing else "the slices are unevenly spaced"
        return f"{what}: most lie {typical:.3f} mm apart, the widest gap is {widest:.3f} mm"
    shift = float(np.linalg.norm(step - along * normal))
    if shift > DIRECTION_TOLERANCE * np.linalg.norm(step):
        degrees = np.degrees(np.arctan2(shift, along))
        return f"the slices are shifted within their plane (gantry tilt of {degrees:.1f} degrees)"
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    if np.linalg.norm(positions - expected, axis=1).max() > max(SPACING_TOLERANCE * np.linalg.norm(step), 0.01):
        return "the slice positions do not lie on one line"
    return ""


def spacing_mm(ijk_to_lps: np.ndarray) -> tuple[float, float, float]:
    """Return the voxel spacing of an affine as (k, j, i), millimetres."""
    lengths = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    return float(lengths[2]), float(lengths[1]), float(lengths[0])
