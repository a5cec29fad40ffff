"""What was made but has not yet been proved to have arrived, with another try."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ..delivery.outbox import Delivery
from ..errors import BridgeError, DependencyError, JobCancelled
from ..mrml.slicer_packages import ensure_packages
from ..pacs.endpoint import Endpoint, parse_endpoint
from ..user_folder import user_folder
from .availability import set_available
from .confirmation import Confirmation, subject_lines
from .endpoint_chooser import EndpointChooser
from .saved_endpoints import SavedEndpoints
from .stage_status import StageStatus
from .tables import prepare_table, show_rows
from .task_runner import Call, Flow, Stopped, TaskRunner

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
    confirmation
        Asks before anything goes elsewhere or is thrown away.
    chooser
        Says where "elsewhere" is.
    """

    def __init__(
        self,
        ui: Any,
        runner: TaskRunner,
        saved: SavedEndpoints,
        status: StageStatus,
        confirmation: Confirmation,
        chooser: EndpointChooser,
    ) -> None:
        self._ui, self._runner, self._saved, self._status = ui, runner, saved, status
        self._confirmation, self._chooser = confirmation, chooser
        self._waiting: list[Delivery] = []
        self._stale = False
        prepare_table(ui.outboxTable, COLUMN_WIDTHS)
        ui.outboxTable.connect("itemSelectionChanged()", runner.notify)
        ui.retryButton.connect("clicked()", lambda: runner.start(self._ask_retry_flow(self._chosen())))
        ui.redirectButton.connect("clicked()", lambda: runner.start(self._ask_redirect_flow(self._chosen())))
        ui.discardButton.connect("clicked()", lambda: self._ask_discard(self._chosen()))
        self._show()

    @staticmethod
    def folder() -> Path:
        """Return where the outbox lies; DependencyError if that cannot be told yet."""
        return user_folder() / "outbox"

    def update(self, busy: str) -> None:
        """Enable what can be used now; ``busy`` says why nothing can be started, or is empty."""
        ui = self._ui
        empty = "" if self._waiting else _("Nothing is waiting.")
        chosen = _("What is selected in the list; everything where nothing is.")
        again = _("Send it again, once you have confirmed whose it is; what has arrived already is not sent twice.")
        set_available(ui.retryButton, f"{again} {chosen}", busy, empty)
        endpoint = self._chooser.endpoint
        name = endpoint.name if endpoint else ""
        elsewhere = _("Send it to the destination chosen above, {name}, instead.").format(name=name)
        set_available(ui.redirectButton, f"{elsewhere} {chosen}", busy, empty, self._chooser.missing)
        away = _("Throw it away; you are asked first.")
        set_available(ui.discardButton, f"{away} {chosen}", busy, empty)
        if self._stale and not busy:
            self.look()

    def expect_changes(self) -> None:
        """Note that a flow is about to change the outbox: if it is cut off, what it left is listed all the same."""
        self._stale = True

    def look(self) -> None:
        """List what an earlier session has left, if there is an outbox at all."""
        left, self._stale = self._stale, False  # once: a failure is shown, not tried again and again
        try:
            present = (self.folder() / "journal.sqlite").is_file()
        except DependencyError:
            return
        if present and not self._runner.busy:
            self._runner.start(self._look_flow(left))

    def refresh_flow(self) -> Flow:
        """Ask the worker what waits, and list it."""
        self._waiting = yield Call("outbox", outbox_folder=self.folder())
        self._stale = False
        self._show()

    def _look_flow(self, left: bool) -> Flow:
        try:
            with self._status.working():
                yield from self.refresh_flow()
        except BridgeError as error:
            self._status.fail(error)
            raise
        except Stopped:
            self._stale = left  # the scene was closed just now: what a flow has left is still to be listed
            raise
        except JobCancelled:
            self._status.add(_("Whether objects wait in the outbox was not found out; open the module anew to look."))
            raise
        if left and self._waiting:
            self._status.add(
                _("{count} objects wait in the outbox; remove them there if they must not be sent.").format(
                    count=len(self._waiting)
                )
            )

    def _chosen(self) -> list[Delivery]:
        """Return what is selected in the table, else all."""
        rows = sorted({item.row() for item in self._ui.outboxTable.selectedItems()})
        return [self._waiting[row] for row in rows] or list(self._waiting)

    def _ask_retry_flow(self, chosen: list[Delivery]) -> Flow:
        with self._status.running(_("Looking at what waits...")):
            addresses = dict.fromkeys(delivery.destination for delivery in chosen)
            places = [parse_endpoint(address) for address in addresses]
        yield from self._ask_flow(
            chosen,
            [_("Objects: {count}").format(count=len(chosen)), *(_place(_("Destination"), place) for place in places)],
            then=lambda: self._runner.start(self._retry_flow(chosen)),
        )

    def _retry_flow(self, chosen: list[Delivery]) -> Flow:
        with self._status.running(_("Sending what waits in the outbox...")):
            self.expect_changes()
            arrived, errors = yield from self._deliver_flow(chosen)
            yield from self.refresh_flow()
        self._conclude(arrived, len(chosen), errors)

    def _deliver_flow(self, chosen: list[Delivery]) -> Flow:
        ensure_packages("pynetdicom", "platformdirs")
        arrived, errors = 0, []
        for address in dict.fromkeys(delivery.destination for delivery in chosen):
            endpoint = self._saved.with_credentials(parse_endpoint(address))
            uids = [delivery.sop_instance_uid for delivery in chosen if delivery.destination == address]
            report = yield Call("deliver", endpoint=endpoint, outbox_folder=self.folder(), only=uids)
            arrived += len(report.receipts)
            errors += [str(report.error)] if report.error else [d.reason for d in report.remaining if d.reason]
        return arrived, errors

    def _conclude(self, arrived: int, wanted: int, errors: list[str]) -> None:
        if arrived < wanted:
            sentence = _("{arrived} objects have arrived; {left} still wait.").format(
                arrived=arrived, left=wanted - arrived
            )
            self._status.warn(f"{sentence} {errors[0] if errors else ''}".strip(), "\n".join(errors))
        elif self._waiting:
            self._status.say(
                _("{arrived} objects have arrived; others still wait in the outbox.").format(arrived=arrived)
            )
        else:
            self._status.say(_("{arrived} objects have arrived; the outbox is empty.").format(arrived=arrived))

    def _ask_redirect_flow(self, chosen: list[Delivery]) -> Flow:
        with self._status.running(_("Looking at what waits...")):
            endpoint = self._chooser.connectable()
        names = ", ".join(dict.fromkeys(_name(delivery.destination) for delivery in chosen))
        yield from self._ask_flow(
            chosen,
            [
                _("{count} objects that wait for: {names}").format(count=len(chosen), names=names),
                _place(_("Destination instead"), endpoint),
            ],
            then=lambda: self._runner.start(self._redirect_flow(chosen, endpoint)),
        )

    def _ask_flow(self, chosen: list[Delivery], lines: list[str], then: Callable[[], None]) -> Flow:
        """Ask whether what waits shall be sent, with its patients and studies as its files have them."""
        with self._status.running(_("Looking at what waits...")):
            subjects = yield Call("subjects", files=[delivery.path for delivery in chosen])
        self._status.clear()
        whose = [line for subject in subjects for line in subject_lines(subject)]
        self._confirmation.ask(
            "\n".join([*whose, *lines]),
            *(_("Send now"), _("Do not send"), _("Send exactly this.")),
            then=then,
        )

    def _redirect_flow(self, chosen: list[Delivery], endpoint: Endpoint) -> Flow:
        with self._status.running(_("Sending to another destination...")):
            self.expect_changes()
            ids = [delivery.id for delivery in chosen]
            yield Call("redirect", ids=ids, endpoint=endpoint, outbox_folder=self.folder())
            moved = [replace(delivery, destination=endpoint.address) for delivery in chosen]
            arrived, errors = yield from self._deliver_flow(moved)
            yield from self.refresh_flow()
        self._conclude(arrived, len(chosen), errors)

    def _ask_discard(self, chosen: list[Delivery]) -> None:
        names = ", ".join(dict.fromkeys(_name(delivery.destination) for delivery in chosen))
        self._confirmation.ask(
            _("Objects to throw away: {count}. They have not arrived at {names} and are kept nowhere else.").format(
                count=len(chosen), names=names
            ),
            *(_("Remove"), _("Keep"), _("They cannot be brought back.")),
            then=lambda: self._runner.start(self._discard_flow(chosen)),
        )

    def _discard_flow(self, chosen: list[Delivery]) -> Flow:
        with self._status.running(_("Removing from the outbox...")):
            self.expect_changes()
            yield Call("discard", ids=[delivery.id for delivery in chosen], outbox_folder=self.folder())
            yield from self.refresh_flow()
        self._status.say(_("Removed from the outbox: {count} objects.").format(count=len(chosen)))

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


def _place(title: str, endpoint: Endpoint) -> str:
    return f"{title}: {endpoint.name}\n    {endpoint.address.partition('?')[0]}"


def _name(address: str) -> str:
    try:
        return parse_endpoint(address).name
    except BridgeError:  # written by another version: shown as it is
        return address
