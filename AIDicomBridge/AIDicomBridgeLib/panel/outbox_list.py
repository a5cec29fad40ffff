"""What was made but has not yet been proved to have arrived, with another try."""

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ..delivery.outbox import Delivery
from ..errors import BridgeError, DependencyError
from ..mrml.slicer_packages import ensure_packages
from ..pacs.endpoint import parse_endpoint
from ..user_folder import user_folder
from .availability import set_available
from .saved_endpoints import SavedEndpoints
from .stage_status import StageStatus
from .tables import prepare_table, show_rows
from .task_runner import Call, Flow, TaskRunner

_KIND_OF_SOP_CLASS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.7": "SC",
}
_SR_PREFIX = "1.2.840.10008.5.1.4.1.1.88."
COLUMN_WIDTHS = (50, 130, 65, 45)


class OutboxList:
    """The person's outbox, which the command line shares.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    status
        Of the stage that the list belongs to.
    """

    def __init__(self, ui: Any, runner: TaskRunner, saved: SavedEndpoints, status: StageStatus) -> None:
        self._ui, self._runner, self._saved, self._status = ui, runner, saved, status
        self._waiting: list[Delivery] = []
        self._stale = False
        prepare_table(ui.outboxTable, COLUMN_WIDTHS)
        ui.retryButton.connect("clicked()", lambda: runner.start(self._retry_flow()))
        self._show()

    @staticmethod
    def folder() -> Path:
        """Return where the outbox lies; DependencyError if that cannot be told yet."""
        return user_folder() / "outbox"

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        empty = "" if self._waiting else _("Nothing is waiting.")
        tip = _("Send everything in the outbox again; what has arrived already is not sent twice.")
        set_available(self._ui.retryButton, tip, busy, empty)
        if self._stale and not busy:
            self.look()

    def expect_changes(self) -> None:
        """Note that a flow is about to change the outbox: if it is cut off, what it left is listed all the same."""
        self._stale = True

    def look(self) -> None:
        """List what an earlier session has left, if there is an outbox at all."""
        self._stale = False  # once: a failure is shown, not tried again and again
        try:
            present = (self.folder() / "journal.sqlite").is_file()
        except DependencyError:
            return
        if present and not self._runner.busy:
            self._runner.start(self._look_flow())

    def refresh_flow(self) -> Flow:
        """Ask the worker what waits, and list it."""
        self._waiting = yield Call("outbox", outbox_folder=self.folder())
        self._stale = False
        self._show()

    def _look_flow(self) -> Flow:
        try:
            yield from self.refresh_flow()
        except BridgeError as error:
            self._status.fail(error)
            raise

    def _retry_flow(self) -> Flow:
        arrived, errors = 0, []
        with self._status.running(_("Sending what waits in the outbox...")):
            ensure_packages("pynetdicom", "platformdirs")
            self.expect_changes()
            for address in dict.fromkeys(delivery.destination for delivery in self._waiting):
                endpoint = self._saved.with_credentials(parse_endpoint(address))
                report = yield Call("deliver", endpoint=endpoint, outbox_folder=self.folder())
                arrived += len(report.receipts)
                errors += [str(report.error)] if report.error else [d.reason for d in report.remaining if d.reason]
            yield from self.refresh_flow()
        if self._waiting:
            sentence = _("{arrived} objects have arrived; {left} still wait.").format(
                arrived=arrived, left=len(self._waiting)
            )
            self._status.warn(f"{sentence} {errors[0] if errors else ''}".strip(), "\n".join(errors))
        else:
            self._status.say(_("{arrived} objects have arrived; the outbox is empty.").format(arrived=arrived))

    def _show(self) -> None:
        table = self._ui.outboxTable
        show_rows(table, len(self._waiting))
        for row, delivery in enumerate(self._waiting):
            cells = (
                _kind(delivery.sop_class_uid),
                _name(delivery.destination),
                delivery.state.value,
                str(delivery.attempts),
                f"{delivery.reason} {delivery.status}".strip() or "-",
            )
            for column, text in enumerate(cells):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        self._ui.outboxGroupBox.setVisible(bool(self._waiting))


def _kind(sop_class_uid: str) -> str:
    return "SR" if sop_class_uid.startswith(_SR_PREFIX) else _KIND_OF_SOP_CLASS.get(sop_class_uid, sop_class_uid)


def _name(address: str) -> str:
    try:
        return parse_endpoint(address).name
    except BridgeError:  # written by another version: shown as it is
        return address
