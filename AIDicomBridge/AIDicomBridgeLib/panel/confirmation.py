"""The one place where a person is asked before something leaves the machine or is thrown away."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ..series.subject import Subject
from .availability import set_available
from .study_tree import iso_date


def subject_lines(subject: Subject) -> list[str]:
    """Return the lines of a question that name patient and study."""
    return [
        _("Patient: {name}, ID {id}, born {birth}").format(
            name=subject.patient_name or "-",
            id=subject.patient_id or "-",
            birth=iso_date(subject.patient_birth_date or "-"),
        ),
        _("Study: {description}, {date}, accession number {accession}").format(
            description=subject.study_description or "-",
            date=iso_date(subject.study_date or "-"),
            accession=subject.accession_number or "-",
        ),
    ]


class Confirmation:
    """A question in place with two buttons. A new question takes the place of the one before.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._answered_yes: Callable[[], None] | None = None
        self._tip = ""
        ui.confirmLabel.setTextFormat(qt.Qt.PlainText)
        ui.declineButton.setToolTip(_("Nothing is done."))
        ui.confirmButton.connect("clicked()", self._confirmed)
        ui.declineButton.connect("clicked()", self.withdraw)
        self.withdraw()

    def ask(self, question: str, yes: str, no: str, tip: str, then: Callable[[], None]) -> None:
        """Show a question; ``then`` is called if it is answered with ``yes``."""
        ui = self._ui
        self._answered_yes, self._tip = then, tip
        ui.confirmLabel.setText(question)
        ui.confirmButton.setText(yes)
        ui.declineButton.setText(no)
        ui.confirmButton.setToolTip(tip)
        ui.confirmGroupBox.setVisible(True)

    def withdraw(self) -> None:
        """Take the question back: it counts as answered with no."""
        self._answered_yes = None
        self._ui.confirmGroupBox.setVisible(False)

    def update(self, busy: str) -> None:
        """Enable the answer yes, or say in ``busy`` why it has to wait."""
        set_available(self._ui.confirmButton, self._tip, busy)

    def _confirmed(self) -> None:
        then = self._answered_yes
        self.withdraw()
        if then is not None:
            then()
