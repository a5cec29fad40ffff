"""The demonstration: the whole loop on a built-in archive, a real scan and, where it can, a real network."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ..delivery.outbox import Outbox
from ..errors import ConflictError, DeliveryError, NotFoundError
from ..job import Job, JobReport, run_job
from ..models.catalogue import Catalogue
from ..models.weights import WeightsFolder
from ..mrml.pictures import Pictures, render_pictures
from ..pacs.archive import Archive
from ..pacs.client import connect
from ..pacs.records import SeriesRecord, StudyRecord
from ..progress import report
from ..results.labels import LabelVolume
from ..series.instance_store import InstanceStore
from ..series.volume import ImageVolume
from ..user_folder import user_folder
from .command import Command, JsonOption, running
from .demo_data import DemoScan, abdominal_ct, head_scan
from .demo_report import write_report
from .progress_lines import counted

_T = TypeVar("_T")
_MARKER = ".aidicombridge-demo"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demonstration makes.")] = Path(
        "aidicombridge-demo"
    ),
    scan: Annotated[str, typer.Option(help="auto, head (MR and a network) or abdomen (CT and rules).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave the archive running until Ctrl-C, to try the other commands.")
    ] = False,
    port: Annotated[int, typer.Option(help="The archive's port; 0 takes a free one.", min=0, max=65535)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the whole loop: query, retrieve, segment, encode, send, verify, on this machine alone.

    Needs no root and no server. The archive listens on 127.0.0.1 only. The scan, the network's weights (0.6 MB) and
    nothing else are downloaded, once.
    """
    if scan not in ("auto", "head", "abdomen"):
        raise typer.BadParameter("choose from auto, head, abdomen", param_hint="--scan")
    with running("demo", as_json) as command:
        folder = _prepare(out)
        chosen = _scan(command, scan)
        with InstanceStore(folder / "archive") as store, Archive(store, port=port) as archive:
            _, fill_seconds = _timed(lambda: _fill(command, archive, chosen))
            study, find_seconds = _timed(lambda: _find(archive, chosen))
            weights = WeightsFolder.default()
            card = Catalogue.load()[chosen.model]
            if not weights.is_present(card):
                weights.fetch(card, progress=command.progress)
            done = run_job(
                Job(
                    archive.endpoint,
                    card,
                    destinations=(archive.endpoint,),
                    study_uid=study.study_uid,
                    encodings=("BINARY", "LABELMAP"),
                    device=device,
                    outbox=Outbox(folder / "outbox"),
                    weights_folder=weights,
                    review=_through_nodes(command),
                ),
                progress=command.progress,
                cancel=command.cancel,
            )
            held = _held_series(archive, study)
            pictures, picture_seconds = _timed(lambda: _draw(command, done, folder))
            seconds = {"store scan": fill_seconds, "find": find_seconds, **done.seconds, "pictures": picture_seconds}
            stages = [(name, _what(name, chosen, done), value) for name, value in seconds.items()]
            files = {instance.sop_instance_uid: instance.path for instance in store}
            page = write_report(folder / "report.html", chosen.title, study, held, done, pictures, stages, files)
            _conclude(command, stages, done, pictures, page)
            if keep_running:
                _wait(command, archive)


def _prepare(out: Path) -> Path:
    """Return the folder, emptied of an earlier demonstration; anything else in it is left alone and refused."""
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file, not a folder", advice="Choose another one with --out.")
    if out.exists() and not (out / _MARKER).exists() and any(out.iterdir()):
        raise ConflictError(f"the folder {out} holds other files", advice="Choose another one with --out.")
    for name in ("archive", "outbox", "pictures"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "report.html").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()
    return out


def _scan(command: Command, wanted: str) -> DemoScan:
    folder = user_folder() / "demo"
    report(command.progress, "get scan", 0)
    if wanted == "abdomen":
        return abdominal_ct(folder)
    try:
        return head_scan(folder)
    except NotFoundError as error:
        if wanted == "head":
            raise
        command.say(f"{error} An abdominal CT and the rule-based model are used instead.")
        return abdominal_ct(folder)


def _fill(command: Command, archive: Archive, scan: DemoScan) -> None:
    with connect(archive.endpoint) as client:
        stored = client.store(scan.datasets, progress=command.progress, cancel=command.cancel)
    if not stored.complete:
        raise DeliveryError("the scan could not be put into the built-in archive", status=stored.failed[0].status)


def _find(archive: Archive, scan: DemoScan) -> StudyRecord:
    with connect(archive.endpoint) as client:
        studies = client.find_studies(accession_number=scan.accession_number)
    if len(studies) != 1:
        raise NotFoundError(f"{len(studies)} studies have the accession number {scan.accession_number}, not one")
    return studies[0]


def _through_nodes(command: Command) -> Callable[[ImageVolume, LabelVolume], LabelVolume] | None:
    """Return a review that takes the result through Slicer's own nodes and back; None without slicer-core."""
    from ..mrml.core_scene import has_slicer_core

    if not has_slicer_core():
        command.say("slicer-core is not installed: Slicer's nodes are left out.")
        return None

    def review(volume: ImageVolume, labels: LabelVolume) -> LabelVolume:
        from ..mrml.core_scene import open_core_scene
        from ..mrml.segmentation_node import label_volume_from, segmentation_node_from
        from ..mrml.volume_node import volume_node_from

        core = open_core_scene()
        volume_node = volume_node_from(volume, core.scene)
        node = segmentation_node_from(labels, core.scene, volume_node=volume_node)
        return label_volume_from(node, volume.source, provenance=labels.provenance)

    return review


def _held_series(archive: Archive, study: StudyRecord) -> list[SeriesRecord]:
    """Return what the archive now holds in the study, and only there."""
    with connect(archive.endpoint) as client:
        return client.find_series(study.study_uid)


def _draw(command: Command, done: JobReport, folder: Path) -> Pictures:
    report(command.progress, "pictures", 0)
    if done.volume is None or done.labels is None:
        raise NotFoundError("there is no result to draw")
    return render_pictures(done.volume, done.labels, folder / "pictures")


def _what(stage: str, scan: DemoScan, done: JobReport) -> str:
    """Return what a stage dealt with, for the closing table."""
    kinds = [result.kind for result in done.results]
    arrived = sum(len(delivery.receipts) for delivery in done.deliveries)
    precision = done.labels.provenance if done.labels else None
    return {
        "store scan": counted(len(scan.datasets), "instance"),
        "find": f"study {scan.accession_number}",
        "load model": done.model,
        "retrieve": f"{counted(len(done.retrieved.succeeded), 'instance')}, {done.retrieved.method}"
        if done.retrieved
        else "",
        "read": " x ".join(str(n) for n in done.volume.voxels.shape[::-1]) + " voxels" if done.volume else "",
        "segment": f"on {precision.device}, {precision.precision}" if precision else "",
        "review": "volume node and segmentation node",
        "encode": ", ".join(f"{kinds.count(kind)} {kind.upper()}" for kind in dict.fromkeys(kinds)),
        "check": counted(len(done.findings), "warning"),
        "deliver": f"arrived and compared: {arrived} of {counted(len(done.results), 'object')}",
        "pictures": "axial, coronal, sagittal, 3D",
    }.get(stage, "")


def _conclude(
    command: Command, stages: list[tuple[str, str, float]], done: JobReport, pictures: Pictures, page: Path
) -> None:
    command.show_table(("Stage", "What", "Seconds"), [(name, what, f"{value:.1f}") for name, what, value in stages])
    for measured in done.measurements:
        command.say(f"{measured.segment.name}: {measured.volume_ml:,.0f} ml")
    if pictures.remark:
        command.say(f"The pictures were drawn by {pictures.renderer}: {pictures.remark}.")
    command.say(f"Open {page.resolve()} to see the result.")
    command.answer |= done.to_dict() | {"report": str(page.resolve()), "renderer": pictures.renderer}
    if not done.complete:
        command.partial("Not every object arrived; see the outbox in the demonstration's folder.")


def _wait(command: Command, archive: Archive) -> None:
    command.say(
        f"The archive runs at {archive.endpoint.address} until Ctrl-C. In another terminal, try:\n"
        f"  aidicombridge find {archive.endpoint.address}"
    )
    while not command.cancel.wait(3600):
        pass


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    start = time.monotonic()
    return work(), time.monotonic() - start
