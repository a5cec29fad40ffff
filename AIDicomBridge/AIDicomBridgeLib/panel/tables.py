"""The panel's tables: compact rows, as high as what they hold, hidden while they hold nothing."""

from collections.abc import Sequence
from typing import Any

ROW_HEIGHT = 22
HEADER_HEIGHT = 28
MOST_ROWS_SHOWN = 6  # the rest is scrolled to


def prepare_table(table: Any, column_widths: Sequence[int]) -> None:
    """Set the widths of the first columns; the last takes what is left."""
    table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
    for column, width in enumerate(column_widths):
        table.setColumnWidth(column, width)


def show_rows(table: Any, count: int) -> None:
    """Give a table so many rows and the height for them."""
    table.setRowCount(count)
    table.setFixedHeight(HEADER_HEIGHT + ROW_HEIGHT * min(count, MOST_ROWS_SHOWN))
    table.setVisible(count > 0)
