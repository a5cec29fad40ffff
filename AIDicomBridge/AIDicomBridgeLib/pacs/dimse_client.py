"""The PACS client for DIMSE: C-ECHO, C-FIND, C-GET or C-MOVE, C-STORE, storage commitment."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AssociationError
from ..progress import CancelToken, ProgressCallback
from ..series.instance_store import InstanceStore
from . import query
from .association import associate
from .deadline import Deadline
from .dimse import UNCOMPRESSED, VERIFICATION
from .dimse_find import DimseQuery
from .dimse_retrieve import DimseRetriever
from .dimse_store import store_instances
from .endpoint import DimseEndpoint
from .records import InstanceRecord, PatientRecord, RetrieveReport, SeriesRecord, StoreReport, StudyRecord
from .retrieval import retrieve_all
from .storage_commitment import CommitmentReport, request_commitment

if TYPE_CHECKING:
    from pydicom import Dataset


class DimseClient:
    """A PACS reached by DIMSE; fulfils :class:`~.client.PacsClient`. One association per call."""

    def __init__(self, endpoint: DimseEndpoint) -> None:
        self.endpoint = endpoint
        self._patient_ids: dict[str, str] = {}  # of studies that were found, for the Patient Root model

    def __enter__(self) -> "DimseClient":
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing stays open between calls."""

    def verify(self) -> None:
        """Send a C-ECHO; raises UnreachableError or AssociationError if it is not answered with success."""
        from pynetdicom import build_context

        with associate(self.endpoint, [build_context(VERIFICATION, list(UNCOMPRESSED))]) as association:
            try:
                status = association.send_c_echo().get("Status")
            except RuntimeError:  # the association has ended already
                status = None
            if status != 0:
                raise AssociationError(
                    "the C-ECHO was not answered with success",
                    peer=self.endpoint.name,
                    status=status,
                    advice="Ask the PACS administrator whether verification is allowed for our AE title.",
                )

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
        """Return the patients that match; see :meth:`~.client.PacsClient.find_patients`."""
        filters = query.patient_filters(
            patient_id=patient_id,
            patient_name=patient_name,
            patient_birth_date=patient_birth_date,
            patient_sex=patient_sex,
        )
        with DimseQuery(self.endpoint, cancel) as asking:
            if self.endpoint.root == "patient":
                return [query.patient_record(a) for a in asking.find("PATIENT", query.PATIENT_KEYS, filters, limit)]
            studies = asking.find("STUDY", query.STUDY_KEYS, filters)
        return query.patients_of(query.study_record(answer) for answer in studies)[:limit]

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
        with DimseQuery(self.endpoint, cancel) as asking:
            answers = asking.find("STUDY", query.STUDY_KEYS, filters, limit)
        for answer in answers:
            self._patient_ids[answer["StudyInstanceUID"]] = answer.get("PatientID", "")
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
        with DimseQuery(self.endpoint, cancel) as asking:
            answers = asking.find("SERIES", query.SERIES_KEYS, {**self._above(asking, study_uid), **filters})
        return [query.series_record(answer, study_uid) for answer in answers]

    def find_instances(
        self, study_uid: str, series_uid: str, *, sop_class_uid: str | None = None, cancel: CancelToken | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of one series; see :meth:`~.client.PacsClient.find_instances`."""
        found, _counted = self._instances(study_uid, series_uid, cancel)
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
        deadline = Deadline(cancel, self.endpoint.total_timeout_s)
        expected, counted = self._instances(study_uid, series_uid, deadline)
        return retrieve_all(
            expected,
            DimseRetriever(self.endpoint, self._patient_ids.get(study_uid)).fetch,
            peer=self.endpoint.name,
            study_uid=study_uid,
            series_uid=series_uid,
            into=into,
            progress=progress,
            cancel=deadline,
            counted=counted,
            sop_instance_uids=sop_instance_uids,
        )

    def store(
        self,
        paths_or_datasets: "Iterable[Path | str | Dataset]",
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> StoreReport:
        """Store instances at the peer; see :meth:`~.client.PacsClient.store`."""
        return store_instances(self.endpoint, paths_or_datasets, progress=progress, cancel=cancel)

    def commit(
        self, instances: Iterable[tuple[str, str]], *, timeout_s: float = 60.0, cancel: CancelToken | None = None
    ) -> CommitmentReport:
        """Ask for storage commitment of (SOP Class UID, SOP Instance UID); see
        :func:`~.storage_commitment.request_commitment`.
        """
        return request_commitment(self.endpoint, instances, timeout_s=timeout_s, cancel=cancel)

    def _instances(
        self, study_uid: str, series_uid: str | None, cancel: CancelToken | None
    ) -> tuple[list[InstanceRecord], int | None]:
        """Return the instances that the peer lists, and how many it counts."""
        query.check_uid(study_uid, "Study Instance UID")
        if series_uid:
            query.check_uid(series_uid, "Series Instance UID")
        with DimseQuery(self.endpoint, cancel) as asking:
            answers, counted = asking.study_instances(study_uid, self._above(asking, study_uid), series_uid)
        return [query.instance_record(answer, study_uid, answer["SeriesInstanceUID"]) for answer in answers], counted

    def _above(self, asking: DimseQuery, study_uid: str) -> dict[str, str]:
        """Return the key of the level above the study, which the Patient Root model demands (PS3.4 C.4.1.2.2.1)."""
        if self.endpoint.root != "patient":
            return {}
        if study_uid not in self._patient_ids:
            found = asking.find("STUDY", query.STUDY_KEYS, {"StudyInstanceUID": study_uid})
            self._patient_ids |= {answer["StudyInstanceUID"]: answer.get("PatientID", "") for answer in found}
        return {"PatientID": self._patient_ids.get(study_uid, "")}
