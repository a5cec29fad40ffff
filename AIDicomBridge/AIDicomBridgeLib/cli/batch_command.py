"""The command batch: one job for every row of a worklist, taken up again where it was left."""

import time
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from ..delivery.outbox import Outbox
from ..errors import BridgeError, QueryError
from ..job import Job, JobReport, run_job
from ..pacs.client import connect
from ..user_folder import user_folder
from .archive_commands import endpoint_from
from .command import Command, JsonOption, running
from .progress_lines import counted
from .worklist import BatchJob, ResultFile, WorklistRow, read_batch_job, read_worklist


def batch(
    worklist: Annotated[
        Path,
        typer.Argument(
            help="CSV file with any of the columns study_uid, series_uid, accession_number, patient_id.",
            metavar="WORKLIST.csv",
            show_default=False,
        ),
    ],
    job: Annotated[
        Path,
        typer.Option(
            help="TOML file: source, model, and to or out; also outputs, encodings, profile, device, stack, resample, "
            "suv, any_body_part, series_description.",
            metavar="JOB.toml",
            show_default=False,
        ),
    ],
    results: Annotated[
        Path | None,
        typer.Option(help="File for what became of each row; beside the worklist where not given.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Do the same job for every row of a worklist: pull, segment, push, verify.

    A row that fails does not stop the others. What became of each is written to the results file; the same command
    again does only the rows that are not done yet.
    """
    with running("batch", as_json) as command:
        rows = read_worklist(worklist)
        plan = read_batch_job(job, endpoint_from)
        if plan.template.destinations:
            plan = replace(plan, template=replace(plan.template, outbox=Outbox(user_folder() / "outbox")))
        written = ResultFile(results or worklist.with_suffix(".results.jsonl"), plan.digest)
        command.answer |= {"results_file": str(written.path), "counts": {}, "rows": []}
        counts: Counter[str] = Counter()
        for number, row in enumerate(rows, start=1):
            entry = _do_row(command, plan, row, written)
            counts[entry["status"]] += 1
            command.answer["counts"] = dict(counts)
            command.answer["rows"].append(entry)
            command.say(f"{number} of {len(rows)}, line {row.line}: {_sentence(entry)}")
        _end(command, counts, len(rows))


def _do_row(command: Command, plan: BatchJob, row: WorklistRow, written: ResultFile) -> dict[str, Any]:
    """Work on one row and return what became of it; only a cancel is raised."""
    started = time.monotonic()
    entry: dict[str, Any] = {"line": row.line, "study_uid": row.study_uid, "asked_series_uid": row.series_uid}
    try:
        entry["study_uid"] = _find_study(command, plan.template, row)
        if written.is_finished(entry["study_uid"], row.series_uid):
            return {**entry, "status": "skipped"}
        out = _free_folder(plan.out, row.line) if plan.out is not None else None
        job = replace(plan.template, study_uid=entry["study_uid"], series_uid=row.series_uid or None, out=out)
        done = run_job(job, progress=command.progress, cancel=command.cancel)
        entry |= _made(done, out)
    except BridgeError as error:
        entry |= {"status": "failed", "error": error.to_dict()}
    except OSError as error:
        failure = BridgeError(f"a file or folder cannot be read or written: {error.strerror}")
        entry |= {"status": "failed", "error": failure.to_dict()}
    entry["seconds"] = round(time.monotonic() - started, 3)
    written.add(entry)
    return entry


def _find_study(command: Command, template: Job, row: WorklistRow) -> str:
    """Return the one study that fulfils all of a row; the PACS is asked unless the row names nothing but UIDs."""
    if row.study_uid and not row.accession_number and not row.patient_id:
        return row.study_uid
    if not (row.study_uid or row.accession_number or row.patient_id):
        raise QueryError("the row names no study", advice="Give study_uid, accession_number or patient_id.")
    if set(row.accession_number + row.patient_id) & set("*?"):
        raise QueryError("the row holds a wildcard, where it should name one study")
    source: Any = template.source
    with connect(source) as client:
        found = client.find_studies(
            study_uid=row.study_uid or None,
            accession_number=row.accession_number or None,
            patient_id=row.patient_id or None,
            cancel=command.cancel,
        )
    if len(found) != 1:
        what = f"{len(found)} studies match the row" if found else "no study matches the whole row"
        raise QueryError(what, peer=source.name, advice="Name it by its study_uid; check the other columns.")
    return found[0].study_uid


def _free_folder(out: Path, line: int) -> Path:
    """Return a folder for the results of a row; what an earlier try left is not touched."""
    names = (f"line-{line:05d}" + (f"-{attempt}" if attempt > 1 else "") for attempt in count(1))
    return next(out / name for name in names if not (out / name).exists())


def _made(done: JobReport, out: Path | None) -> dict[str, Any]:
    made = done.to_dict()
    return {
        "status": "done" if done.complete else "waiting",
        "series_uid": made["series_uid"],
        "model": done.model,
        "results": [result["sop_instance_uid"] for result in made["results"]],
        "folder": str(out) if out is not None else "",
        "warnings": done.warnings,
    }


def _sentence(entry: dict[str, Any]) -> str:
    study = f"study {entry['study_uid']} " if entry["study_uid"] else ""
    if entry["status"] == "failed":
        return f"{study}failed. {entry['error']['message']}"
    words = {"skipped": "was done before", "done": "done", "waiting": "made, but its results wait in the outbox"}
    made = f", {counted(len(entry['results']), 'object')}, {entry['seconds']:.1f} s" if "results" in entry else ""
    return f"{study}{words[entry['status']]}{made}."


def _end(command: Command, counts: Counter[str], total: int) -> None:
    failed, waiting = counts["failed"], counts["waiting"]
    if failed == total:
        raise BridgeError(
            f"not one of {counted(total, 'row')} could be done", advice="The results file says why of each."
        )
    if failed or waiting:
        command.partial(
            f"Of {counted(total, 'row')} {failed} failed, and the results of {waiting} wait in the outbox. The same"
            " command does the failed ones again; 'aidicombridge outbox retry' sends what waits."
        )
