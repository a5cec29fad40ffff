"""What is drawn and from where: the same four views for every renderer."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VIEW_NAMES = ("axial", "coronal", "sagittal", "three_d")


@dataclass(frozen=True)
class SliceView:
    """A plane as it lies in the picture: unit vectors to the right and down in LPS, letters at the four edges."""

    name: str
    right: tuple[float, float, float]
    down: tuple[float, float, float]
    letters: tuple[str, str, str, str]  # left, right, top, bottom


# Radiological: the patient's right is on the left of the picture, anterior up in axial, and the patient faces left
# in sagittal.
SLICE_VIEWS = (
    SliceView("axial", (1, 0, 0), (0, 1, 0), ("R", "L", "A", "P")),
    SliceView("coronal", (1, 0, 0), (0, 0, -1), ("R", "L", "S", "I")),
    SliceView("sagittal", (0, 1, 0), (0, 0, -1), ("A", "P", "S", "I")),
)
# Towards the camera of the 3D view, in LPS: in front, to the patient's left, a little above.
CAMERA_DIRECTION = (0.65, -1.0, 0.4)


@dataclass(frozen=True)
class SegmentStyle:
    """How one label value is drawn; ``color_rgb`` 0-255."""

    label: int
    name: str
    color_rgb: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class PictureSubject:
    """Everything that a renderer needs, without a word about the patient.

    Attributes
    ----------
    voxels, labels
        (k, j, i) image and label array on one grid.
    ijk_to_lps
        4x4 affine of that grid.
    segments
        The label values to draw.
    window, level
        Grey scale: ``level - window / 2`` is black, ``level + window / 2`` white.
    size
        Edge of the square pictures, pixels.
    """

    voxels: np.ndarray
    labels: np.ndarray
    ijk_to_lps: NDArray[np.float64]
    segments: tuple[SegmentStyle, ...]
    window: float
    level: float
    size: int

    def centre_lps(self) -> NDArray[np.float64]:
        """Return the result's centre of mass, LPS mm; the volume's centre where there is no labelled voxel."""
        counts = [np.count_nonzero(self.labels, axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
        total = counts[0].sum()
        ijk = [float(count @ np.arange(len(count)) / total) if total else (len(count) - 1) / 2 for count in counts]
        return (self.ijk_to_lps @ [*ijk, 1])[:3]

    def corners_lps(self) -> NDArray[np.float64]:
        """Return the eight outer corners of the volume, (8, 3) LPS mm."""
        ends = [(-0.5, size - 0.5) for size in reversed(self.labels.shape)]
        corners = np.array([[i, j, k, 1] for i in ends[0] for j in ends[1] for k in ends[2]])
        return (corners @ self.ijk_to_lps.T)[:, :3]

    def save(self, folder: Path) -> None:
        """Write the subject into a folder, for the process that renders it."""
        np.save(folder / "voxels.npy", self.voxels)
        np.save(folder / "labels.npy", self.labels)
        rest = {
            "ijk_to_lps": self.ijk_to_lps.tolist(),
            "segments": [asdict(segment) for segment in self.segments],
            "window": self.window,
            "level": self.level,
            "size": self.size,
        }
        (folder / "subject.json").write_text(json.dumps(rest), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "PictureSubject":
        """Read what :meth:`save` wrote."""
        rest = json.loads((folder / "subject.json").read_text(encoding="utf-8"))
        return cls(
            np.load(folder / "voxels.npy"),
            np.load(folder / "labels.npy"),
            np.array(rest["ijk_to_lps"]),
            tuple(SegmentStyle(item["label"], item["name"], tuple(item["color_rgb"])) for item in rest["segments"]),
            rest["window"],
            rest["level"],
            rest["size"],
        )


def field_of_view(subject: PictureSubject, view: SliceView) -> tuple[NDArray[np.float64], float]:
    """Return the LPS point in the middle of a slice picture and the length of the picture's edge, mm.

    The plane holds the result's centre of mass; the whole volume fits in, with a small margin.
    """
    axes = np.array([view.right, view.down])
    normal = np.cross(*axes)
    along = subject.corners_lps() @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    middle = (low + high) / 2 @ axes + (subject.centre_lps() @ normal) * normal
    return middle, float((high - low).max() * 1.04)


def camera_axes() -> NDArray[np.float64]:
    """Return the 3D view's axes in LPS as rows: right, down, away from the viewer."""
    away = -np.array(CAMERA_DIRECTION) / np.linalg.norm(CAMERA_DIRECTION)
    right = np.cross(away, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.array([right, np.cross(away, right), away])


def surface_view(subject: PictureSubject) -> tuple[NDArray[np.float64], float, float]:
    """Return what the 3D picture shows: its middle in LPS, the length of its edge and its depth, mm.

    The labelled voxels as the camera sees them fill the picture but for a small margin.
    """
    box = labelled_box(subject.labels)
    strides = [max(1, (part.stop - part.start) // 100) for part in box]
    parts = tuple(slice(part.start, part.stop, stride) for part, stride in zip(box, strides, strict=True))
    kji = np.argwhere(subject.labels[parts])
    if not len(kji):
        kji = np.argwhere(np.ones([1, 1, 1], bool))
    ijk = (kji * strides + [part.start for part in box])[:, ::-1]
    seen = (ijk @ subject.ijk_to_lps[:3, :3].T + subject.ijk_to_lps[:3, 3]) @ camera_axes().T
    low, high = seen.min(axis=0), seen.max(axis=0)
    # Voxels reach half their diagonal around their centres, and strides may have passed over the last ones.
    reach = float(np.linalg.norm(subject.ijk_to_lps[:3, :3] @ strides[::-1]))
    low, high = low - reach, high + reach
    return (low + high) / 2 @ camera_axes(), float((high - low)[:2].max() * 1.08), float((high - low)[2])


def labelled_box(labels: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the smallest (k, j, i) box around the labelled voxels; the whole array where there are none."""
    ranges = []
    for axes, size in zip(((1, 2), (0, 2), (0, 1)), labels.shape, strict=True):
        found = np.flatnonzero(labels.any(axis=axes))
        ranges.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, size))
    return ranges[0], ranges[1], ranges[2]
