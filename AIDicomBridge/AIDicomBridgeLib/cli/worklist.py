"""What a batch reads and writes: the worklist, the job for each of its rows, and the file of results."""

import csv
import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..checked_table import CheckedTable
from ..errors import BridgeError, NotFoundError
from ..inference.memory_plan import parse_bytes
from ..job import Job
from ..models.catalogue import Catalogue
from ..models.loading import load_model
from ..pacs.endpoint import Endpoint
from ..results.profiles import ENCODINGS, OUTPUTS, find_profile

_FINISHED = ("done", "waiting")  # what waits lies in the outbox: a second run would make it twice


@dataclass(frozen=True)
class WorklistRow:
    """One study, or series, that is to be worked on; what is empty was not given. ``line`` is that of the file."""

    line: int
    study_uid: str = ""
    series_uid: str = ""
    accession_number: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)


def read_worklist(path: Path) -> list[WorklistRow]:
    """Return the rows of a CSV file with a header; commas or semicolons separate its columns, empty rows are left out.

    Raises
    ------
    BridgeError
        It is no such file, or has a column that is not known.
    NotFoundError
        It has no rows.
    """
    known = [item.name for item in fields(WorklistRow)][1:]
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        reader = csv.reader(text.splitlines(), delimiter=";" if head.count(";") > head.count(",") else ",", strict=True)
        names = [name.strip().lower() for name in next(reader, [])]
        unknown = sorted(set(names) - set(known))
        if unknown or len(set(names)) < len(names):
            raise BridgeError(
                f"the first line of {path} has the column {unknown[0]!r}, which is not known"
                if unknown
                else f"the first line of {path} has a column twice",
                advice=f"Its columns may be: {', '.join(known)}.",
            )
        rows = []
        for values in reader:
            if len(values) > len(names):
                raise BridgeError(f"line {reader.line_num} of {path} has more columns than its first line")
            given = {name: value.strip() for name, value in zip(names, values, strict=False)}
            if any(given.values()):
                rows.append(WorklistRow(reader.line_num, **given))
    except (ValueError, csv.Error):  # which quote the line
        raise BridgeError(f"{path} is no CSV file in UTF-8") from None
    if not rows:
        raise NotFoundError(f"the worklist {path} has no rows")
    return rows


@dataclass(frozen=True)
class BatchJob:
    """What is done with every row.

    Attributes
    ----------
    template
        The job without its study; the model is loaded.
    out
        Folder for the results as files, one folder per row below it.
    digest
        Changes with the job file, so that another job is not taken for done.
    """

    template: Job
    out: Path | None
    digest: str


def read_batch_job(path: Path, endpoint_from: Callable[[str], Endpoint]) -> BatchJob:
    """Return what a TOML file describes, and load its model.

    Raises
    ------
    BridgeError
        The file is no TOML, lacks a key or has an unknown one, or any error of an endpoint or the model.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise BridgeError(f"{path} is no TOML file: {error}") from None
    table = CheckedTable(values, str(path), BridgeError)
    source, model = table.get("source", str), table.get("model", str)
    to = table.get_list("to", str, default=[])
    out = table.get("out", str, "")
    given: dict[str, Any] = {
        "outputs": tuple(text.lower() for text in table.get_list("outputs", str, default=[])) or None,
        "encodings": tuple(text.upper() for text in table.get_list("encodings", str, default=[])) or None,
        "profile": table.get("profile", str, "") or None,
        "stack": table.get("stack", int, 0) or None,
        "resample": table.get("resample", bool, False),
        "suv": table.get("suv", bool, False),
        "any_body_part": table.get("any_body_part", bool, False),
        "series_description": table.get("series_description", str, "") or None,
    }
    loading: dict[str, Any] = {
        "device": table.get("device", str, "auto"),
        "precision": table.get("precision", str, "auto"),
        "mirror": table.get("mirror", bool, True),
        "compiled": table.get("compile", bool, False),
    }
    if limit := table.get("memory_limit", str, ""):
        given["memory_limit_bytes"] = parse_bytes(limit)
    table.refuse_unknown_keys()
    for key, allowed in (("outputs", OUTPUTS), ("encodings", ENCODINGS)):
        if wrong := sorted(set(given[key] or ()) - set(allowed)):
            raise BridgeError(
                f"{path}: '{key}' has the unknown value {wrong[0]!r}", advice=f"Known: {', '.join(allowed)}."
            )
    if not to and not out:
        raise BridgeError(f"{path} names neither 'to' nor 'out'", advice="Say where the results go.")
    find_profile(given["profile"])
    destinations = tuple(endpoint_from(text) for text in to)
    catalogue, beside = Catalogue.load(), path.parent / model  # a card or folder beside the job file
    named = model in catalogue or not beside.exists()
    loaded = load_model(model if named else beside, catalogue=catalogue, **loading)
    template = Job(endpoint_from(source), loaded, destinations=destinations, **loading, **given)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
    return BatchJob(template, path.parent / out if out else None, digest[:16])


class ResultFile:
    """What became of every row, one JSON object a line, written as soon as it is known; it names no patient.

    Parameters
    ----------
    digest
        Of the job whose results these are; what another job did is passed over.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self._digest = digest
        self._finished: set[tuple[str, str]] = set()
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        # What a crash cut off must not take the next line with it.
        self._separator = "" if not text or text.endswith("\n") else "\n"
        for line in text.splitlines():
            entry = _entry_of(line)
            if entry.get("job") == digest and entry.get("status") in _FINISHED:
                self._finished.add((str(entry.get("study_uid", "")), str(entry.get("asked_series_uid", ""))))

    def is_finished(self, study_uid: str, series_uid: str) -> bool:
        """Return whether a row with this study and series (empty: the best one) needs no work any more."""
        return (study_uid, series_uid) in self._finished

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write what became of one row; it is on the disk when this returns."""
        line = json.dumps({"job": self._digest, "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **entry})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{self._separator}{line}\n")
            file.flush()
            os.fsync(file.fileno())
        self._separator = ""
        if entry["status"] in _FINISHED:
            self._finished.add((entry["study_uid"], entry["asked_series_uid"]))


def _entry_of(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:  # cut off by a crash: its row is done again
        return {}
    return entry if isinstance(entry, dict) else {}
