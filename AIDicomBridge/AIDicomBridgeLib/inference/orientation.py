"""Turning a volume so that its axes point where a network wants them: permutation and flips, no interpolation."""

from dataclasses import dataclass

import numpy as np

# Direction letters as unit vectors in LPS.
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Orientation:
    """How the axes of a source array (k, j, i) become those of a target (D, H, W).

    Attributes
    ----------
    permutation
        ``permutation[d]`` is the source axis that becomes target axis d.
    flips
        Target axes that run against their source axis.
    """

    permutation: tuple[int, int, int]
    flips: tuple[int, ...]

    @classmethod
    def between(cls, ijk_to_lps: np.ndarray, target: str) -> "Orientation":
        """Return the turn that brings a volume nearest to the target directions.

        An oblique volume keeps its own axes: each is given the body axis that it lies nearest to, best match first.

        Parameters
        ----------
        ijk_to_lps
            4x4 affine of the source.
        target
            Direction of increasing index along D, H, W, e.g. ``"LIA"``.
        """
        columns = ijk_to_lps[:3, :3] / np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
        directions = columns[:, ::-1].T  # source axis (k, j, i) -> unit vector in LPS
        closeness = np.abs(directions).copy()
        source_of: dict[int, int] = {}
        for _ in range(3):
            nearest, body_axis = (int(index) for index in np.unravel_index(np.argmax(closeness), closeness.shape))
            source_of[body_axis] = nearest
            closeness[nearest, :] = closeness[:, body_axis] = -1
        permutation, flips = [], []
        for axis, letter in enumerate(target):
            body, sign = _LETTERS[letter]
            source = source_of[body]
            permutation.append(source)
            if directions[source, body] * sign < 0:
                flips.append(axis)
        return cls((permutation[0], permutation[1], permutation[2]), tuple(flips))

    @classmethod
    def of_axes(cls, axes: str) -> "Orientation":
        """Return the turn that brings a volume's own axes, named by ``k``, ``j`` and ``i``, into the given order."""
        first, second, third = ("kji".index(axis) for axis in axes)
        return cls((first, second, third), ())

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return a (k, j, i) array as (D, H, W): a view."""
        return np.flip(array.transpose(self.permutation), self.flips)

    def invert(self, array: np.ndarray) -> np.ndarray:
        """Return a (D, H, W) array as (k, j, i): a view."""
        return np.flip(array, self.flips).transpose(np.argsort(self.permutation))

    def permuted(self, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return one value per source axis (k, j, i), such as a spacing, in the order D, H, W."""
        first, second, third = self.permutation
        return values[first], values[second], values[third]
