"""The connection doctor's findings at one archive, service by service, and what to write to its administrator."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ..pacs.doctor_report import DoctorReport, Verdict
from .availability import set_available
from .tables import HEADER_HEIGHT, prepare_table, show_rows

COLUMN_WIDTHS = (110, 90)
MOST_HEIGHT = 260  # the rest is scrolled to


class DoctorTable:
    """Shows one report in place.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    on_store
        Called when the person wants the doctor to store a test object, too.
    """

    def __init__(self, ui: Any, on_store: Callable[[], None]) -> None:
        self._ui = ui
        self._administrator_text = ""
        self._outcomes = {
            Verdict.WORKS: _("works"),
            Verdict.FAILS: _("does not work"),
            Verdict.NOT_TRIED: _("not tried"),
        }
        prepare_table(ui.doctorTable, COLUMN_WIDTHS)
        ui.copyForAdministratorButton.setToolTip(
            _("Copy a text that tells the archive's administrator who we are and what to change. No patient data.")
        )
        ui.copyForAdministratorButton.connect("clicked()", self._copy)
        ui.storeTestObjectButton.connect("clicked()", on_store)
        ui.closeDoctorButton.connect("clicked()", self.hide)
        self.hide()

    def update(self, *reasons: str) -> None:
        """Enable what can be used now."""
        tip = _("Ask again, and store one tiny picture of the made-up patient AIDICOMBRIDGE-TEST at the archive.")
        set_available(self._ui.storeTestObjectButton, tip, *reasons)

    def show(self, report: DoctorReport) -> None:
        """Show what was found."""
        table = self._ui.doctorTable
        show_rows(table, len(report.lines))
        for row, line in enumerate(report.lines):
            finding = ". ".join(text.rstrip(".") for text in (line.cause, line.advice) if text)
            for column, text in enumerate((line.service, self._outcomes[line.outcome], finding)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        self._administrator_text = report.administrator_text
        self._ui.doctorFrame.setVisible(True)
        table.resizeRowsToContents()  # findings are sentences, and wrap
        table.setFixedHeight(HEADER_HEIGHT + min(table.verticalHeader().length(), MOST_HEIGHT))

    def hide(self) -> None:
        """Show nothing."""
        self._ui.doctorFrame.setVisible(False)

    def _copy(self) -> None:
        qt.QApplication.clipboard().setText(self._administrator_text)
