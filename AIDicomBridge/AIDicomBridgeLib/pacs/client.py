"""The one protocol that every kind of PACS connection fulfils, and :func:`connect`, which opens one."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..progress import CancelToken, ProgressCallback
from ..series.instance_store import InstanceStore
from .endpoint import DicomWebEndpoint, DimseEndpoint, Endpoint
from .records import InstanceRecord, PatientRecord, RetrieveReport, SeriesRecord, StoreReport, StudyRecord

if TYPE_CHECKING:
    from pydicom import Dataset


class PacsClient(Protocol):
    """A connection to one PACS; a context manager. Failures are raised as errors of :mod:`..errors`."""

    @property
    def endpoint(self) -> Endpoint:
        """Where the PACS answers."""

    def __enter__(self) -> "PacsClient": ...

    def __exit__(self, *exc_info: object) -> None: ...

    def verify(self) -> None:
        """Prove that the peer answers us (C-ECHO, or an empty QIDO-RS query)."""

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
        """Return the studies that match all keys given.

        ``*`` and ``?`` are wildcards in texts; dates are ``YYYYMMDD`` or a range ``YYYYMMDD-YYYYMMDD`` (either end may
        be missing), times ``HHMMSS`` in the same way. What the peer matched too loosely is filtered again here. With
        ``limit`` the peer is asked to stop after so many.
        """

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
        """Return the patients that match; taken from their studies where the peer has no patient level."""

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
        """Return the series of one study that match."""

    def find_instances(
        self, study_uid: str, series_uid: str, *, sop_class_uid: str | None = None, cancel: CancelToken | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of one series, of one SOP Class where given."""

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
        """Bring a study, or one series of it, into a store and count it against the peer's own instance list.

        With ``sop_instance_uids`` only these of its instances are brought.
        """

    def store(
        self,
        paths_or_datasets: "Iterable[Path | str | Dataset]",
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> StoreReport:
        """Store instances at the peer; the report gives each its own outcome."""


def connect(endpoint: Endpoint) -> PacsClient:
    """Return the client for an endpoint. Nothing is sent before the first call."""
    if isinstance(endpoint, DimseEndpoint):
        from .dimse_client import DimseClient

        return DimseClient(endpoint)
    if isinstance(endpoint, DicomWebEndpoint):
        from .dicomweb_client import DicomWebClient

        return DicomWebClient(endpoint)
    raise TypeError(f"connect() takes a DimseEndpoint or a DicomWebEndpoint, not {type(endpoint).__name__}")
