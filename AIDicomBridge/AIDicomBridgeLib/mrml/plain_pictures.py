"""The four pictures with numpy and Pillow alone, for machines without slicer-core or without OpenGL."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .picture_annotation import draw_axes, draw_edge_letters
from .picture_views import (
    SLICE_VIEWS,
    PictureSubject,
    SliceView,
    camera_axes,
    field_of_view,
    labelled_box,
    surface_view,
)

if TYPE_CHECKING:
    from PIL.Image import Image

# Outlines are drawn twice as large and averaged down: smooth lines without an anti-aliasing renderer.
_SUPERSAMPLING = 2
_OUTLINE_WIDTH = 2.5  # pixels of the finished picture
_LARGEST_SURFACE_GRID = 256  # voxels along an axis; more would not show at 640 pixels


def render_plain(subject: PictureSubject, folder: Path) -> None:
    """Write axial.png, coronal.png, sagittal.png and three_d.png into an existing folder."""
    for view in SLICE_VIEWS:
        picture = _slice_picture(subject, view)
        draw_edge_letters(picture, view)
        picture.save(folder / f"{view.name}.png")
    picture = _surface_picture(subject)
    draw_axes(picture)
    picture.save(folder / "three_d.png")


def _slice_picture(subject: PictureSubject, view: SliceView) -> "Image":
    from PIL import Image

    middle, edge_mm = field_of_view(subject, view)
    axes = np.array([view.right, view.down])
    ijk = _to_ijk(subject.ijk_to_lps, _picture_points(middle, axes, edge_mm, subject.size))
    low = subject.level - subject.window / 2
    grey = np.clip((_interpolate(subject.voxels, ijk, outside=low) - low) / subject.window, 0, 1) * 255
    picture = Image.fromarray(grey.astype(np.uint8).reshape(subject.size, subject.size), "L").convert("RGB")
    present = np.unique(subject.labels[tuple(_nearest(ijk, subject.labels.shape))])

    pixels = subject.size * _SUPERSAMPLING
    ijk = _to_ijk(subject.ijk_to_lps, _picture_points(middle, axes, edge_mm, pixels))
    for segment in subject.segments:
        if segment.label not in present:
            continue
        inside = _interpolate(subject.labels == segment.label, ijk, outside=0.0).reshape(pixels, pixels) >= 0.5
        outline = inside & ~_erode(inside, _OUTLINE_WIDTH * _SUPERSAMPLING)
        coverage = Image.fromarray(outline.astype(np.uint8) * 255, "L").resize(picture.size, Image.Resampling.BOX)
        picture.paste(segment.color_rgb, mask=coverage)
    return picture


def _surface_picture(subject: PictureSubject) -> "Image":
    """Return the labelled surface, found by marching along parallel rays and lit from beside the viewer."""
    from PIL import Image

    pixels = subject.size
    box = labelled_box(subject.labels)
    strides = [max(1, -(-(part.stop - part.start) // _LARGEST_SURFACE_GRID)) for part in box]
    labels = np.pad(subject.labels[tuple(slice(p.start, p.stop, s) for p, s in zip(box, strides, strict=True))], 2)
    to_lps = subject.ijk_to_lps @ _crop_affine([part.start for part in box], strides, padding=2)
    density = _smooth((labels > 0).astype(np.float32))
    centre, edge_mm, depth_mm = surface_view(subject)
    axes = camera_axes()
    points = _picture_points(centre - axes[2] * depth_mm / 2, axes[:2], edge_mm, pixels)
    start = _to_ijk(to_lps, points)
    towards = np.linalg.inv(to_lps)[:3, :3] @ axes[2]  # voxels per millimetre along a ray
    step_mm = 0.7 / np.abs(towards).max()

    depth = _first_hit(density, start, towards, step_mm, depth_mm)
    hit = np.isfinite(depth)
    at = start[:, hit] + towards[:, None] * _refine(density, start[:, hit], towards, depth[hit], step_mm)
    normal = _gradient(density, at, to_lps)
    light = -(axes[2] + 0.35 * axes[1] + 0.2 * axes[0])  # from the viewer, a little above and left
    facing = np.clip(-normal.T @ (light / np.linalg.norm(light)), 0, 1)
    color_of = np.full((int(labels.max()) + 1, 3), 200.0)
    for segment in subject.segments:
        if segment.label < len(color_of):
            color_of[segment.label] = segment.color_rgb
    base = color_of[_spread(labels)[tuple(_nearest(at, labels.shape))]]
    colors = np.zeros((pixels * pixels, 3))
    colors[hit] = base * (0.25 + 0.75 * facing[:, None]) + 60 * facing[:, None] ** 24
    return Image.fromarray(np.clip(colors, 0, 255).astype(np.uint8).reshape(pixels, pixels, 3), "RGB")


def _picture_points(
    middle: NDArray[np.float64], axes: NDArray[np.float64], edge_mm: float, pixels: int
) -> NDArray[np.float64]:
    """Return the LPS points under the pixels of a square picture, (3, pixels * pixels), row by row."""
    along = ((np.arange(pixels) + 0.5) / pixels - 0.5) * edge_mm
    across = (
        middle[:, None, None]
        + axes[0][:, None, None] * along[None, None, :]
        + axes[1][:, None, None] * (along[None, :, None])
    )
    return across.reshape(3, -1)


def _to_ijk(ijk_to_lps: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    inverse = np.linalg.inv(ijk_to_lps)
    return inverse[:3, :3] @ points + inverse[:3, 3:]


def _nearest(ijk: NDArray[np.float64], shape: tuple[int, ...]) -> list[NDArray[np.intp]]:
    """Return (k, j, i) indices of the voxels nearest to the points, clipped to the array."""
    return [
        np.clip(np.rint(position), 0, size - 1).astype(np.intp) for position, size in zip(ijk[::-1], shape, strict=True)
    ]


def _interpolate(array: np.ndarray, ijk: NDArray[np.floating], *, outside: float) -> NDArray[np.float32]:
    """Return the array (k, j, i) at fractional (i, j, k) points, trilinearly; half a voxel around it still counts."""
    shape = np.array(array.shape[::-1])[:, None]
    within = ((ijk >= -0.5) & (ijk <= shape - 0.5)).all(axis=0)
    values = np.full(ijk.shape[1], outside, np.float32)
    inside = np.asarray(np.clip(ijk[:, within], 0, shape - 1), np.float32)
    base = np.minimum(inside.astype(np.intp), np.maximum(shape - 2, 0))
    part = (inside - base).astype(np.float32)
    weights = np.stack([1 - part, part])  # [offset, axis]
    steps = np.stack([base, np.minimum(base + 1, shape - 1)])
    total = np.zeros(inside.shape[1], np.float32)
    for i, j, k in np.ndindex(2, 2, 2):
        voxels = array[steps[k, 2], steps[j, 1], steps[i, 0]]
        total += weights[i, 0] * weights[j, 1] * weights[k, 2] * voxels
    values[within] = total
    return values


def _erode(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Return the pixels whose whole disk of that radius is in the mask."""
    reach = int(radius)
    result = mask.copy()
    rows, columns = mask.shape
    padded = np.pad(mask, reach)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            if x * x + y * y <= radius * radius:
                result &= padded[reach + y : reach + y + rows, reach + x : reach + x + columns]
    return result


def _smooth(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the array after two passes of a (1, 2, 1) filter along each axis: rounds off the voxels' edges."""
    for _ in range(2):
        for axis in range(3):
            last = density.shape[axis] - 1
            before = density.take([0, *range(last)], axis=axis)
            after = density.take([*range(1, last + 1), last], axis=axis)
            density = (before + 2 * density + after) * np.float32(0.25)
    return density


def _crop_affine(start: list[int], strides: list[int], *, padding: int) -> NDArray[np.float64]:
    """Return the affine from (i, j, k) of a cropped, strided and padded array to that of the whole one."""
    affine = np.diag([*map(float, reversed(strides)), 1.0])
    affine[:3, 3] = [first - padding * stride for first, stride in zip(reversed(start), reversed(strides), strict=True)]
    return affine


def _first_hit(
    density: NDArray[np.float32],
    start: NDArray[np.float64],
    towards: NDArray[np.float64],
    step_mm: float,
    length_mm: float,
) -> NDArray[np.float64]:
    """Return how far along each ray the density first reaches one half, millimetres; infinite where it never does."""
    depth = np.full(start.shape[1], np.inf)
    # The padding around the labels is empty, so a point outside of the array may stand for the nearest one within.
    # Interpolation, which is slow, is asked only near the surface.
    near = _spread(density >= 0.5)
    width, height = near.shape[2], near.shape[1]
    waiting = np.arange(start.shape[1])
    at = start.astype(np.float32)
    step = (towards * step_mm).astype(np.float32)[:, None]
    for number in range(int(length_mm / step_mm) + 2):
        i, j, k = (
            np.clip(position + 0.5, 0, size - 1).astype(np.int32)
            for position, size in zip(at, near.shape[::-1], strict=True)
        )
        met = near.ravel()[(k * height + j) * width + i]
        met[met] = _interpolate(density, at[:, met], outside=0.0) >= 0.5
        if met.any():
            depth[waiting[met]] = number * step_mm
            waiting, at = waiting[~met], at[:, ~met]
        at += step
    return depth


def _refine(
    density: NDArray[np.float32],
    start: NDArray[np.float64],
    towards: NDArray[np.float64],
    depth: NDArray[np.float64],
    step_mm: float,
) -> NDArray[np.float64]:
    """Return the depths where the interpolated density crosses one half, by halving the last steps."""
    near, far = depth - step_mm, depth
    for _ in range(6):
        middle = (near + far) / 2
        solid = _interpolate(density, start + towards[:, None] * middle, outside=0.0) >= 0.5
        near, far = np.where(solid, near, middle), np.where(solid, middle, far)
    return (near + far) / 2


def _gradient(
    density: NDArray[np.float32], ijk: NDArray[np.float64], to_lps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return unit vectors in LPS towards rising density, (3, n)."""
    slopes = np.empty_like(ijk)
    for axis in range(3):
        offset = np.eye(3)[axis][:, None]
        slopes[axis] = _interpolate(density, ijk + offset, outside=0.0) - _interpolate(
            density, ijk - offset, outside=0.0
        )
    in_lps = np.linalg.inv(to_lps[:3, :3]).T @ slopes
    return in_lps / np.maximum(np.linalg.norm(in_lps, axis=0), 1e-9)


def _spread(labels: np.ndarray) -> np.ndarray:
    """Return the labels grown by a voxel, also across corners: the smoothed surface lies just around its segment."""
    grown = labels
    for axis in range(3):
        grown = np.where(grown == 0, np.maximum(np.roll(grown, 1, axis), np.roll(grown, -1, axis)), grown)
    return grown
