"""C-FIND on either information model: one query, its answers filtered, limited and cancelled."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import QueryError
from ..progress import CancelToken, check_cancel
from ..series.attribute_text import attribute_texts, text_element
from . import query
from .association import associate
from .dimse import PATIENT_ROOT_FIND, STUDY_ROOT_FIND, UNCOMPRESSED, status_meaning
from .endpoint import DimseEndpoint

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00
# How long a peer may take to obey a C-CANCEL; some take 20 s, and all the while their answers are of no use.
_CANCEL_SECONDS = 2.0
_UID_KEYWORDS = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}


class DimseQuery:
    """An association for queries; a context manager."""

    def __init__(self, endpoint: DimseEndpoint, cancel: CancelToken | None = None) -> None:
        from pynetdicom import build_context

        self._endpoint = endpoint
        self._cancel = cancel
        self._model = PATIENT_ROOT_FIND if endpoint.root == "patient" else STUDY_ROOT_FIND
        self._opening = associate(endpoint, [build_context(self._model, list(UNCOMPRESSED))])

    def __enter__(self) -> "DimseQuery":
        self._association: Association = self._opening.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._opening.__exit__(*exc_info)

    def find(
        self, level: str, keys: Sequence[str], filters: Mapping[str, str], limit: int | None = None
    ) -> list[Mapping[str, str]]:
        """Send one C-FIND and return its distinct answers that fulfil the filters.

        Raises
        ------
        QueryError
            The peer refused the query, did not answer it or not to the end, or answers nonsense.
        JobCancelled
            The peer was asked to stop.
        """
        request = _identifier(level, keys, query.sendable(filters))
        uid_keyword = _UID_KEYWORDS.get(level, "SOPInstanceUID")
        answers: list[Mapping[str, str]] = []
        seen: set[str] = set()
        for code, answer in self._responses(request):
            if code in _PENDING:
                if answer is None:
                    continue
                attributes = self._texts(answer, keys)
                if query.matches(attributes, filters):
                    answers.append(attributes)
                    seen.add(attributes.get(uid_keyword, ""))
                if limit is not None and len(seen) >= limit:
                    break
            elif code == _CANCELLED:  # and nobody asked for that: Orthanc ends so at its own limit of answers
                raise QueryError(
                    "the peer broke its list of matches off",
                    peer=self._endpoint.name,
                    status=code,
                    advice="Narrow the query, or ask the PACS administrator to raise the limit of matches.",
                )
            elif code != 0:
                raise QueryError(
                    f"the query was refused: {status_meaning(code)}",
                    peer=self._endpoint.name,
                    status=code,
                    advice="Ask the PACS administrator whether queries are allowed for our AE title.",
                )
        if level == "PATIENT":  # a patient's ID need not be unique, nor is it a UID
            return answers[:limit]
        return query.distinct(answers, uid_keyword, self._endpoint.name)[:limit]

    def study_instances(
        self, study_uid: str, above: Mapping[str, str], series_uid: str | None
    ) -> tuple[list[Mapping[str, str]], int | None]:
        """Return the instances of a study or of one series of it, each with its Series Instance UID.

        Beside them stands how many the peer counts, at the level of series; None where it does not say.
        """
        upper = {**above, "StudyInstanceUID": study_uid}
        series = self.find(
            "SERIES", query.SERIES_KEYS, upper | ({"SeriesInstanceUID": series_uid} if series_uid else {})
        )
        listed: list[Mapping[str, str]] = [
            {**answer, "SeriesInstanceUID": answer.get("SeriesInstanceUID") or uid}
            for uid in ([series_uid] if series_uid else [found["SeriesInstanceUID"] for found in series])
            for answer in self.find("IMAGE", query.INSTANCE_KEYS, {**upper, "SeriesInstanceUID": uid})
        ]
        return listed, query.counted_instances(query.series_record(answer, study_uid) for answer in series)

    def _responses(self, request: "Dataset") -> "Iterator[tuple[int, Dataset | None]]":
        """Yield status and identifier of each response; ask the peer to stop when the reader does, or on a cancel."""
        unanswered = QueryError(
            "the peer did not answer the query, or broke the connection off",
            peer=self._endpoint.name,
            advice="Narrow the query, or raise dimse_timeout_s.",
        )
        try:
            responses = self._association.send_c_find(request, self._model)
        except RuntimeError as error:  # the association has ended since the last query
            raise unanswered from error
        finished = False
        try:
            while True:
                check_cancel(self._cancel)
                self._await_response(time.monotonic() + self._endpoint.dimse_timeout_s)
                status, answer = next(responses, (None, None))
                code = None if status is None else status.get("Status")
                if code is None:
                    finished = True
                    raise unanswered
                finished = code not in _PENDING
                yield code, answer
                if finished:
                    return
        finally:
            if not finished:
                self._stop(responses)

    def _await_response(self, deadline: float) -> None:
        """Wait without blocking a cancel; pynetdicom's own wait, which follows, ends at once or by its own timeout."""
        messages = self._association.dimse.msg_queue
        while messages.empty() and self._association.is_established and time.monotonic() < deadline:
            check_cancel(self._cancel)
            time.sleep(0.001)

    def _stop(self, responses: "Iterator[tuple[Dataset, Dataset | None]]") -> None:
        """Send a C-CANCEL; abort if the peer goes on."""
        association = self._association
        deadline = time.monotonic() + _CANCEL_SECONDS
        if association.is_established:
            association.send_c_cancel(1, query_model=self._model)
        while association.is_established and time.monotonic() < deadline:
            if association.dimse.msg_queue.empty():
                time.sleep(0.001)
                continue
            status, _answer = next(responses)
            if status.get("Status") not in _PENDING:
                return
        association.abort()

    def _texts(self, answer: "Dataset", keys: Sequence[str]) -> dict[str, str]:
        try:
            return attribute_texts(answer, keys)
        except Exception:  # noqa: BLE001 - parsers raise nearly anything on damaged input, and quote it
            raise QueryError("an answer of the peer cannot be read", peer=self._endpoint.name) from None


def _identifier(level: str, keys: Sequence[str], filters: Mapping[str, str]) -> "Dataset":
    from pydicom import Dataset
    from pydicom.datadict import tag_for_keyword

    dataset = Dataset()
    if not all(value.isascii() for value in filters.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.QueryRetrieveLevel = level
    for keyword in dict.fromkeys([*keys, *filters]):
        dataset.add(text_element(tag_for_keyword(keyword) or 0, filters.get(keyword, "")))
    return dataset
