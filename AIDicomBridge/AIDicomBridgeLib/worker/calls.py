"""What the child process can be asked for: the engine's long steps, each one call with arguments that can be sent."""

from collections.abc import Sequence
from pathlib import Path

from ..delivery.agreement import agree_on_profile
from ..delivery.deliver import DeliveryReport, deliver
from ..delivery.outbox import Delivery, Outbox
from ..inference.memory_plan import MemoryPlan
from ..models.card import ModelCard
from ..models.loading import find_card, programs_of
from ..models.model import Model
from ..models.resident import ResidentModels
from ..models.weights import WeightsFolder
from ..pacs.client import connect
from ..pacs.doctor import diagnose
from ..pacs.doctor_report import DoctorReport
from ..pacs.endpoint import Endpoint
from ..pacs.records import RetrieveReport, SeriesRecord, StudyRecord
from ..progress import ProgressCallback, report
from ..results.checked_results import write_checked_results
from ..results.edited_segments import with_fingerprints
from ..results.label_layers import LabelLayer, put_layers_together
from ..results.labels import LabelVolume, Provenance
from ..results.result_set import refuse_taken_folder
from ..series.dicom_file import file_state, read_dicom
from ..series.image_files import ImageFiles
from ..series.instance_store import InstanceStore
from ..series.offered_stacks import OfferedStack, offered_stacks
from ..series.regular_grid import regular_volume
from ..series.source_series import SourceSeries
from ..series.subject import Subject
from ..series.volume import ImageVolume
from .messages import ResultFile
from .model_run import ModelRun

Paths = Sequence[Path | str]
ModelName = str | Path | ModelCard


class Calls:
    """The public methods are the calls; see :class:`~.client.Worker`.

    The models and the volume used last stay in memory: the next run on them loads nothing.

    Parameters
    ----------
    progress
        Called during long steps.
    """

    def __init__(self, progress: ProgressCallback) -> None:
        self._progress = progress
        self._models = ResidentModels()
        self._volume: tuple[object, ImageVolume] | None = None

    def verify(self, *, endpoint: Endpoint) -> None:
        """Prove that the peer answers."""
        with connect(endpoint) as client:
            client.verify()

    def diagnose(self, *, endpoint: Endpoint, store_test_object: bool = False) -> DoctorReport:
        """Return which services of a PACS work for us, and what to tell its administrator."""
        return diagnose(endpoint, store_test_object=store_test_object)

    def find_studies(self, *, endpoint: Endpoint, **keys: object) -> list[StudyRecord]:
        """Return the studies that match all keys of :meth:`..pacs.client.PacsClient.find_studies`."""
        with connect(endpoint) as client:
            return client.find_studies(**keys)  # type: ignore[arg-type]

    def find_series(self, *, endpoint: Endpoint, study_uid: str) -> list[SeriesRecord]:
        """Return the series of a study."""
        with connect(endpoint) as client:
            return client.find_series(study_uid)

    def retrieve(
        self, *, endpoint: Endpoint, study_uid: str, series_uid: str | None = None, folder: Path | str
    ) -> RetrieveReport:
        """Bring a study, or one series of it, into the instance store in ``folder``."""
        with connect(endpoint) as client, InstanceStore(folder) as store:
            return client.retrieve(study_uid, series_uid, into=store, progress=self._progress)

    def instances(self, *, folder: Path | str, study_uid: str, series_uid: str) -> list[tuple[str, Path]]:
        """Return what the instance store in ``folder`` holds of a series: SOP Instance UIDs and files."""
        with InstanceStore(folder) as store:
            return [(found.sop_instance_uid, found.path) for found in store.instances(study_uid, series_uid)]

    def source(self, *, files: ImageFiles) -> SourceSeries:
        """Return the series that files are, sorted and checked, without its voxels."""
        return files.source()

    def stacks(self, *, paths: Paths) -> list[OfferedStack]:
        """Return what a person can choose from of a series that is no one regular volume."""
        return offered_stacks(paths)

    def read(self, *, files: ImageFiles) -> ImageVolume:
        """Return the volume of one series, as it is shown: an irregular one on its regular grid."""
        return regular_volume(self._read(files))

    def segment(
        self, *, files: ImageFiles, run: ModelRun, any_body_part: bool = False, subject: Subject | None = None
    ) -> LabelVolume:
        """Run a model on the volume of one series; its segments have fingerprints.

        With ``subject``, files that are of another patient or study are refused (ConflictError).
        """
        loaded = self._load(run)
        labels = loaded.segment(
            self._read(files, subject),
            any_body_part=any_body_part,
            probabilities=run.probabilities,
            memory_limit_bytes=run.memory_limit_bytes,
            progress=self._progress,
        )
        return with_fingerprints(labels)

    def plan(self, *, files: ImageFiles, run: ModelRun, subject: Subject | None = None) -> MemoryPlan:
        """Return how a model would run on the series and the memory that it would need."""
        loaded, volume = self._load(run), self._read(files, subject)
        return loaded.plan(volume, probabilities=run.probabilities, memory_limit_bytes=run.memory_limit_bytes)

    def release(self) -> None:
        """Give back the memory of the models and of the volume."""
        self._models.release()
        self._volume = None

    def fetch_weights(self, *, model: ModelName, from_file: Path | None = None) -> Path:
        """Fetch a model's weights, or take them from a file, and return their file."""
        return WeightsFolder.default().fetch(find_card(model), from_file=from_file, progress=self._progress)

    def programs(self, *, model: ModelName) -> list[tuple[str, str]]:
        """Return the SHA-256 and the name of every program that a model holds."""
        return programs_of(find_card(model))

    def export(
        self,
        *,
        files: ImageFiles,
        layers: Sequence[LabelLayer],
        provenance: Provenance | None = None,
        folder: Path | str,
        outputs: Sequence[str] | None = None,
        profile: str | None = None,
        endpoint: Endpoint | None = None,
        series_description: str | None = None,
    ) -> list[ResultFile]:
        """Write a segmentation of a series as DICOM objects, SEG first: all of them or none.

        Parameters
        ----------
        layers, provenance
            As :func:`~..results.label_layers.put_layers_together` takes them.
        profile, endpoint
            As :func:`~..delivery.agreement.agree_on_profile` takes them.
        folder, outputs, series_description
            As :func:`~..results.checked_results.write_checked_results` takes them.
        """
        refuse_taken_folder(Path(folder))  # before the work, not after it
        volume = self._read(files)
        written = write_checked_results(
            put_layers_together(layers, volume.source, provenance=provenance),
            volume,
            Path(folder),
            profile=agree_on_profile(endpoint, profile),
            outputs=outputs,
            series_description=series_description,
            progress=self._progress,
        )
        return [
            ResultFile(
                result.kind,
                str(result.dataset.SOPInstanceUID),
                result.path,
                tuple(f"{finding.path}: {finding.message}" if finding.path else finding.message for finding in found),
            )
            for result, found in written
            if result.path is not None
        ]

    def _read(self, files: ImageFiles, subject: Subject | None = None) -> ImageVolume:
        state = [files, *(file_state(path) for path in files.paths)]
        if self._volume is None or self._volume[0] != state:
            self._volume = None  # freed before the next one is read
            self._volume = state, files.volume(self._progress)
        volume = self._volume[1]
        if subject is not None:
            subject.refuse_others([Subject.of(volume.source.headers[0])])
        return volume

    def _load(self, run: ModelRun) -> Model:
        card = find_card(run.model)
        if card not in self._models:
            report(self._progress, "load model", 0)
        return self._models.get(card, run.device, precision=run.precision, mirror=run.mirror)

    def put(self, *, files: Paths, endpoint: Endpoint, outbox_folder: Path | str) -> int:
        """Put objects into the outbox for an endpoint and return how many of them wait for it."""
        datasets = (read_dicom(path) for path in files)  # one at a time in memory
        return len(Outbox(outbox_folder).put(datasets, endpoint.address))

    def deliver(
        self, *, endpoint: Endpoint, outbox_folder: Path | str, only: Sequence[str] | None = None
    ) -> DeliveryReport:
        """Send what waits for an endpoint (``only`` these SOP Instance UIDs) and prove that it arrived."""
        return deliver(Outbox(outbox_folder), endpoint, only=only, progress=self._progress)

    def redirect(self, *, ids: Sequence[int], endpoint: Endpoint, outbox_folder: Path | str) -> None:
        """Let some of what waits in the outbox go to another endpoint instead."""
        outbox = Outbox(outbox_folder)
        outbox.redirect([delivery for delivery in outbox.deliveries() if delivery.id in ids], endpoint.address)

    def discard(self, *, ids: Sequence[int], outbox_folder: Path | str) -> None:
        """Throw away some of what waits in the outbox."""
        outbox = Outbox(outbox_folder)
        outbox.discard(delivery for delivery in outbox.deliveries() if delivery.id in ids)

    def subjects(self, *, files: Paths) -> list[Subject]:
        """Return of whom and of which study objects are, each once."""
        return list(dict.fromkeys(Subject.of(read_dicom(path, stop_before_pixels=True)) for path in files))

    def outbox(self, *, outbox_folder: Path | str) -> list[Delivery]:
        """Return all that waits in the outbox."""
        return Outbox(outbox_folder).deliveries()
