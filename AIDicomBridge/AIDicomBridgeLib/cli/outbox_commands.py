"""Commands on the outbox: what waits, and sending it again."""

from collections.abc import Sequence
from typing import Annotated

import typer

from ..delivery.deliver import DeliveryReport, deliver
from ..delivery.outbox import Delivery, Outbox, Receipt
from ..user_folder import user_folder
from .archive_commands import endpoint_from
from .command import Command, JsonOption, running
from .progress_lines import counted

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
    if not receipts:
        command.say("There are no receipts yet. The demonstration keeps its own, in its folder.")
        return
    rows = [(r.verified, r.destination, r.proof, r.note, r.sop_instance_uid) for r in receipts]
    command.show_table(("Verified", "Destination", "Proof", "Note", "SOP Instance UID"), rows)


def _show_waiting(command: Command, waiting: list[Delivery]) -> None:
    command.answer["waiting"] = [{**vars(d), "state": d.state.value, "path": str(d.path)} for d in waiting]
    if waiting:
        show_remaining(command, waiting)
    else:
        command.say("The outbox is empty.")


@app.command("retry")
def retry(
    to: Annotated[str | None, typer.Option(help="Only what waits for this endpoint.")] = None,
    instead: Annotated[
        str | None, typer.Option(help="Send what waits for --to to this endpoint instead, e.g. after a wrong AE title.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send what waits once more. What the destination already holds is not sent again; nothing is doubled."""
    if instead and not to:
        raise typer.BadParameter("say with --to which destination is replaced", param_hint="--instead")
    with running("outbox retry", as_json) as command:
        outbox = Outbox(user_folder() / "outbox")
        wanted = endpoint_from(to).address if to else None
        if instead:
            outbox.redirect(outbox.deliveries(wanted), endpoint_from(instead).address)
            wanted = endpoint_from(instead).address
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


def show_delivery(command: Command, delivery: DeliveryReport) -> None:
    """Say what arrived at one destination and list what did not; what did not makes the command's answer partial."""
    compared = sum(receipt.proof == "compared" for receipt in delivery.receipts)
    if delivery.receipts:
        command.say(
            f"{counted(len(delivery.receipts), 'object')} arrived at {delivery.destination}; "
            f"fetched back and compared: {compared}."
        )
    for note in sorted({receipt.note for receipt in delivery.receipts if receipt.note}):
        command.say(f"Note: {note}.")
    if delivery.remaining:
        show_remaining(command, delivery.remaining)
        why = f" {delivery.error}" if delivery.error else ""
        command.partial(
            f"In the outbox: {counted(len(delivery.remaining), 'object')}.{why} "
            "Send what waits again with: aidicombridge outbox retry"
        )


def show_remaining(command: Command, deliveries: Sequence[Delivery]) -> None:
    """Print a row for all that waits for one destination for one reason; ``--json`` has every object."""
    groups: dict[tuple[str, ...], list[Delivery]] = {}
    for d in deliveries:
        groups.setdefault((d.destination, d.state.value, d.status, d.reason, d.study_uid), []).append(d)
    rows = [
        (str(len(group)), min(d.created for d in group), str(max(d.attempts for d in group)), *key)
        for key, group in groups.items()
    ]
    columns = ("Objects", "Since", "Attempts", "Destination", "State", "Status", "Reason", "Study UID")
    command.show_table(columns, rows)
