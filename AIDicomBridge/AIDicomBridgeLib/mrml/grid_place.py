"""Where the voxels of a node lie among those of its source: turned, mirrored or cropped, but voxel on voxel."""

from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError
from ..series.regular_grid import regular_grid
from ..series.source_series import SourceSeries

# Of a voxel, at any corner. Direction cosines written with 4 decimals are made orthogonal by Slicer's reader, which
# moves the far corner of 512 x 512 by up to 0.04; half a voxel would be another voxel.
_TOLERANCE = 0.1


@dataclass(frozen=True)
class GridPlace:
    """How a (k, j, i) array lies on the grid of a source.

    Attributes
    ----------
    axes
        Which axis of the array runs along each axis of the source.
    reversed_axes
        The axes of the source along which the array runs backwards.
    offset
        (k, j, i) on the source's grid of the first voxel, as :meth:`view` has it; it may lie outside.
    """

    axes: tuple[int, int, int]
    reversed_axes: tuple[int, ...]
    offset: tuple[int, int, int]

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return the array with the axes and directions of the source, a view."""
        return np.flip(array.transpose(self.axes), self.reversed_axes)


def place_on_grid(
    ijk_to_lps: np.ndarray, shape: tuple[int, ...], source: SourceSeries, *, what: str, advice: str
) -> GridPlace:
    """Return where an array of that (k, j, i) shape and affine lies on the grid of a source.

    Of an irregular source that is the regular grid, on which nodes show it.

    Parameters
    ----------
    what, advice
        Of the refusal.

    Raises
    ------
    GeometryError
        A corner of the array lies a tenth of a voxel or more beside where a corner of the source's voxels is.
    """
    to_source = np.linalg.solve(regular_grid(source).ijk_to_lps, ijk_to_lps)
    exact = np.round(to_source)
    turns = np.abs(exact[:3, :3])
    ends = np.array([(-0.5, length - 0.5) for length in reversed(shape)])
    corners = np.array([[*corner, 1] for corner in np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3)]).T
    on_grid = (turns.sum(axis=0) == 1).all() and (turns.sum(axis=1) == 1).all()
    if not on_grid or not (np.abs((to_source - exact) @ corners)[:3] <= _TOLERANCE).all():
        raise GeometryError(what, uid=source.series_uid, advice=advice)
    column_of = turns.argmax(axis=1)  # which of the array's (i, j, k) runs along each of the source's
    backwards = [bool(exact[row, column_of[row]] < 0) for row in range(3)]
    first = [
        int(exact[row, 3]) - backwards[row] * (shape[2 - column_of[row]] - 1)  # the last voxel of a mirrored axis
        for row in range(3)
    ]
    return GridPlace(
        axes=tuple(2 - int(column_of[2 - axis]) for axis in range(3)),  # type: ignore[arg-type]
        reversed_axes=tuple(axis for axis in range(3) if backwards[2 - axis]),
        offset=(first[2], first[1], first[0]),
    )
