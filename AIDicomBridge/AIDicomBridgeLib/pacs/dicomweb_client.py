"""The PACS client for DICOMweb: QIDO-RS, WADO-RS, STOW-RS (PS3.18 sections 10.4 to 10.6).

Built on requests instead of dicomweb-client, whose every path loses data against real servers: its retry sends an
empty body and reports success, a 202 or a 206 raises nothing, and it escapes the wildcards that Orthanc wants raw.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BridgeError, DiskSpaceError, EndpointError, JobCancelled, RetrieveError, UnreachableError
from ..progress import CancelToken, ProgressCallback
from ..series.instance_store import InstanceStore
from . import query
from .deadline import Deadline
from .dicomweb_search import DicomWebSearch
from .dicomweb_store import store_instances
from .endpoint import DicomWebEndpoint
from .file_stream import FileStream
from .http_session import HttpSession
from .multipart import MultipartSplitter, boundary_of
from .records import InstanceRecord, PatientRecord, RetrieveReport, SeriesRecord, StoreReport, StudyRecord
from .retrieval import ROUNDS, Retrieval, retrieve_all

if TYPE_CHECKING:
    from pydicom import Dataset

    from .http_exchange import HttpAnswer

# The default would be explicit VR little endian: Orthanc then left out what it could not transcode, with HTTP 200.
_ACCEPT_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# One request per instance costs about 40 ms of delayed acknowledge at Orthanc, a series 0.25 s for 300 images.
_FEW_INSTANCES = 8
_METHOD = "WADO-RS"


class DicomWebClient:
    """A PACS reached by DICOMweb; fulfils :class:`~.client.PacsClient`."""

    def __init__(self, endpoint: DicomWebEndpoint) -> None:
        self.endpoint = endpoint
        self._http = HttpSession(endpoint)

    def __enter__(self) -> "DicomWebClient":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def verify(self) -> None:
        """Ask for one study; raises what the failure is if the service does not answer as DICOMweb."""
        self._http.get_json("/studies", "limit=1", self._deadline(None))

    def find_patients(
        self,
        *,
        patient_id: str | None = None,
        patient_name: str | None = None,
        patient_birth_date: str | None = None,
        patient_sex: str | None = None,
        limit: int | None = None,
        cancel: CancelToken | None = None,
    ) -> list[PatientRecord]:
        """Return the patients of the studies that match; see :meth:`~.client.PacsClient.find_patients`."""
        filters = query.patient_filters(
            patient_id=patient_id,
            patient_name=patient_name,
            patient_birth_date=patient_birth_date,
            patient_sex=patient_sex,
        )
        answers = self._search("/studies", query.STUDY_KEYS, filters, "StudyInstanceUID", cancel=cancel)
        return query.patients_of(query.study_record(answer) for answer in answers)[:limit]

    def find_studies(
        self,
        *,
        patient_id: str | None = None,
        patient_name: str | None = None,
        accession_number: str | None = None,
        study_date: str | None = None,
        modalities: str | Iterable[str] | None = None,
        study_uid: str | None = None,
        patient_birth_date: str | None = None,
        study_time: str | None = None,
        study_id: str | None = None,
        study_description: str | None = None,
        referring_physician: str | None = None,
        limit: int | None = None,
        cancel: CancelToken | None = None,
    ) -> list[StudyRecord]:
        """Return the studies that match all keys given; see :meth:`~.client.PacsClient.find_studies`."""
        filters = query.study_filters(
            patient_id=patient_id,
            patient_name=patient_name,
            accession_number=accession_number,
            study_date=study_date,
            modalities=modalities,
            study_uid=study_uid,
            patient_birth_date=patient_birth_date,
            study_time=study_time,
            study_id=study_id,
            study_description=study_description,
            referring_physician=referring_physician,
        )
        answers = self._search("/studies", query.STUDY_KEYS, filters, "StudyInstanceUID", limit, cancel)
        return [query.study_record(answer) for answer in answers]

    def find_series(
        self,
        study_uid: str,
        *,
        series_uid: str | None = None,
        modality: str | None = None,
        series_number: str | None = None,
        series_description: str | None = None,
        cancel: CancelToken | None = None,
    ) -> list[SeriesRecord]:
        """Return the series of one study that match; see :meth:`~.client.PacsClient.find_series`."""
        filters = query.series_filters(
            study_uid,
            series_uid=series_uid,
            modality=modality,
            series_number=series_number,
            description=series_description,
        )
        del filters["StudyInstanceUID"]  # it stands in the path
        path = f"/studies/{study_uid}/series"
        answers = self._search(path, query.SERIES_KEYS, filters, "SeriesInstanceUID", cancel=cancel)
        return [query.series_record(answer, study_uid) for answer in answers]

    def find_instances(
        self, study_uid: str, series_uid: str, *, sop_class_uid: str | None = None, cancel: CancelToken | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of one series; see :meth:`~.client.PacsClient.find_instances`."""
        query.check_uid(study_uid, "Study Instance UID")
        query.check_uid(series_uid, "Series Instance UID")
        path = f"/studies/{study_uid}/series/{series_uid}/instances"
        answers = self._search(path, query.INSTANCE_KEYS, {}, "SOPInstanceUID", cancel=cancel)
        found = [query.instance_record(answer, study_uid, series_uid) for answer in answers]
        return [record for record in found if sop_class_uid in (None, record.sop_class_uid)]

    def retrieve(
        self,
        study_uid: str,
        series_uid: str | None = None,
        *,
        into: InstanceStore,
        sop_instance_uids: Collection[str] | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> RetrieveReport:
        """Bring a study, or one series of it, into a store; see :meth:`~.client.PacsClient.retrieve`."""
        deadline = self._deadline(cancel)
        series = self.find_series(study_uid, series_uid=series_uid, cancel=deadline)
        uids = [series_uid] if series_uid else [record.series_uid for record in series]
        counted = query.counted_instances(series)
        begun = None
        if sop_instance_uids is None and (new := [uid for uid in uids if not into.instances(study_uid, uid)]):
            begun = Retrieval(study_uid, into, progress, deadline, counted=counted)
            listed = self._fetch_while_listing(begun, new, uids)
        else:
            listed = self._list(study_uid, uids, deadline)
        return retrieve_all(
            listed,
            self._fetch,
            peer=self.endpoint.name,
            study_uid=study_uid,
            series_uid=series_uid,
            into=into,
            progress=progress,
            cancel=deadline,
            counted=counted,
            sop_instance_uids=sop_instance_uids,
            begun=begun,
        )

    def store(
        self,
        paths_or_datasets: "Iterable[Path | str | Dataset]",
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> StoreReport:
        """Store instances at the peer; see :meth:`~.client.PacsClient.store`."""
        return store_instances(self._http, paths_or_datasets, self.endpoint, progress=progress, cancel=cancel)

    def _search(
        self,
        path: str,
        keys: Sequence[str],
        filters: Mapping[str, str],
        uid_keyword: str,
        limit: int | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Mapping[str, str]]:
        search = DicomWebSearch(self._http, path, keys, uid_keyword, self.endpoint.name, self._deadline(cancel))
        return search.run(filters, limit)

    def _list(self, study_uid: str, series_uids: Iterable[str], cancel: CancelToken) -> list[InstanceRecord]:
        return [record for uid in series_uids for record in self.find_instances(study_uid, uid, cancel=cancel)]

    def _fetch_while_listing(
        self, begun: Retrieval, new: Sequence[str], series_uids: Sequence[str]
    ) -> list[InstanceRecord]:
        """Ask for whole series while another thread asks which instances they have: servers need long for either."""
        either = self._deadline(begun.cancel)  # ends, too, when there is no list to hold against what comes

        def listed() -> list[InstanceRecord]:
            try:
                return self._list(begun.study_uid, series_uids, either)
            except BaseException:
                either.cancel()
                raise

        with ThreadPoolExecutor(1, thread_name_prefix="aidicombridge-listing") as thread:
            listing = thread.submit(listed)
            try:
                for uid in new:
                    self._ask(f"/studies/{begun.study_uid}/series/{uid}", begun, either)
            except (EndpointError, DiskSpaceError):
                either.cancel()
                raise
            except BridgeError as error:  # what has come counts
                begun.round_reason = error.what
            except JobCancelled:
                listing.result()  # raises if it was the listing that failed
                raise
            finally:
                begun.into.sync()
            begun.methods.append(_METHOD)
            return listing.result()

    def _fetch(self, retrieval: Retrieval, round_number: int) -> str:
        """Ask once for what is missing, series by series, and instance by instance for a few; see retrieval."""
        for path in _paths(retrieval, one_by_one=round_number == ROUNDS):
            self._ask(path, retrieval, retrieval.cancel)
        return _METHOD

    def _ask(self, path: str, retrieval: Retrieval, cancel: CancelToken) -> None:
        with self._http.request("GET", path, cancel, accept=_ACCEPT_AS_STORED) as answer:
            if answer.status not in (200, 206):
                retrieval.round_reason = f"the peer answered HTTP {answer.status}"
                return
            try:
                self._receive(answer, retrieval)
            except (RetrieveError, UnreachableError) as error:
                retrieval.round_reason = error.what

    def _receive(self, answer: "HttpAnswer", retrieval: Retrieval) -> None:
        content_type = answer.header("Content-Type")
        boundary = boundary_of(content_type)
        if boundary is None and not content_type.lower().startswith("application/dicom"):
            raise RetrieveError(f"the peer answered {content_type.partition(';')[0] or 'nothing'} instead of DICOM")
        splitter = None if boundary is None else MultipartSplitter(boundary)
        self._keep_parts(_parts(answer.pieces(), splitter), retrieval)
        if splitter is not None and not splitter.closed:
            raise RetrieveError("the answer was cut off before its closing boundary")

    def _deadline(self, cancel: CancelToken | None) -> Deadline:
        """Return what ends an operation that begins now."""
        return Deadline(cancel, self.endpoint.total_timeout_s)

    def _keep_parts(self, pieces: Iterator[tuple[bytes | memoryview, bool]], retrieval: Retrieval) -> None:
        """Write the pieces of each part to the store as they come; a part that is cut off leaves nothing behind."""
        ended = True
        while ended:
            with FileStream(retrieval.into, retrieval.study_uid) as stream:
                ended = False
                for piece, ended in pieces:
                    stream.write(piece)
                    if ended:
                        retrieval.keep(stream)
                        break


def _parts(pieces: Iterable[bytes], splitter: MultipartSplitter | None) -> Iterator[tuple[bytes | memoryview, bool]]:
    """Yield pieces of files, each with whether its file ends with it; without a splitter the body is one file."""
    for piece in pieces:
        if splitter is None:
            yield piece, False
        else:
            yield from splitter.feed(piece)
    if splitter is None:
        yield b"", True


def _paths(retrieval: Retrieval, *, one_by_one: bool) -> Iterator[str]:
    missing = retrieval.missing
    for series_uid in dict.fromkeys(record.series_uid for record in missing):
        path = f"/studies/{retrieval.study_uid}/series/{series_uid}"
        in_series = [record for record in missing if record.series_uid == series_uid]
        total = sum(record.series_uid == series_uid for record in retrieval.expected)
        if one_by_one or (len(in_series) <= _FEW_INSTANCES and (len(in_series) < total or not retrieval.whole)):
            yield from (f"{path}/instances/{record.sop_instance_uid}" for record in in_series)
        else:
            yield path
