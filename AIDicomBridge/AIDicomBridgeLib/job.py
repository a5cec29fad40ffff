"""The whole loop as one list of calls: query, retrieve, read, segment, encode, check, deliver, verify."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .delivery.agreement import agree_on_profile
from .delivery.deliver import DeliveryReport, deliver
from .delivery.outbox import Outbox
from .errors import IncompleteError
from .models.card import ModelCard
from .models.loading import load_model
from .models.model import Model
from .models.weights import WeightsFolder
from .pacs.client import connect
from .pacs.endpoint import Endpoint
from .pacs.records import RetrieveReport
from .pacs.selection import RankedSeries, best_series, rank_series_on_disk
from .pacs.series_samples import rank_series_of_study
from .progress import CancelToken, ProgressCallback, check_cancel, report
from .results.conformance import Finding
from .results.labels import LabelVolume
from .results.measurements import SegmentMeasurements, measure
from .results.profiles import OUTPUTS, DestinationProfile, find_profile
from .results.result_series import fresh_uid
from .results.result_set import (
    ResultObject,
    check_results,
    encode_results,
    refuse_taken_folder,
    write_results,
)
from .results.segment_description import with_tracking_uids
from .series.instance_store import InstanceStore
from .series.series_in_folder import more_beside, series_in_folder
from .series.series_traits import SeriesTraits
from .series.source_series import SourceSeries
from .series.volume import ImageVolume, find_series, read_volume

AUTO = "auto"
_ONE_FILE = "Only the file that was named was taken; more of its series lie beside it. Name the folder to take all."
Review = Callable[[ImageVolume, LabelVolume], LabelVolume]


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes
    ----------
    source
        A PACS, or the series itself: checked, as files, or as a folder.
    model
        A model's name, card or card file; or a loaded model, whose weights then stay loaded between jobs.
    outputs
        Any of ``seg``, ``sr`` (refers to the first SEG, which is then made too), ``sc``, ``pm`` (maps of the model's
        probabilities); what the destination's profile names where not given.
    destinations
        Where the results go; none only makes them.
    study_uid, series_uid
        What to take from a PACS; without a series, the one that the model is meant for is chosen. The series also
        chooses among several in a folder, where ``"auto"`` means the one that the model is meant for.
    profile
        Destination profile, or its name, for all destinations; each endpoint's own where not given. Destinations of
        different profiles get objects of their own.
    encodings
        One SEG is made for each: ``BINARY``, ``LABELMAP``, ``FRACTIONAL`` (the model's probabilities); by the profile
        where not given.
    device, precision, mirror, compiled
        Where and how the model runs, see :func:`.models.loading.load_model`; of no effect on a loaded model.
    memory_limit_bytes
        Use no more than this, see :meth:`.models.model.Model.plan`.
    stack, resample
        Which stack to take of a series that holds several, and whether to accept an irregular one: see
        :meth:`SourceSeries.from_files`.
    suv
        Give the model a PET series as SUV by body weight; its measurements are then in SUV too. A model whose card
        wants SUV gets it in any case.
    any_body_part
        Run the model also where the header names a body part that is not on its card.
    series_description
        For the result's series; made from the model's name where not given.
    out
        Folder for the results as files; created.
    outbox
        Needed with destinations.
    weights_folder
        The user's own where not given.
    review
        Called with volume and labels before anything is encoded; what it returns is encoded. Here a person's edit
        of the segmentation node comes in.
    """

    source: Endpoint | SourceSeries | Path | str
    model: str | ModelCard | Path | Model
    outputs: tuple[str, ...] | None = None
    destinations: tuple[Endpoint, ...] = ()
    study_uid: str | None = None
    series_uid: str | None = None
    profile: DestinationProfile | str | None = None
    encodings: tuple[str, ...] | None = None
    device: str = "auto"
    precision: str = "auto"
    mirror: bool = True
    compiled: bool = False
    memory_limit_bytes: int | None = None
    stack: int | None = None
    resample: bool = False
    suv: bool = False
    any_body_part: bool = False
    series_description: str | None = None
    out: Path | None = None
    outbox: Outbox | None = None
    weights_folder: WeightsFolder | None = None
    review: Review | None = None


@dataclass
class JobReport:
    """What a job did, stage by stage; filled while it runs.

    Attributes
    ----------
    seconds
        Wall time of each stage, in order.
    series_ranking
        Where a series was chosen: all of the study, the best first, with the reasons.
    retrieved
        What came from the PACS; None for a source on disk.
    volume, labels, measurements, results, findings, deliveries
        What each stage gave; ``findings`` are warnings of the results' own checks.
    notices
        What else a person should know.
    owed
        Every destination with the results that go to it.
    """

    model: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    series_ranking: list[RankedSeries] = field(default_factory=list)
    retrieved: RetrieveReport | None = None
    volume: ImageVolume | None = None
    labels: LabelVolume | None = None
    measurements: list[SegmentMeasurements] = field(default_factory=list)
    results: list[ResultObject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    owed: list[tuple[Endpoint, list[ResultObject]]] = field(default_factory=list)
    deliveries: list[DeliveryReport] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when every result has arrived at every destination."""
        return all(delivery.complete for delivery in self.deliveries)

    @property
    def warnings(self) -> list[str]:
        """What a person should know about a result that was made all the same."""
        irregularity = self.volume.source.irregularity if self.volume else ""
        notice = f"The network saw the series resampled, as it is irregular: {irregularity}."
        return [*self.notices, *([notice] if irregularity else []), *(finding.message for finding in self.findings)]

    @contextmanager
    def stage(self, name: str, progress: ProgressCallback | None) -> Iterator[None]:
        """Time one stage and announce it."""
        report(progress, name, 0)
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for ``--json``; no patient data."""
        source = self.volume.source if self.volume else None
        return {
            "model": self.model,
            "study_uid": source.study_uid if source else None,
            "series_uid": source.series_uid if source else None,
            "series_ranking": [item.to_dict() for item in self.series_ranking],
            "decoder": self.volume.decoder if self.volume else None,
            "suv": asdict(self.volume.suv) if self.volume and self.volume.suv else None,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "measurements": [measured.to_dict() for measured in self.measurements],
            "results": [result.to_dict() for result in self.results],
            "warnings": self.warnings,
            "deliveries": [delivery.to_dict() for delivery in self.deliveries],
        }


def run_job(job: Job, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> JobReport:
    """Do the job, all or nothing up to the outbox: nothing is sent before every result is made and checked.

    Raises
    ------
    BridgeError
        Any of them, by the stage that failed. Results that could not be delivered are no exception: they wait in the
        outbox, and the report says so.
    JobCancelled
        ``cancel`` was called.
    """
    _check_job(job)
    if job.out is not None:
        refuse_taken_folder(job.out)
    done = JobReport()
    with ExitStack() as temporary:
        source = job.source
        if not isinstance(source, Endpoint) and job.series_uid != AUTO:
            # A wrong folder is found before the time is spent on the model.
            with done.stage("read", progress):
                source = find_series(source, series_uid=job.series_uid, stack=job.stack, resample=job.resample)
            _refuse_images_folder(job, source)
            if isinstance(job.source, Path | str) and Path(job.source).is_file() and more_beside(Path(job.source)):
                done.notices.append(_ONE_FILE)
        with done.stage("load model", progress):
            model = _load(job)
            done.model = f"{model.card.name} {model.card.version}"
            if probabilities := _wants_probabilities(job):
                model.refuse_probabilities()  # before the time is spent on retrieving and segmenting
        if job.series_uid == AUTO and isinstance(source, Path | str):
            with done.stage("read", progress):
                source = _chosen_in_folder(job, Path(source), model, done)
            _refuse_images_folder(job, source)
        if isinstance(source, Endpoint):
            folder = Path(temporary.enter_context(tempfile.TemporaryDirectory(prefix="aidicombridge-")))
            store = temporary.enter_context(InstanceStore(folder))
            with done.stage("retrieve", progress):
                source = _retrieve(job, source, model, store, done, progress, cancel)
        with done.stage("read", progress):
            series = find_series(source)
            suv = job.suv or model.card.wants_suv(series.modality)
            done.volume = read_volume(series, suv=suv, progress=progress, cancel=cancel)
        with done.stage("segment", progress):
            done.labels = model.segment(
                done.volume,
                any_body_part=job.any_body_part,
                probabilities=probabilities,
                memory_limit_bytes=job.memory_limit_bytes,
                progress=progress,
                cancel=cancel,
            )
        if job.review is not None:
            with done.stage("review", progress):
                done.labels = job.review(done.volume, done.labels)
        check_cancel(cancel)
        with done.stage("encode", progress):
            done.measurements = measure(done.labels, done.volume)
            done.labels = with_tracking_uids(done.labels, fresh_uid)  # once: all objects track the same things
            done.results = _encode(job, done, done.labels, done.volume)
        with done.stage("check", progress):
            done.findings = check_results(done.results, done.volume.source, done.labels, done.measurements)
        check_cancel(cancel)
        if job.out is not None:
            done.results = write_results(done.results, job.out)
        if job.outbox is not None and job.destinations:
            with done.stage("deliver", progress):
                done.deliveries = _deliver(job.outbox, done, progress, cancel)
    return done


def _check_job(job: Job) -> None:
    if job.outputs is not None and (set(job.outputs) - set(OUTPUTS) or not job.outputs):
        raise ValueError(f"outputs must be some of {', '.join(OUTPUTS)}, not {job.outputs!r}")
    for profile in (job.profile, *(endpoint.profile for endpoint in job.destinations)):
        find_profile(profile)  # refused by name before anything runs
    if job.destinations and job.outbox is None:
        raise ValueError("a job with destinations needs an outbox")
    if isinstance(job.source, Endpoint) and not job.study_uid:
        raise ValueError("a job on a PACS needs a study_uid")


def _refuse_images_folder(job: Job, source: SourceSeries) -> None:
    if job.out is not None:
        refuse_taken_folder(job.out, source)


def _load(job: Job) -> Model:
    if isinstance(job.model, Model):
        return job.model
    return load_model(
        job.model,
        job.device,
        precision=job.precision,
        mirror=job.mirror,
        compiled=job.compiled,
        weights_folder=job.weights_folder,
    )


def _wants_probabilities(job: Job) -> bool:
    """Return True if any destination gets probabilities: as a FRACTIONAL SEG, or as maps."""
    endpoints = job.destinations or (None,)
    for endpoint in endpoints:
        profile = find_profile(job.profile or (endpoint.profile if endpoint is not None else None))
        outputs = profile.outputs if job.outputs is None else job.outputs
        encodings = (profile.encoding,) if job.encodings is None else job.encodings
        if "pm" in outputs or ({"seg", "sr"} & set(outputs) and "FRACTIONAL" in encodings):
            return True
    return False


def _chosen_in_folder(job: Job, folder: Path, model: Model, done: JobReport) -> SourceSeries:
    """Return the series of a folder that the model is meant for, and note why it is that one."""
    found = series_in_folder(folder)
    traits = [SeriesTraits.of(paths, stack=job.stack, resample=job.resample) for paths in found.values()]
    parts = () if job.any_body_part else model.card.body_parts
    done.series_ranking = rank_series_on_disk(traits, model.card.modalities, parts)
    chosen = best_series(done.series_ranking).record
    return SourceSeries.from_files(found[chosen.series_uid], stack=job.stack, resample=job.resample)


def _retrieve(
    job: Job,
    endpoint: Endpoint,
    model: Model,
    store: InstanceStore,
    done: JobReport,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> SourceSeries:
    """Bring the wanted series, whole, into the store."""
    study_uid = str(job.study_uid)
    with connect(endpoint) as client:
        series_uid = job.series_uid
        if series_uid in (None, AUTO):
            parts = () if job.any_body_part else model.card.body_parts
            done.series_ranking = rank_series_of_study(
                client, study_uid, model.card.modalities, parts, progress=progress, cancel=cancel
            )
            series_uid = best_series(done.series_ranking, study_uid=study_uid).record.series_uid
        done.retrieved = client.retrieve(study_uid, series_uid, into=store, progress=progress, cancel=cancel)
    try:
        done.retrieved.raise_if_incomplete()
    except IncompleteError as error:
        raise IncompleteError(
            error.what,
            uid=series_uid,
            peer=endpoint.name,
            status=error.status,
            advice="An incomplete series is not segmented. Retrieve it again later, or ask for the PACS's log.",
        ) from error
    paths = [instance.path for instance in store.instances(study_uid, series_uid)]
    return SourceSeries.from_files(paths, stack=job.stack, resample=job.resample)


def _encode(job: Job, done: JobReport, labels: LabelVolume, volume: ImageVolume) -> list[ResultObject]:
    """Make the objects once for each profile among the destinations, and note who gets which."""
    made: dict[DestinationProfile, list[ResultObject]] = {}
    for endpoint in job.destinations or (None,):
        profile = agree_on_profile(endpoint, job.profile)
        if profile not in made:
            made[profile] = encode_results(
                labels,
                volume,
                done.measurements,
                profile=profile,
                outputs=job.outputs,
                encodings=job.encodings,
                series_description=job.series_description,
            )
        if endpoint is not None:
            done.owed.append((endpoint, made[profile]))
    return [result for results in made.values() for result in results]


def _deliver(
    outbox: Outbox, done: JobReport, progress: ProgressCallback | None, cancel: CancelToken | None
) -> list[DeliveryReport]:
    """Put everything for every destination into the outbox, then deliver: a crash in between loses nothing."""
    for endpoint, results in done.owed:
        outbox.put([result.dataset for result in results], endpoint.address)
    return [
        deliver(
            outbox,
            endpoint,
            only=[str(result.dataset.SOPInstanceUID) for result in results],
            progress=progress,
            cancel=cancel,
        )
        for endpoint, results in done.owed
    ]
