"""Commands on the outbox: what waits, and sending it again."""

from typing import Annotated

import typer

from ..delivery.deliver import DeliveryReport, deliver
from ..delivery.outbox import Delivery, Outbox, Receipt
from ..errors import BridgeError
from ..user_folder import user_folder
from .archive_commands import endpoint_from
from .command import Command, JsonOption, running

app = typer.Typer(
    no_args_is_help=True, help="Results on their way: they stay until the destination shows that it holds them."
)


@app.command("list")
def list_deliveries(
    receipts: Annotated[bool, typer.Option("--receipts", help="List what has arrived instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the results that have not arrived yet, with the reason."""
    with running("outbox list", as_json) as command:
        outbox = Outbox(user_folder() / "outbox")
        if receipts:
            _show_receipts(command, outbox.receipts())
        else:
            _show_waiting(command, outbox.deliveries())


def _show_receipts(command: Command, receipts: list[Receipt]) -> None:
    command.answer["receipts"] = [vars(receipt) for receipt in receipts]
    rows = [(r.verified, r.destination, r.proof, r.note, r.sop_instance_uid) for r in receipts]
    command.show_table(("Verified", "Destination", "Proof", "Note", "SOP Instance UID"), rows)


def _show_waiting(command: Command, waiting: list[Delivery]) -> None:
    command.answer["waiting"] = [{**vars(d), "state": d.state.value, "path": str(d.path)} for d in waiting]
    if not waiting:
        command.say("The outbox is empty.")
        return
    rows = [(d.created, d.destination, d.state.value, str(d.attempts), d.reason, d.sop_instance_uid) for d in waiting]
    command.show_table(("Created", "Destination", "State", "Attempts", "Reason", "SOP Instance UID"), rows)


@app.command("retry")
def retry(
    to: Annotated[str | None, typer.Option(help="Only what waits for this endpoint.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send what waits once more. What the destination already holds is not sent again; nothing is doubled."""
    with running("outbox retry", as_json) as command:
        outbox = Outbox(user_folder() / "outbox")
        wanted = endpoint_from(to).address if to else None
        destinations = sorted({delivery.destination for delivery in outbox.deliveries(wanted)})
        reports = [
            deliver(outbox, endpoint_from(address), progress=command.progress, cancel=command.cancel)
            for address in destinations
        ]
        command.answer["deliveries"] = [report.to_dict() for report in reports]
        for report in reports:
            show_delivery(command, report)
        if not destinations:
            command.say("Nothing waits in the outbox.")
        if reports and not any(report.receipts for report in reports):
            raise next((r.error for r in reports if r.error), BridgeError("nothing was delivered"))


def show_delivery(command: Command, delivery: DeliveryReport) -> None:
    """Say what arrived at one destination and list what did not; what did not makes the command's answer partial."""
    compared = sum(receipt.proof == "compared" for receipt in delivery.receipts)
    command.say(
        f"{len(delivery.receipts)} objects arrived at {delivery.destination}; "
        f"{compared} of them were fetched back and compared."
    )
    for note in sorted({receipt.note for receipt in delivery.receipts if receipt.note}):
        command.say(f"Note: {note}.")
    if delivery.remaining:
        rows = [(d.state.value, d.status, d.reason, d.sop_instance_uid) for d in delivery.remaining]
        command.show_table(("State", "Status", "Reason", "SOP Instance UID"), rows)
        why = f" {delivery.error}" if delivery.error else ""
        command.partial(
            f"{len(delivery.remaining)} objects wait in the outbox.{why} "
            "Send them again with: aidicombridge outbox retry"
        )
