"""A slice as a colour picture: the image in its window, the segments' outlines, and a legend without patient data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .labels import Segment
from .segment_description import display_color

SMALLEST_LONGER_SIDE = 512  # pixels; below, text and outlines are not readable
LARGEST_SIDE = 2048  # pixels; thick slices of a reformatted series would grow without end
_LINE_WIDTH = 2
_MARGIN = 6


@dataclass(frozen=True)
class PictureSize:
    """Size of a picture and of its square pixels."""

    rows: int
    columns: int
    pixel_mm: float

    @classmethod
    def for_slice(cls, rows: int, columns: int, spacing_mm: tuple[float, float]) -> "PictureSize":
        """Return the size in which a slice is drawn: square pixels, no smaller than the source's, readable.

        Parameters
        ----------
        rows, columns
            Of the slice.
        spacing_mm
            Between rows (j) and between columns (i).
        """
        height_mm, width_mm = rows * spacing_mm[0], columns * spacing_mm[1]
        longer_mm = max(height_mm, width_mm)
        pixel_mm = max(min(*spacing_mm, longer_mm / SMALLEST_LONGER_SIDE), longer_mm / LARGEST_SIDE)
        return cls(max(round(height_mm / pixel_mm), 1), max(round(width_mm / pixel_mm), 1), pixel_mm)


def draw_overlay(
    voxels: np.ndarray,
    labels: np.ndarray,
    segments: Sequence[Segment],
    *,
    size: PictureSize,
    window: tuple[float, float],
    remarks: Sequence[str] = (),
    orientation: tuple[str, str] = ("", ""),
    low_is_white: bool = False,
) -> np.ndarray:
    """Draw one slice.

    Parameters
    ----------
    voxels, labels
        (j, i), the same grid.
    segments
        Those that may occur; the legend names the ones that do.
    window
        Center and width, in the unit of the voxels.
    remarks
        Lines for the upper left corner.
    orientation
        Directions of the rows and of the columns as DICOM letters; their opposites are written at the left and top.
    low_is_white
        As a source of MONOCHROME1 is shown.

    Returns
    -------
    ndarray
        (row, column, RGB) uint8, a new array.
    """
    from PIL import Image

    low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    grey = np.clip((voxels.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    if low_is_white:
        grey = 255 - grey
    picture = np.array(
        Image.fromarray(grey).resize((size.columns, size.rows), Image.Resampling.BILINEAR).convert("RGB")
    )
    outlines = outline(_enlarged(labels, size))
    found = set(np.flatnonzero(np.bincount(labels.ravel())).tolist())
    present = [segment for segment in segments if segment.label in found]
    for segment in present:
        picture[outlines == segment.label] = display_color(segment)
    return _annotated(picture, present, remarks, orientation)


def outline(labels: np.ndarray) -> np.ndarray:
    """Return the labels within two pixels of another label or of the edge, 0 elsewhere; (j, i), a new array."""
    padded = np.pad(labels, _LINE_WIDTH)
    rows, columns = labels.shape
    inner = np.ones(labels.shape, bool)
    for step in range(1, _LINE_WIDTH + 1):
        for j, i in ((-step, 0), (step, 0), (0, -step), (0, step)):
            inner &= labels == padded[_LINE_WIDTH + j :, _LINE_WIDTH + i :][:rows, :columns]
    return np.where(inner, 0, labels)


def _enlarged(labels: np.ndarray, size: PictureSize) -> np.ndarray:
    """Return the labels in the picture's size; nearest voxel, pixel centres as in Pillow's resize."""
    rows = ((np.arange(size.rows) + 0.5) * labels.shape[0] / size.rows).astype(int)
    columns = ((np.arange(size.columns) + 0.5) * labels.shape[1] / size.columns).astype(int)
    return labels[rows[:, None], columns]


def _annotated(
    picture: np.ndarray, present: Sequence[Segment], remarks: Sequence[str], orientation: tuple[str, str]
) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    height = max(12, max(image.size) // 40)
    font = ImageFont.load_default(size=height)
    white, line = (255, 255, 255), round(height * 1.3)

    def write(x: float, y: float, text: str, color: tuple[int, int, int], anchor: str = "la") -> None:
        draw.text((x, y), text, fill=color, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))

    for number, remark in enumerate(remarks):
        write(_MARGIN, _MARGIN + number * line, remark, white)
    write(_MARGIN, image.height / 2, opposite(orientation[0]), white, "lm")
    write(image.width / 2, _MARGIN, opposite(orientation[1]), white, "ma")
    room = max((image.height // 2) // line, 1)  # the legend takes the lower half at most
    entries = [(segment.name, display_color(segment)) for segment in present]
    if len(entries) > room:
        entries = [*entries[: room - 1], (f"and {len(entries) - room + 1} more", white)]
    for number, (name, color) in enumerate(entries):
        y = image.height - _MARGIN - (len(entries) - number) * line
        draw.rectangle((_MARGIN, y + 1, _MARGIN + height, y + 1 + height), fill=color, outline=(0, 0, 0))
        write(_MARGIN + height + 5, y, name, white)
    return np.asarray(image).copy()


def patient_orientation(ijk_to_lps: np.ndarray) -> tuple[str, str]:
    """Return Patient Orientation (PS3.3 C.7.6.1.1.1): the directions of rows (i) and of columns (j) as letters.

    Letters come by the size of their share; shares below 10 degrees off a plane are left out.
    """
    return _letters(ijk_to_lps[:3, 0]), _letters(ijk_to_lps[:3, 1])


def _letters(direction: np.ndarray) -> str:
    unit = direction / np.linalg.norm(direction)
    axes = sorted(range(3), key=lambda axis: -abs(unit[axis]))
    return "".join("LPH"[axis] if unit[axis] > 0 else "RAF"[axis] for axis in axes if abs(unit[axis]) > np.sin(0.17))


def opposite(letters: str) -> str:
    """Return the opposite direction: ``RA`` for ``LP``."""
    return letters.translate(str.maketrans("LRPAHF", "RLAPFH"))
