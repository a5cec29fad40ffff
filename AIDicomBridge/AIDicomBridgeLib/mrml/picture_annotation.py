"""Orientation letters on a finished picture."""

from typing import TYPE_CHECKING

from .picture_views import SliceView, camera_axes

if TYPE_CHECKING:
    from PIL.Image import Image

_LETTER_COLOR = (255, 225, 120)
_AXES = (("L", (1.0, 0.0, 0.0)), ("A", (0.0, -1.0, 0.0)), ("S", (0.0, 0.0, 1.0)))


def draw_edge_letters(picture: "Image", view: SliceView) -> None:
    """Write the patient direction at the middle of each edge of a slice picture."""
    edge, pad = picture.width, picture.width // 40
    places = ((pad, edge / 2, "lm"), (edge - pad, edge / 2, "rm"), (edge / 2, pad, "mt"), (edge / 2, edge - pad, "mb"))
    for letter, (x, y, anchor) in zip(view.letters, places, strict=True):
        _write(picture, (x, y), letter, anchor)


def draw_axes(picture: "Image") -> None:
    """Draw the patient's left, anterior and superior directions in the lower left corner of the 3D picture."""
    from PIL import ImageDraw

    length, origin = picture.width / 14, (picture.width * 0.11, picture.width * 0.89)
    right, down, away = camera_axes()
    draw = ImageDraw.Draw(picture)
    # Far ends first, so that a nearer letter stays on top.
    for letter, direction in sorted(_AXES, key=lambda axis: -sum(a * b for a, b in zip(axis[1], away, strict=True))):
        x, y = (float(sum(a * b for a, b in zip(direction, axis, strict=True))) for axis in (right, down))
        tip = (origin[0] + x * length, origin[1] + y * length)
        draw.line([origin, tip], fill=(150, 150, 150), width=max(2, picture.width // 250))
        _write(picture, (origin[0] + x * length * 1.35, origin[1] + y * length * 1.35), letter, "mm")


def _write(picture: "Image", place: tuple[float, float], text: str, anchor: str) -> None:
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(picture.width // 26)
    ImageDraw.Draw(picture).text(
        place, text, _LETTER_COLOR, font, anchor, stroke_width=max(1, picture.width // 320), stroke_fill=(0, 0, 0)
    )
