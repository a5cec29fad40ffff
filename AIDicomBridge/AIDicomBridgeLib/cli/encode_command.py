"""The command that makes DICOM objects of what any program computed on a series."""

from pathlib import Path
from typing import Annotated

import typer

from ..results.encode_files import KINDS, encode_files
from ..results.profiles import PROFILES
from ..results.result_set import check_results, refuse_taken_folder, write_results
from ..series.volume import find_series
from .command import JsonOption, running
from .job_commands import ResampleOption, StackOption


def encode(
    folder: Annotated[
        Path, typer.Argument(help="Folder with the image series that was worked on.", show_default=False)
    ],
    kind: Annotated[str, typer.Option("--as", help=f"What it becomes: {', '.join(KINDS)}.", show_default=False)],
    files: Annotated[
        list[Path],
        typer.Option(
            "--from",
            help="A file with data (.npy, NRRD, NIfTI, MetaImage; a picture for sc) or the .toml or .json file that "
            "describes it; give both by repeating the option.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the objects; created.", show_default=False)],
    profile: Annotated[
        str | None, typer.Option(help=f"How the destination wants the objects: {', '.join(PROFILES)}.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID, if the folder holds several.")] = None,
    stack: StackOption = None,
    resample: ResampleOption = False,
    suv: Annotated[bool, typer.Option("--suv", help="Measure a PET series as SUV by body weight.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what any program found on a series as DICOM objects of the same study.

    seg: labels as a segmentation. sr: measurements of labels, with the seg.
    fractional: probabilities as a segmentation. pm: a float volume as a map.
    classification, detection: answers, boxes and the like as a report.
    sc: outlines of labels, or any pictures. summary: a page about labels.

    The README shows the description files.
    """
    if kind not in KINDS:
        raise typer.BadParameter(f"choose from {', '.join(KINDS)}", param_hint="--as")
    with running("encode", as_json) as command:
        refuse_taken_folder(out)
        source = find_series(folder, series_uid=series, stack=stack, resample=resample)
        refuse_taken_folder(out, source)
        results, labels = encode_files(source, kind, files, profile=profile, suv=suv)
        findings = check_results(results, source, labels)
        results = write_results(results, out)
        command.answer |= {
            "study_uid": source.study_uid,
            "series_uid": source.series_uid,
            "results": [result.to_dict() for result in results],
            "warnings": [finding.message for finding in findings],
        }
        for finding in findings:
            command.say(f"Note: {finding.message}")
        rows = [
            (result.path.name if result.path else "", str(result.dataset.get("SeriesDescription", "")))
            for result in results
        ]
        command.show_table(("File", "Series"), rows)
        command.say(f"{len(results)} object{'s' * (len(results) != 1)} in {out}.")
