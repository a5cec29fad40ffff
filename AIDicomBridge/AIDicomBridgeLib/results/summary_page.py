"""One page for people: title, table of measurements, key slices. No patient data is drawn."""

from collections.abc import Sequence

import numpy as np

from .measurements import SegmentMeasurements
from .segment_description import display_color

_WIDTH = 1200  # pixels
_MARGIN = 30
_LINE = 26
_TEXT, _TITLE = 18, 30  # font sizes
_GREY, _WHITE, _BLACK = (150, 150, 150), (255, 255, 255), (0, 0, 0)
_MOST_ROWS = 100
# Where the columns end; numbers stand at their right.
_COLUMNS = (("Segment", 70), ("Volume", 560), ("Surface", 720), ("Diameter", 860), ("Mean", 980), ("SD", 1080))


def draw_summary(
    title: str, remarks: Sequence[str], measurements: Sequence[SegmentMeasurements], pictures: Sequence[np.ndarray]
) -> np.ndarray:
    """Draw the page.

    Parameters
    ----------
    remarks
        Lines below the title.
    measurements
        One row each; of more than 100 the rest is counted.
    pictures
        One or more, (row, column, RGB) uint8 of one size; set side by side at the bottom.

    Returns
    -------
    ndarray
        (row, column, RGB) uint8, 1200 columns wide, as high as needed.
    """
    from PIL import Image, ImageDraw, ImageFont

    width = (_WIDTH - 2 * _MARGIN) // len(pictures)
    scale = min(width / pictures[0].shape[1], _WIDTH / 2 / pictures[0].shape[0])
    shown = [
        Image.fromarray(picture).resize(
            (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)), Image.Resampling.LANCZOS
        )
        for picture in pictures
    ]
    rows = measurements[:_MOST_ROWS]
    table_top = _MARGIN + 50 + _LINE * len(remarks) + 20
    pictures_top = table_top + _LINE * (len(rows) + 3)
    page = Image.new("RGB", (_WIDTH, pictures_top + shown[0].height + _MARGIN), _BLACK)
    draw = ImageDraw.Draw(page)
    font, large = ImageFont.load_default(size=_TEXT), ImageFont.load_default(size=_TITLE)
    draw.text((_MARGIN, _MARGIN), title, fill=_WHITE, font=large)
    for number, remark in enumerate(remarks):
        draw.text((_MARGIN, _MARGIN + 50 + number * _LINE), remark, fill=_WHITE, font=font)

    def write_row(y: int, cells: Sequence[str], color: tuple[int, int, int]) -> None:
        for (_, x), cell in zip(_COLUMNS, cells, strict=True):
            draw.text((x, y), cell, fill=color, font=font, anchor="la" if x == _COLUMNS[0][1] else "ra")

    unit = next((item.intensity_unit.value for item in rows if item.intensity_unit), "")
    write_row(table_top, [name for name, _ in _COLUMNS], _GREY)
    write_row(table_top + _LINE, ["", "ml", "mm2", "mm", _readable(unit), _readable(unit)], _GREY)
    for number, item in enumerate(rows):
        y = table_top + (number + 2) * _LINE
        draw.rectangle((_MARGIN, y + 2, _MARGIN + 18, y + 20), fill=display_color(item.segment))
        write_row(y, _cells(item), _WHITE)
    if len(measurements) > len(rows):
        draw.text((_MARGIN, pictures_top - _LINE), f"and {len(measurements) - len(rows)} more", fill=_WHITE, font=font)
    for number, picture in enumerate(shown):
        page.paste(picture, (_MARGIN + number * width, pictures_top))
    return np.asarray(page).copy()


def _cells(item: SegmentMeasurements) -> list[str]:
    name = item.segment.name if len(item.segment.name) <= 40 else item.segment.name[:39] + "…"
    return [
        name,
        f"{item.volume_ml:,.1f}",
        _number(item.surface_area_mm2, ",.0f"),
        _number(item.longest_diameter_mm, ",.0f"),
        _number(item.mean, ",.1f"),
        _number(item.standard_deviation, ",.1f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _readable(unit: str) -> str:
    """Return a unit as people write it."""
    return {"[hnsf'U]": "HU", "1": ""}.get(unit, unit.partition("{")[0] or unit.strip("{}"))
