"""Where something was found, in the patient's space: a point, a polygon, a box or an ellipsoid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EncodingError

_PLANAR_TOLERANCE_MM = 0.1
_NUMBER_OF_POINTS = {"POINT": (1, 1), "POLYGON": (3, 100_000), "BOX": (8, 8), "ELLIPSOID": (6, 6)}

Vector = Sequence[float]


@dataclass(frozen=True)
class Region:
    """A region in LPS millimetres; made by :meth:`point`, :meth:`polygon`, :meth:`box` or :meth:`ellipsoid`.

    Attributes
    ----------
    kind
        ``POINT``, ``POLYGON`` (planar), ``BOX`` (a flat one is a ``POLYGON``) or ``ELLIPSOID``.
    points_lps_mm
        The point; the polygon's corners, the first not repeated; a box's two faces, four corners each; the six ends of
        an ellipsoid's axes.
    """

    kind: str
    points_lps_mm: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        low, high = _NUMBER_OF_POINTS.get(self.kind, (1, 0))
        if not low <= len(self.points_lps_mm) <= high:
            raise EncodingError(f"a region {self.kind!r} cannot have {len(self.points_lps_mm)} points")
        points = self.array()
        if self.kind == "POLYGON":
            offset = points - points.mean(axis=0)
            normal = np.linalg.svd(offset)[2][2] if len(points) > 2 else np.zeros(3)
            if np.abs(offset @ normal).max() > _PLANAR_TOLERANCE_MM:
                raise EncodingError("the corners of a polygon do not lie in one plane")

    def array(self) -> np.ndarray:
        """Return the points as a new (n, 3) float64 array."""
        return _vectors(self.points_lps_mm)

    @classmethod
    def point(cls, position: Vector, *, ijk_to_lps: np.ndarray | None = None) -> "Region":
        """Return one point, given in LPS millimetres, or as (i, j, k) with the affine of the image."""
        return cls("POINT", _placed(_vectors([position]), ijk_to_lps))

    @classmethod
    def polygon(cls, corners: Sequence[Vector], *, ijk_to_lps: np.ndarray | None = None) -> "Region":
        """Return a closed planar polygon, its corners in LPS millimetres, or as (i, j, k) with the image's affine."""
        points = _vectors(corners)
        if len(points) > 3 and np.array_equal(points[0], points[-1]):
            points = points[:-1]
        return cls("POLYGON", _placed(points, ijk_to_lps))

    @classmethod
    def box(cls, corner: Vector, opposite: Vector, *, ijk_to_lps: np.ndarray | None = None) -> "Region":
        """Return a box from two opposite corners.

        Without an affine they are in LPS millimetres and the box lies along the LPS axes. With the affine of the image
        they are its first and last voxel (i, j, k): the box lies along the image's axes, reaches to the outer edges of
        these voxels within the slices, and from the first slice to the last.
        """
        both = _vectors([corner, opposite])
        low, high = both.min(axis=0), both.max(axis=0)
        if ijk_to_lps is not None:
            low[:2] -= 0.5
            high[:2] += 0.5
        face = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
        faces = [(x, y, z) for z in (low[2], high[2]) for x, y in face]
        if (high[:2] <= low[:2]).any():
            raise EncodingError("a box has no extent")
        if high[2] <= low[2]:
            return cls("POLYGON", _placed(_vectors(faces[:4]), ijk_to_lps))
        return cls("BOX", _placed(_vectors(faces), ijk_to_lps))

    @classmethod
    def ellipsoid(cls, center: Vector, half_axes: Sequence[Vector]) -> "Region":
        """Return an ellipsoid from its centre and its three half axes, as vectors from the centre, in LPS mm."""
        middle, axes = _vectors([center])[0], _vectors(half_axes)
        lengths = np.linalg.norm(axes, axis=1)
        if (
            axes.shape != (3, 3)
            or (lengths <= 0).any()
            or np.abs(np.tril(axes @ axes.T, -1)).max() > 1e-3 * lengths.max() ** 2
        ):
            raise EncodingError("the half axes of an ellipsoid must be three perpendicular vectors")
        return cls("ELLIPSOID", _placed(np.stack([middle + sign * axis for axis in axes for sign in (-1, 1)]), None))


def _vectors(values: Any) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EncodingError("a region's points must be numbers") from error
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise EncodingError("a region's points must be triplets of finite numbers")
    return array


def _placed(points: np.ndarray, ijk_to_lps: np.ndarray | None) -> tuple[tuple[float, ...], ...]:
    if ijk_to_lps is not None:
        points = points @ ijk_to_lps[:3, :3].T + ijk_to_lps[:3, 3]
    return tuple(tuple(float(value) for value in point) for point in points)
