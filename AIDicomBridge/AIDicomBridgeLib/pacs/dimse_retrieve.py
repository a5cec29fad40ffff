"""C-GET and C-MOVE: one round of asking a PACS for what is missing."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NoContextAcceptedError, NotOfferedError
from ..progress import check_cancel
from .association import associate
from .dimse import (
    COMMON_STORAGE_CLASSES,
    MAXIMUM_CONTEXTS,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    class_name,
    status_meaning,
    storage_contexts,
)
from .endpoint import DimseEndpoint
from .retrieval import Retrieval
from .storage_scp import OUT_OF_RESOURCES, StorageScp

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

# A UI element in explicit VR holds 65534 bytes: 1008 UIDs of 64 characters with their separators.
_UIDS_PER_REQUEST = 500
_CLASSES_PER_ASSOCIATION = (MAXIMUM_CONTEXTS - 1) // len(TRANSFER_SYNTAXES)
_PENDING = (0xFF00, 0xFF01)
# Statuses that say "not this service", not "not this object": SOP Class not supported, unrecognised operation, not
# authorised, identifier does not match SOP Class.
_NOT_OFFERED = (0x0122, 0x0211, 0x0124, 0xA900)
_ENDED = "the peer ended the association before it was asked for all"  # pynetdicom raises RuntimeError then
_T = TypeVar("_T")


class _GetNotOffered(Exception):  # noqa: N818 - not an error: the reason to try C-MOVE
    pass


class DimseRetriever:
    """Fetches missing instances from one PACS by C-GET, or by C-MOVE where it does not offer C-GET."""

    def __init__(self, endpoint: DimseEndpoint) -> None:
        self._endpoint = endpoint
        self._method = endpoint.retrieve

    def fetch(self, retrieval: Retrieval, round_number: int) -> str:
        """Ask once for what is missing and return the method used; see :func:`~.retrieval.retrieve_all`."""
        # What did not come by C-GET comes by C-MOVE where we may: Orthanc, for one, sends some SOP Classes only so.
        again = self._method == "auto" and round_number > 1 and self._endpoint.move_port
        if self._method != "C-MOVE" and not again:
            try:
                self._get(retrieval, round_number)
            except _GetNotOffered as refusal:
                if self._method == "C-GET" or not self._endpoint.move_port:
                    raise NotOfferedError(
                        f"the peer does not offer C-GET to us: {refusal}",
                        uid=retrieval.study_uid,
                        peer=self._endpoint.name,
                        advice="Use C-MOVE: give move_port, and have the PACS administrator enter our AE title with"
                        " this host and that port.",
                    ) from refusal
                self._method = "C-MOVE"
            else:
                return "C-GET"
        self._move(retrieval, round_number)
        return "C-MOVE"

    def _get(self, retrieval: Retrieval, round_number: int) -> None:
        from pynetdicom import build_context, build_role, evt

        for classes in _batches(_sop_classes(retrieval), _CLASSES_PER_ASSOCIATION):
            whole = round_number == 1 and len(_sop_classes(retrieval)) <= _CLASSES_PER_ASSOCIATION
            contexts = [build_context(STUDY_ROOT_GET, list(UNCOMPRESSED)), *storage_contexts(classes)]
            pending = _PendingGet(retrieval)
            try:
                with associate(
                    self._endpoint,
                    contexts,
                    roles=[build_role(uid, scp_role=True) for uid in classes],
                    handlers=[(evt.EVT_C_STORE, pending.receive)],
                ) as association:
                    if not _check_get_offered(association, classes, retrieval):
                        continue
                    for request in _requests(retrieval, whole=whole, sop_classes=classes):
                        try:
                            answers = association.send_c_get(request, STUDY_ROOT_GET)
                        except RuntimeError:
                            retrieval.round_reason = retrieval.round_reason or _ENDED
                            break
                        self._follow(retrieval, answers, "C-GET")
                        if pending.failure is not None:
                            raise pending.failure
            except NoContextAcceptedError as error:
                raise _GetNotOffered("no presentation context was accepted") from error

    def _move(self, retrieval: Retrieval, round_number: int) -> None:
        from pynetdicom import build_context

        endpoint = self._endpoint
        with (
            StorageScp(
                retrieval.receiver,
                ae_title=endpoint.calling_ae_title,
                peer_ae_title=endpoint.ae_title,
                host=endpoint.move_host,
                port=endpoint.move_port,
                sop_classes=_sop_classes(retrieval),
            ) as scp,
            associate(endpoint, [build_context(STUDY_ROOT_MOVE, list(UNCOMPRESSED))]) as association,
        ):
            for request in _requests(retrieval, whole=round_number == 1):
                try:
                    answers = association.send_c_move(request, endpoint.calling_ae_title, STUDY_ROOT_MOVE)
                except RuntimeError:
                    retrieval.round_reason = retrieval.round_reason or _ENDED
                    break
                self._follow(retrieval, self._await_answers(association, answers, retrieval), "C-MOVE")
        if scp.rejected_ae_titles and not retrieval.arrived_count:
            retrieval.round_reason = (
                f"our receiver turned {scp.rejected_ae_titles[0]!r} away, since it expects {endpoint.ae_title!r}"
            )
        elif retrieval.round_reason and not retrieval.arrived_count:
            # All three are one status for most servers, so all three are named.
            retrieval.round_reason += (
                f"; the peer may not know our AE title {endpoint.calling_ae_title!r}, may have another address than"
                f" {endpoint.move_host}:{endpoint.move_port} for it, or cannot send this kind of object"
            )

    def _follow(self, retrieval: Retrieval, answers: "Iterable[tuple[Dataset, Any]]", operation: str) -> None:
        """Read the answers to the last one; what it says is a reason for later, never proof of completeness."""
        for status, _identifier in answers:
            code = status.get("Status")
            if code is None:
                retrieval.round_reason = f"the peer fell silent, or broke the connection off, during the {operation}"
            elif code in _PENDING:
                retrieval.show_progress()
            elif code in _NOT_OFFERED and operation == "C-GET" and not retrieval.arrived_count:
                raise _GetNotOffered(f"{status_meaning(code)} (status 0x{code:04X})")
            elif code != 0:
                retrieval.round_reason = f"the {operation} ended with 0x{code:04X} ({status_meaning(code)})"

    def _await_answers(
        self, association: "Association", answers: "Iterator[tuple[Dataset, Any]]", retrieval: Retrieval
    ) -> "Iterator[tuple[Dataset, Any]]":
        """Yield the answers of a C-MOVE; instances that arrive meanwhile count as signs of life."""
        while True:
            arrived, deadline = retrieval.arrived_count, time.monotonic() + self._endpoint.dimse_timeout_s
            while association.dimse.msg_queue.empty() and association.is_established and time.monotonic() < deadline:
                check_cancel(retrieval.cancel)
                time.sleep(0.002)
                if retrieval.arrived_count != arrived:
                    retrieval.show_progress()
                    arrived, deadline = retrieval.arrived_count, time.monotonic() + self._endpoint.dimse_timeout_s
            if association.dimse.msg_queue.empty():
                retrieval.round_reason = "the peer fell silent, or broke the connection off, during the C-MOVE"
                association.abort()
                return
            status, identifier = next(answers)
            yield status, identifier
            if status.get("Status") not in _PENDING:
                return


class _PendingGet:
    """Receives the instances of one C-GET. An exception must not pass through pynetdicom, which would swallow it."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval
        self.failure: Exception | None = None

    def receive(self, event: Any) -> int:
        if self.failure is None:
            try:
                check_cancel(self._retrieval.cancel)
                status = self._retrieval.receiver.receive(event)
                self._retrieval.show_progress()
                self.failure = self._retrieval.receiver.failure
            except Exception as error:  # noqa: BLE001 - cancelled, or the progress callback failed: raised after the C-GET
                self.failure = error
            if self.failure is None:
                return status
            event.assoc.abort()
            event.assoc.dimse.msg_queue.put((None, None))  # ends the wait for the next message
        return OUT_OF_RESOURCES


def _sop_classes(retrieval: Retrieval) -> list[str]:
    """Return the SOP Classes of the missing instances, or the common ones where the peer does not tell."""
    classes = list(dict.fromkeys(record.sop_class_uid for record in retrieval.missing if record.sop_class_uid))
    complete = all(record.sop_class_uid for record in retrieval.missing)
    return classes if complete else list(dict.fromkeys([*classes, *COMMON_STORAGE_CLASSES]))


def _check_get_offered(association: "Association", classes: Sequence[str], retrieval: Retrieval) -> bool:
    """Return True if at least one SOP Class can come; remember why instances of the others cannot."""
    accepted = association.accepted_contexts
    if not any(context.abstract_syntax == STUDY_ROOT_GET for context in accepted):
        raise _GetNotOffered("its presentation context was not accepted")
    receivable = {str(context.abstract_syntax) for context in accepted if context.as_scp}
    for record in retrieval.missing:
        if record.sop_class_uid in classes and record.sop_class_uid not in receivable:
            retrieval.reasons[record.sop_instance_uid] = (
                f"the peer accepts no presentation context to send us {class_name(record.sop_class_uid)} by C-GET"
            )
    if not receivable and not retrieval.arrived_count:
        raise _GetNotOffered("it may not send us anything on the same association (role selection refused)")
    return bool(receivable)


def _requests(retrieval: Retrieval, *, whole: bool, sop_classes: Sequence[str] | None = None) -> "Iterator[Dataset]":
    """Yield the identifiers that ask for what is missing: everything at once, or instance by instance."""
    missing = retrieval.missing
    series_uids = list(dict.fromkeys(record.series_uid for record in retrieval.expected))
    if whole and retrieval.whole and len(missing) == len(retrieval.expected):
        if len(series_uids) == 1:
            yield _identifier("SERIES", retrieval.study_uid, series_uids[0])
        else:
            yield _identifier("STUDY", retrieval.study_uid)
        return
    for series_uid in series_uids:
        uids = [
            record.sop_instance_uid
            for record in missing
            if record.series_uid == series_uid
            and (sop_classes is None or not record.sop_class_uid or record.sop_class_uid in sop_classes)
        ]
        for some in _batches(uids, _UIDS_PER_REQUEST):
            yield _identifier("IMAGE", retrieval.study_uid, series_uid, some)


def _identifier(
    level: str, study_uid: str, series_uid: str | None = None, sop_instance_uids: list[str] | None = None
) -> "Dataset":
    from pydicom import Dataset

    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    dataset.StudyInstanceUID = study_uid
    if series_uid:
        dataset.SeriesInstanceUID = series_uid
    if sop_instance_uids:
        dataset.SOPInstanceUID = sop_instance_uids
    return dataset


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
