"""Commands that run a model: segment (folder to files) and run (PACS to PACS)."""

from pathlib import Path
from typing import Annotated

import typer

from ..delivery.outbox import Outbox
from ..errors import ModelError
from ..inference.memory_plan import parse_bytes
from ..job import Job, JobReport, run_job
from ..results.profiles import ENCODINGS, OUTPUTS, PROFILES
from ..user_folder import user_folder
from .archive_commands import EndpointArgument, StudyOption, endpoint_from
from .command import Command, JsonOption, running
from .outbox_commands import show_delivery

ModelOption = Annotated[
    str, typer.Option("--model", help="Name from 'models list', or the path of a model card.", show_default=False)
]
OutputsOption = Annotated[
    str | None,
    typer.Option(
        "--outputs",
        help="What to make, separated by commas: seg, sr (measurements; brings its seg along), sc (pictures), pm (maps "
        "of the model's probabilities). "
        "By the profile if not given; the default profile makes all three.",
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        help="Of the SEG: binary (every reader takes it), labelmap (small), fractional (probabilities), or several by "
        "commas. By the profile if not given; the default profile's is binary.",
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help=f"How the destination wants the results: {', '.join(PROFILES)}. If not given, each endpoint's own.",
    ),
]
BodyPartOption = Annotated[
    bool, typer.Option("--any-body-part", help="Run also where the header names a body part that the model is not for.")
]
StackOption = Annotated[
    int | None,
    typer.Option("--stack", help="Which stack, from 1 on, of a series that holds several; a refusal lists them."),
]
ResampleOption = Annotated[
    bool,
    typer.Option(
        "--resample",
        help="Accept a series with missing slices, uneven spacing or gantry tilt: the network sees it resampled, the "
        "results lie on the slices as they are.",
    ),
]
SuvOption = Annotated[
    bool,
    typer.Option(
        "--suv",
        help="Give the model a PET series as SUV by body weight, and measure in SUV; the factors are kept. A model "
        "whose card wants SUV gets it in any case.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="auto (the quickest that the device computes), float32, bfloat16 or float16."),
]
MirrorOption = Annotated[
    bool,
    typer.Option(
        "--mirror/--no-mirror",
        help="Average mirrored windows in, where the model was made for it: up to 8 times the work.",
    ),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Compile the network first: takes a minute and a C++ compiler.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory-limit", help='Most memory to use, such as "6 GB"; what cannot fit is refused at once.'),
]


def segment(
    folder: Annotated[Path, typer.Argument(help="Folder with one image series, or a single file.", show_default=False)],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="Folder for the results; created.", show_default=False)],
    profile: ProfileOption = None,
    outputs: OutputsOption = None,
    encoding: EncodingOption = None,
    series: Annotated[
        str | None,
        typer.Option(
            help="If the folder holds several: Series Instance UID, or auto for the one that the model is meant for."
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    mirror: MirrorOption = True,
    compiled: CompileOption = False,
    memory_limit: MemoryOption = None,
    any_body_part: BodyPartOption = False,
    stack: StackOption = None,
    resample: ResampleOption = False,
    suv: SuvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Segment a series on disk and write DICOM results into a folder."""
    chosen, encodings, limit = _outputs(outputs), _encodings(encoding), _bytes(memory_limit)
    with running("segment", as_json) as command:
        job = Job(
            folder,
            model,
            outputs=chosen,
            series_uid=series,
            encodings=encodings,
            profile=profile,
            device=device,
            precision=precision,
            mirror=mirror,
            compiled=compiled,
            memory_limit_bytes=limit,
            any_body_part=any_body_part,
            stack=stack,
            resample=resample,
            suv=suv,
            out=out,
        )
        _show(command, run_job(job, progress=command.progress, cancel=command.cancel))
        command.say(f"The results are in {out}.")


def run(
    endpoint: EndpointArgument,
    study: StudyOption,
    model: ModelOption,
    to: Annotated[list[str], typer.Option(help="Endpoint for the results; may be repeated.", show_default=False)],
    series: Annotated[
        str, typer.Option(help="Series Instance UID, or auto for the one of the study that the model is meant for.")
    ] = "auto",
    profile: ProfileOption = None,
    outputs: OutputsOption = None,
    encoding: EncodingOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    mirror: MirrorOption = True,
    compiled: CompileOption = False,
    memory_limit: MemoryOption = None,
    any_body_part: BodyPartOption = False,
    stack: StackOption = None,
    resample: ResampleOption = False,
    suv: SuvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pull a series from a PACS, segment it, push the results, and prove that they arrived.

    Results that cannot be delivered wait in the outbox; 'aidicombridge outbox retry' sends them again.
    """
    chosen, encodings, limit = _outputs(outputs), _encodings(encoding), _bytes(memory_limit)
    with running("run", as_json) as command:
        job = Job(
            endpoint_from(endpoint),
            model,
            outputs=chosen,
            destinations=tuple(endpoint_from(text) for text in to),
            study_uid=study,
            series_uid=None if series == "auto" else series,
            encodings=encodings,
            profile=profile,
            device=device,
            precision=precision,
            mirror=mirror,
            compiled=compiled,
            memory_limit_bytes=limit,
            any_body_part=any_body_part,
            stack=stack,
            resample=resample,
            suv=suv,
            outbox=Outbox(user_folder() / "outbox"),
        )
        _show(command, run_job(job, progress=command.progress, cancel=command.cancel))


def _show(command: Command, done: JobReport) -> None:
    command.answer |= done.to_dict()
    for number, item in enumerate(done.series_ranking):
        said = "was chosen" if number == 0 else "fits less well" if item.fits else "does not fit"
        command.say(f"Series {item.record.series_uid} {said}: {', '.join(item.reasons)}.")
    rows = [(m.segment.name, f"{m.volume_ml:,.1f}", f"{m.voxel_count:,}") for m in done.measurements]
    command.show_table(
        ("Segment", "Volume (ml)", "Voxels"), rows, title=f"{done.model}, {sum(done.seconds.values()):.1f} s"
    )
    for warning in done.warnings:
        command.say(f"Note: {warning}")
    for delivery in done.deliveries:
        show_delivery(command, delivery)


def _outputs(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    chosen = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not chosen or set(chosen) - set(OUTPUTS):
        raise typer.BadParameter(f"choose from {', '.join(OUTPUTS)}", param_hint="--outputs")
    return chosen


def _encodings(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    chosen = tuple(part.strip().upper() for part in text.split(",") if part.strip())
    if not chosen or set(chosen) - set(ENCODINGS):
        raise typer.BadParameter(f"choose from {', '.join(ENCODINGS).lower()}", param_hint="--encoding")
    return chosen


def _bytes(text: str | None) -> int | None:
    try:
        return None if text is None else parse_bytes(text)
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--memory-limit") from error
