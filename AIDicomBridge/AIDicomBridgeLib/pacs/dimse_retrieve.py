"""C-GET and C-MOVE: one round of asking a PACS for what is missing."""

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NoContextAcceptedError, NotOfferedError
from ..progress import check_cancel
from ..series.attribute_text import text_element
from .association import associate
from .dimse import (
    COMMON_STORAGE_CLASSES,
    MAXIMUM_CONTEXTS,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    class_name,
    offered_syntaxes,
    status_meaning,
    storage_contexts,
)
from .endpoint import DimseEndpoint
from .parallel import run_parallel, shares
from .retrieval import Retrieval
from .scp_guard import ScpLimits
from .storage_scp import OUT_OF_RESOURCES, StorageScp
from .tls import receiving_context

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

# A UI element in explicit VR holds 65534 bytes: 1008 UIDs of 64 characters with their separators.
_UIDS_PER_REQUEST = 500
_LEAST_SHARE = 10  # instances for which another association is worth its while
_PATIENT_ID = 0x00100020
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
    """Fetches missing instances from one PACS by C-GET, or by C-MOVE where it does not offer C-GET.

    Parameters
    ----------
    patient_id
        Of the study, for a PACS of the Patient Root model.
    """

    def __init__(self, endpoint: DimseEndpoint, patient_id: str | None = None) -> None:
        self._endpoint = endpoint
        patient_root = endpoint.root == "patient"
        self._get_model = PATIENT_ROOT_GET if patient_root else STUDY_ROOT_GET
        self._move_model = PATIENT_ROOT_MOVE if patient_root else STUDY_ROOT_MOVE
        self._patient_id = patient_id if patient_root else None
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
        batches = list(_batches(_sop_classes(retrieval), _CLASSES_PER_ASSOCIATION))
        at_most = self._endpoint.associations
        whole = round_number == 1 and len(batches) == 1 and at_most == 1
        actions = [
            partial(self._get_on_one_association, retrieval, classes, requests, round_number)
            for classes in batches
            for requests in self._requests(retrieval, whole=whole, sop_classes=classes, share_count=at_most)
        ]
        run_parallel(actions, at_most, retrieval.show_progress)

    def _get_on_one_association(
        self, retrieval: Retrieval, classes: Sequence[str], requests: "Sequence[Dataset]", round_number: int
    ) -> None:
        from pynetdicom import build_context, build_role, evt

        syntaxes = offered_syntaxes(compressed_first=_compressed_first(round_number))
        contexts = [build_context(self._get_model, list(UNCOMPRESSED)), *storage_contexts(classes, syntaxes)]
        pending = _PendingGet(retrieval, show_progress=self._endpoint.associations == 1)
        try:
            with associate(
                self._endpoint,
                contexts,
                roles=[build_role(uid, scp_role=True) for uid in classes],
                handlers=[(evt.EVT_C_STORE, pending.receive)],
                receiver=retrieval.receiver,
            ) as association:
                if not _check_get_offered(association, classes, retrieval):
                    return
                for request in requests:
                    try:
                        answers = association.send_c_get(request, self._get_model)
                    except RuntimeError:
                        retrieval.round_reason = retrieval.round_reason or _ENDED
                        break
                    self._follow(retrieval, answers, "C-GET", association)
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
                peer_host=endpoint.move_from or endpoint.host,
                tls=receiving_context(endpoint.tls, endpoint.name),
                compressed_first=_compressed_first(round_number),
                limits=ScpLimits(idle_seconds=endpoint.dimse_timeout_s),
            ) as scp,
            associate(endpoint, [build_context(self._move_model, list(UNCOMPRESSED))]) as association,
        ):
            for request in self._requests(retrieval, whole=round_number == 1)[0]:
                try:
                    answers = association.send_c_move(request, endpoint.calling_ae_title, self._move_model)
                except RuntimeError:
                    retrieval.round_reason = retrieval.round_reason or _ENDED
                    break
                self._follow(retrieval, answers, "C-MOVE", association)
        if scp.turned_away and not retrieval.arrived_count:
            retrieval.round_reason = f"our receiver turned {scp.turned_away[0]} away"
        elif retrieval.round_reason and not retrieval.arrived_count:
            # All three are one status for most servers, so all three are named.
            retrieval.round_reason += (
                f"; the peer may not know our AE title {endpoint.calling_ae_title!r}, may have another address than"
                f" {endpoint.move_host}:{endpoint.move_port} for it, or cannot send this kind of object"
            )

    def _requests(
        self, retrieval: Retrieval, *, whole: bool, sop_classes: Sequence[str] | None = None, share_count: int = 1
    ) -> "list[list[Dataset]]":
        """Return the identifiers that ask for what is missing, in one list per association.

        Everything at once, or instance by instance.
        """
        missing = retrieval.missing
        series_uids = list(dict.fromkeys(record.series_uid for record in retrieval.expected))
        if whole and retrieval.whole and len(missing) == len(retrieval.expected):
            if len(series_uids) == 1:
                return [[self._identifier("SERIES", retrieval.study_uid, series_uids[0])]]
            return [[self._identifier("STUDY", retrieval.study_uid)]]
        wanted = [
            record
            for record in missing
            if sop_classes is None or not record.sop_class_uid or record.sop_class_uid in sop_classes
        ]
        return [
            [
                self._identifier("IMAGE", retrieval.study_uid, series_uid, some)
                for series_uid in series_uids
                for some in _batches(
                    (r.sop_instance_uid for r in share if r.series_uid == series_uid), _UIDS_PER_REQUEST
                )
            ]
            for share in shares(wanted, share_count, _LEAST_SHARE)
        ]

    def _identifier(
        self, level: str, study_uid: str, series_uid: str | None = None, sop_instance_uids: list[str] | None = None
    ) -> "Dataset":
        from pydicom import Dataset

        dataset = Dataset()
        dataset.QueryRetrieveLevel = level
        if self._patient_id is not None:
            dataset.add(text_element(_PATIENT_ID, self._patient_id))
        dataset.StudyInstanceUID = study_uid
        if series_uid:
            dataset.SeriesInstanceUID = series_uid
        if sop_instance_uids:
            dataset.SOPInstanceUID = sop_instance_uids
        return dataset

    def _follow(
        self,
        retrieval: Retrieval,
        answers: "Iterator[tuple[Dataset, Any]]",
        operation: str,
        association: "Association",
    ) -> None:
        """Read the answers to the last one; what it says is a reason for later, never proof of completeness."""
        for status in self._await_answers(association, answers, retrieval, operation):
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
        self, association: "Association", answers: "Iterator[tuple[Dataset, Any]]", retrieval: Retrieval, operation: str
    ) -> "Iterator[Dataset]":
        """Yield the status of each answer; whatever comes of instances meanwhile is a sign of life."""
        while True:
            arrived, heard = retrieval.arrived_count, retrieval.receiver.heard_bytes
            deadline = time.monotonic() + self._endpoint.dimse_timeout_s
            while association.dimse.msg_queue.empty() and association.is_established and time.monotonic() < deadline:
                check_cancel(retrieval.cancel)
                time.sleep(0.002)
                if retrieval.receiver.failure is not None:  # the disk is full: nothing more can be taken
                    raise retrieval.receiver.failure
                if retrieval.arrived_count != arrived:
                    if operation == "C-MOVE" or self._endpoint.associations == 1:
                        retrieval.show_progress()
                    arrived = retrieval.arrived_count
                if retrieval.receiver.heard_bytes != heard:
                    heard, deadline = retrieval.receiver.heard_bytes, time.monotonic() + self._endpoint.dimse_timeout_s
            if association.dimse.msg_queue.empty():
                retrieval.round_reason = f"the peer fell silent, or broke the connection off, during the {operation}"
                association.abort()
                return
            status, _identifier = next(answers)
            yield status
            if status.get("Status") not in _PENDING:
                return


class _PendingGet:
    """Receives the instances of one C-GET. An exception must not pass through pynetdicom, which would swallow it."""

    def __init__(self, retrieval: Retrieval, *, show_progress: bool) -> None:
        self._retrieval = retrieval
        self._show_progress = show_progress
        self.failure: Exception | None = None

    def receive(self, event: Any) -> int:
        if self.failure is None:
            try:
                check_cancel(self._retrieval.cancel)
                status = self._retrieval.receiver.receive(event)
                if self._show_progress:
                    self._retrieval.show_progress()
                self.failure = self._retrieval.receiver.failure
            except Exception as error:  # noqa: BLE001 - cancelled, or the progress callback failed: raised after the C-GET
                self.failure = error
            if self.failure is None:
                return status
            event.assoc.abort()
            event.assoc.dimse.msg_queue.put((None, None))  # ends the wait for the next message
        return OUT_OF_RESOURCES


def _compressed_first(round_number: int) -> bool:
    """Return whether compressed transfer syntaxes come first in this round.

    DCMTK's archive sends everything by the first context that was accepted for a SOP Class, and nothing if an instance
    is stored in another syntax that it cannot convert: what did not come in one order comes in the other.
    """
    return round_number % 2 == 0


def _sop_classes(retrieval: Retrieval) -> list[str]:
    """Return the SOP Classes of the missing instances, or the common ones where the peer does not tell."""
    classes = list(dict.fromkeys(record.sop_class_uid for record in retrieval.missing if record.sop_class_uid))
    complete = all(record.sop_class_uid for record in retrieval.missing)
    return classes if complete else list(dict.fromkeys([*classes, *COMMON_STORAGE_CLASSES]))


def _check_get_offered(association: "Association", classes: Sequence[str], retrieval: Retrieval) -> bool:
    """Return True if at least one SOP Class can come; remember why instances of the others cannot."""
    accepted = association.accepted_contexts
    if not any(context.abstract_syntax in (STUDY_ROOT_GET, PATIENT_ROOT_GET) for context in accepted):
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


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
