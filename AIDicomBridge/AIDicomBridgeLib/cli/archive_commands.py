"""Commands that talk to a PACS: echo, doctor, get, send."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BridgeError, NotFoundError, UnreachableError
from ..pacs.client import connect
from ..pacs.doctor import diagnose
from ..pacs.endpoint import Endpoint, parse_endpoint
from ..pacs.records import RetrieveReport, TransferReport, count_outcomes
from ..pacs.saved_endpoints import SavedEndpoints
from ..series.dicom_file import is_part10_file
from ..series.instance_store import InstanceStore
from .command import Command, JsonOption, running
from .progress_lines import counted

EndpointArgument = Annotated[
    str,
    typer.Argument(
        help="dimse://AETITLE@host:port, https://host/dicom-web, or a saved name",
        metavar="ENDPOINT",
        show_default=False,
    ),
]
StudyOption = Annotated[str, typer.Option("--study", help="Study Instance UID.", metavar="UID", show_default=False)]


def endpoint_from(text: str) -> Endpoint:
    """Return the endpoint that a person typed, with the credentials of the environment, or those kept for it."""
    endpoint = parse_endpoint(text, environ=os.environ)
    return endpoint if endpoint.auth is not None else SavedEndpoints.default().with_secret(endpoint)


def echo(endpoint: EndpointArgument, as_json: JsonOption = False) -> None:
    """Prove that a PACS answers: C-ECHO for DIMSE, an empty query for DICOMweb."""
    with running("echo", as_json) as command:
        target = endpoint_from(endpoint)
        with connect(target) as client:
            client.verify()
        command.answer["endpoint"] = target.address
        command.say(f"{target.name} answers.")


def doctor(
    endpoint: EndpointArgument,
    study: Annotated[str | None, typer.Option(help="Study Instance UID to try the retrieval with.")] = None,
    store_test_object: Annotated[
        bool, typer.Option("--store-test-object", help="Also store one tiny object of the patient AIDICOMBRIDGE-TEST.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try every service of a PACS, and write down what to send to its administrator where one does not work."""
    with running("doctor", as_json) as command:
        done = diagnose(
            endpoint_from(endpoint), study_uid=study, store_test_object=store_test_object, cancel=command.cancel
        )
        command.answer |= done.to_dict()
        rows = [(line.service, line.outcome.value, line.cause, line.advice) for line in done.lines]
        command.show_table(("Service", "Outcome", "Cause", "Advice"), rows)
        command.say(f"For the PACS administrator:\n{done.administrator_text}")
        if not done.reachable:
            raise UnreachableError(done.lines[0].cause, peer=done.peer, advice=done.lines[0].advice)
        if not done.healthy:
            command.partial("Not everything that was tried works.")


def get(
    endpoint: EndpointArgument,
    study: StudyOption,
    out: Annotated[Path, typer.Option(help="Folder for the instances; created.", show_default=False)],
    series: Annotated[str | None, typer.Option(help="Series Instance UID; the whole study where not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Retrieve a study or series into a folder and count it against the PACS's own list.

    The folder holds the files as received, under names that carry no patient data, and an index of them. What is
    there already is not fetched again.
    """
    with running("get", as_json) as command, connect(endpoint_from(endpoint)) as client:
        if not client.find_series(
            study, series_uid=series, cancel=command.cancel
        ):  # asked before anything is made on disk
            advice = "Look it up with 'aidicombridge find'."
            raise NotFoundError(
                "no such study or series", uid=series or study, peer=client.endpoint.name, advice=advice
            )
        with InstanceStore(out) as store:
            done = client.retrieve(study, series, into=store, progress=command.progress, cancel=command.cancel)
        _answer_transfer(command, done)
        command.answer["folder"] = str(out)
        how = done.method or "all were there already"
        command.say(f"In {out}: {len(done.succeeded)} of {counted(len(done.outcomes), 'instance')} ({how}).")


def send(
    endpoint: EndpointArgument,
    files: Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Store DICOM files at a PACS; every instance gets its own outcome."""
    with running("send", as_json) as command, connect(endpoint_from(endpoint)) as client:
        paths = [path for given in files for path in _files_of(given)]
        if not paths:
            raise NotFoundError("there are no files to send")
        done = client.store(paths, progress=command.progress, cancel=command.cancel)
        _answer_transfer(command, done)
        stored = f"{len(done.succeeded)} of {counted(len(done.outcomes), 'instance')}"
        command.say(f"Stored at {done.peer}: {stored} ({done.method}).")


def _files_of(given: Path) -> list[Path]:
    if not given.exists():
        raise NotFoundError(f"the file or folder {given} does not exist")
    if given.is_file():
        return [given]
    # A damaged *.dcm is sent along to be refused by name; other files, a DICOMDIR among them, are passed over.
    found = (path for path in given.rglob("*") if path.is_file())
    return sorted(path for path in found if is_part10_file(path) or path.suffix.lower() == ".dcm")


def _answer_transfer(command: Command, done: TransferReport) -> None:
    """Put a transfer into the answer; instances that failed are listed, and make it partial or failed."""
    command.answer |= transfer_to_dict(done)
    if done.failed:
        rows = [(o.sop_instance_uid, o.outcome.value, o.status, o.reason) for o in done.failed[:20]]
        command.show_table(("SOP Instance UID", "Outcome", "Status", "Reason"), rows)
        if not done.succeeded:
            raise BridgeError(
                f"nothing of {counted(len(done.outcomes), 'instance')} was transferred: "
                f"{done.failed[0].reason or 'no reason given'}",
                peer=done.peer,
                status=done.failed[0].status or None,
            )
        command.partial(f"Missing: {counted(len(done.failed), 'instance')}.")
    if isinstance(done, RetrieveReport) and done.unlisted:
        command.partial(f"The PACS counts {counted(done.unlisted, 'instance')} more than it lists; ask for its log.")


def transfer_to_dict(done: TransferReport) -> dict[str, Any]:
    """Return a transfer as plain values for ``--json``."""
    return {
        "peer": done.peer,
        "method": done.method,
        "seconds": round(done.seconds, 3),
        "bytes": done.byte_count,
        "counts": count_outcomes(done.outcomes),
        **({"unlisted": done.unlisted} if isinstance(done, RetrieveReport) else {}),
        "instances": [
            {"sop_instance_uid": o.sop_instance_uid, "outcome": o.outcome.value, "status": o.status, "reason": o.reason}
            for o in done.outcomes
        ],
    }
