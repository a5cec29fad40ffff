"""The command find: patients, studies, the series of a study, or the instances of a series."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..errors import NotFoundError
from ..pacs.client import connect
from .archive_commands import EndpointArgument, endpoint_from
from .command import Command, JsonOption, running

# Level -> (the keys that go with it beside those that name what it lies in, the columns that are shown).
_LEVELS = {
    "patients": (
        ("patient_id", "patient_name", "patient_birth_date", "patient_sex", "limit"),
        {
            "Patient ID": "patient_id",
            "Name": "patient_name",
            "Birth date": "patient_birth_date",
            "Sex": "patient_sex",
            "Studies": "study_count",
        },
    ),
    "studies": (
        (
            *("patient_id", "patient_name", "patient_birth_date", "accession_number", "study_date", "study_time"),
            *("study_id", "study_description", "referring_physician", "modalities", "limit"),
        ),
        {
            "Patient ID": "patient_id",
            "Name": "patient_name",
            "Date": "study_date",
            "Accession": "accession_number",
            "Modalities": "modalities",
            "Description": "study_description",
            "Study UID": "study_uid",
        },
    ),
    "series": (
        ("modalities", "series_number", "series_description"),
        {
            "Modality": "modality",
            "Number": "series_number",
            "Description": "series_description",
            "Instances": "instance_count",
            "Series UID": "series_uid",
        },
    ),
    "instances": (
        ("sop_class_uid",),
        {"Number": "instance_number", "SOP Class UID": "sop_class_uid", "SOP Instance UID": "sop_instance_uid"},
    ),
}
_NOTHING = {
    "patients": "no patient matches",
    "studies": "no study matches",
    "series": "no such study, or no series of it matches",
    "instances": "no such series, or no instance of it matches",
}
_OPTIONS = {
    "patient_birth_date": "--birth-date",
    "patient_sex": "--sex",
    "accession_number": "--accession",
    "study_date": "--date",
    "study_time": "--time",
    "modalities": "--modality",
    "sop_class_uid": "--sop-class",
}


def find(
    endpoint: EndpointArgument,
    patient_id: Annotated[str | None, typer.Option(help="Patient ID.")] = None,
    patient_name: Annotated[str | None, typer.Option(help="Patient's name; * and ? are wildcards.")] = None,
    birth_date: Annotated[str | None, typer.Option(help="Patient's birth date YYYYMMDD, or a range.")] = None,
    sex: Annotated[str | None, typer.Option(help="Patient's sex: M, F or O; with --patients.")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession number.")] = None,
    date: Annotated[str | None, typer.Option(help="Study date YYYYMMDD, or a range YYYYMMDD-YYYYMMDD.")] = None,
    time: Annotated[str | None, typer.Option(help="Study time HHMMSS, or a range HHMMSS-HHMMSS.")] = None,
    study_id: Annotated[str | None, typer.Option(help="Study ID.")] = None,
    study_description: Annotated[str | None, typer.Option(help="Study description; * and ? are wildcards.")] = None,
    referring_physician: Annotated[str | None, typer.Option(help="Referring physician's name.")] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="Modality in the study, or of the series with --study; may be repeated.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Study Instance UID: lists the series of this study.")] = None,
    series_number: Annotated[str | None, typer.Option(help="Series number; with --study.")] = None,
    series_description: Annotated[str | None, typer.Option(help="Series description; with --study.")] = None,
    series: Annotated[
        str | None, typer.Option(help="Series Instance UID, with --study: lists the instances of this series.")
    ] = None,
    sop_class: Annotated[str | None, typer.Option(help="SOP Class UID; with --series.")] = None,
    patients: Annotated[bool, typer.Option("--patients", help="List patients instead of studies.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after this many studies or patients.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """List studies, patients, the series of a study or the instances of a series that match all keys given.

    The list shows patient data, as the PACS holds it; it goes to the terminal only.
    """
    if series is not None and study is None:
        raise typer.BadParameter("say with --study which study the series is of", param_hint="--series")
    if patients and study is not None:
        raise typer.BadParameter("a study has one patient", param_hint="--patients")
    level = "patients" if patients else "studies" if study is None else "series" if series is None else "instances"
    keys = _keys_of(
        level,
        patient_id=patient_id,
        patient_name=patient_name,
        patient_birth_date=birth_date,
        patient_sex=sex,
        accession_number=accession,
        study_date=date,
        study_time=time,
        study_id=study_id,
        study_description=study_description,
        referring_physician=referring_physician,
        modalities=modality or None,
        series_number=series_number,
        series_description=series_description,
        sop_class_uid=sop_class,
        limit=limit,
    )
    with running("find", as_json) as command, connect(endpoint_from(endpoint)) as client:
        found: Sequence[Any]
        if level == "patients":
            found = client.find_patients(**keys, cancel=command.cancel)
        elif level == "studies":
            found = client.find_studies(**keys, cancel=command.cancel)
        elif level == "series":
            wanted = {name.strip().upper() for name in keys.pop("modalities", ())}
            found = client.find_series(str(study), **keys, cancel=command.cancel)
            found = [record for record in found if not wanted or record.modality in wanted]
        else:
            found = client.find_instances(str(study), str(series), **keys, cancel=command.cancel)
        if not found:
            raise NotFoundError(
                _NOTHING[level],
                uid=series or study,
                peer=client.endpoint.name,
                advice="Loosen the keys; * and ? are wildcards.",
            )
        _show(command, level, found)


def _keys_of(level: str, **given: Any) -> dict[str, Any]:
    """Return the keys that were given; refuse those that say nothing at that level."""
    keys = {name: value for name, value in given.items() if value is not None}
    for name in keys:
        if name not in _LEVELS[level][0]:
            option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
            raise typer.BadParameter(f"it is no key for the list of {level}", param_hint=option)
    return keys


def _show(command: Command, level: str, found: Sequence[Any]) -> None:
    command.answer[level] = [asdict(record) for record in found]
    columns = _LEVELS[level][1]
    rows = [tuple(_text(getattr(record, name)) for name in columns.values()) for record in found]
    command.show_table(tuple(columns), rows)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)
