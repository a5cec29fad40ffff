"""The PACS client for DIMSE: C-ECHO, C-FIND, C-GET or C-MOVE, C-STORE."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AssociationError, QueryError
from ..progress import CancelToken, ProgressCallback
from ..series.attribute_text import attribute_texts, text_element
from ..series.instance_store import InstanceStore
from . import query
from .association import associate
from .dimse import STUDY_ROOT_FIND, UNCOMPRESSED, VERIFICATION, status_meaning
from .dimse_retrieve import DimseRetriever
from .dimse_store import store_instances
from .endpoint import DimseEndpoint
from .records import InstanceRecord, RetrieveReport, SeriesRecord, StoreReport, StudyRecord
from .retrieval import retrieve_all

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00


class DimseClient:
    """A PACS reached by DIMSE; fulfils :class:`~.client.PacsClient`. One association per call."""

    def __init__(self, endpoint: DimseEndpoint) -> None:
        self.endpoint = endpoint
        self._retriever = DimseRetriever(endpoint)

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

    def find_studies(
        self,
        *,
        patient_id: str | None = None,
        patient_name: str | None = None,
        accession_number: str | None = None,
        study_date: str | None = None,
        modalities: str | Iterable[str] | None = None,
        study_uid: str | None = None,
        limit: int | None = None,
    ) -> list[StudyRecord]:
        """Return the studies that match all keys given; see :meth:`~.client.PacsClient.find_studies`."""
        filters = query.study_filters(
            patient_id=patient_id,
            patient_name=patient_name,
            accession_number=accession_number,
            study_date=study_date,
            modalities=modalities,
            study_uid=study_uid,
        )
        with self._find_association() as association:
            answers = self._find(association, "STUDY", query.STUDY_KEYS, filters, limit)
        return [query.study_record(answer) for answer in answers]

    def find_series(
        self, study_uid: str, *, series_uid: str | None = None, modality: str | None = None
    ) -> list[SeriesRecord]:
        """Return the series of one study."""
        query.check_uid(study_uid, "Study Instance UID")
        filters = {"StudyInstanceUID": study_uid}
        if series_uid:
            query.check_uid(series_uid, "Series Instance UID")
            filters["SeriesInstanceUID"] = series_uid
        if modality:
            filters["Modality"] = modality
        with self._find_association() as association:
            answers = self._find(association, "SERIES", query.SERIES_KEYS, filters)
        return [query.series_record(answer, study_uid) for answer in answers]

    def find_instances(self, study_uid: str, series_uid: str) -> list[InstanceRecord]:
        """Return the instances of one series."""
        query.check_uid(study_uid, "Study Instance UID")
        query.check_uid(series_uid, "Series Instance UID")
        with self._find_association() as association:
            return self._find_instances(association, study_uid, series_uid)

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
        expected = self._expected(study_uid, series_uid)
        return retrieve_all(
            expected,
            self._retriever.fetch,
            peer=self.endpoint.name,
            study_uid=study_uid,
            series_uid=series_uid,
            into=into,
            progress=progress,
            cancel=cancel,
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

    def _find_association(self):  # type: ignore[no-untyped-def]
        from pynetdicom import build_context

        return associate(self.endpoint, [build_context(STUDY_ROOT_FIND, list(UNCOMPRESSED))])

    def _expected(self, study_uid: str, series_uid: str | None) -> list[InstanceRecord]:
        query.check_uid(study_uid, "Study Instance UID")
        if series_uid:
            query.check_uid(series_uid, "Series Instance UID")
        with self._find_association() as association:
            if series_uid:
                return self._find_instances(association, study_uid, series_uid)
            series = self._find(association, "SERIES", query.SERIES_KEYS, {"StudyInstanceUID": study_uid})
            return [
                record
                for answer in series
                for record in self._find_instances(association, study_uid, answer["SeriesInstanceUID"])
            ]

    def _find_instances(self, association: "Association", study_uid: str, series_uid: str) -> list[InstanceRecord]:
        filters = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        answers = self._find(association, "IMAGE", query.INSTANCE_KEYS, filters)
        return [query.instance_record(answer, study_uid, series_uid) for answer in answers]

    def _find(
        self,
        association: "Association",
        level: str,
        keys: Sequence[str],
        filters: Mapping[str, str],
        limit: int | None = None,
    ) -> list[Mapping[str, str]]:
        """Send one C-FIND and return its distinct answers that fulfil the filters."""
        request = _identifier(level, keys, query.sendable(filters))
        uid_keyword = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        answers: list[Mapping[str, str]] = []
        seen: set[str] = set()
        enough = False
        unanswered = QueryError(
            "the peer did not answer the query, or broke the connection off",
            peer=self.endpoint.name,
            advice="Narrow the query, or raise dimse_timeout_s.",
        )
        try:
            responses = association.send_c_find(request, STUDY_ROOT_FIND)
        except RuntimeError as error:  # the association has ended since the last query
            raise unanswered from error
        for status, answer in responses:
            code = status.get("Status")
            if code is None:
                raise unanswered
            if code in _PENDING:
                if answer is None or enough:
                    continue
                attributes = self._texts(answer, keys)
                if query.matches(attributes, filters):
                    answers.append(attributes)
                    seen.add(attributes.get(uid_keyword, ""))
                if limit is not None and len(seen) >= limit:
                    enough = True
                    association.send_c_cancel(1, query_model=STUDY_ROOT_FIND)
            elif code not in (0, _CANCELLED) and not enough:
                raise QueryError(
                    f"the query was refused: {status_meaning(code)}",
                    peer=self.endpoint.name,
                    status=code,
                    advice="Ask the PACS administrator whether queries are allowed for our AE title.",
                )
        return query.distinct(answers, uid_keyword, self.endpoint.name)[:limit]

    def _texts(self, answer: "Dataset", keys: Sequence[str]) -> dict[str, str]:
        try:
            return attribute_texts(answer, keys)
        except Exception as error:  # parsers raise nearly anything on damaged input
            raise QueryError("an answer of the peer cannot be read", peer=self.endpoint.name) from error


def _identifier(level: str, keys: Sequence[str], filters: Mapping[str, str]) -> "Dataset":
    from pydicom import Dataset
    from pydicom.datadict import tag_for_keyword

    dataset = Dataset()
    if not all(value.isascii() for value in filters.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.QueryRetrieveLevel = level
    for keyword in keys:
        dataset.add(text_element(tag_for_keyword(keyword) or 0, filters.get(keyword, "")))
    return dataset
