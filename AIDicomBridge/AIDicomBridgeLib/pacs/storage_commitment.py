"""Storage commitment (PS3.4 annex J): the PACS promises to keep what it was sent, or says what it does not."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EndpointError, NotOfferedError, StoreError
from ..progress import CancelToken
from ..series.dicom_file import is_uid
from .association import associate
from .deadline import Deadline
from .dimse import STORAGE_COMMITMENT, UNCOMPRESSED, application_entity, status_meaning
from .endpoint import DimseEndpoint
from .guarded_server import guarded_server
from .scp_guard import ScpLimits
from .tls import receiving_context

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.events import Event

_WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
_REQUEST = 1  # the action type, PS3.4 table J.3.2-1
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class CommitmentReport:
    """What a PACS answered to one request for commitment.

    Attributes
    ----------
    committed
        SOP Instance UIDs that the PACS promises to keep.
    failed
        SOP Instance UID -> why it does not; also those that its answer leaves out.
    """

    peer: str
    transaction_uid: str
    committed: tuple[str, ...]
    failed: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """True when the PACS promises to keep everything that was asked for."""
        return bool(self.committed) and not self.failed


def request_commitment(
    endpoint: DimseEndpoint,
    instances: Iterable[tuple[str, str]],
    *,
    timeout_s: float = 60.0,
    cancel: CancelToken | None = None,
) -> CommitmentReport:
    """Ask a PACS to commit itself to instances, and wait for its answer.

    The answer comes on the same association or, for most PACS, on another one to ``endpoint.move_port``, which the PACS
    must have on record for our AE title.

    Parameters
    ----------
    instances
        (SOP Class UID, SOP Instance UID) of each.
    timeout_s
        Most seconds to wait for the answer.

    Raises
    ------
    NotOfferedError
        The peer does not offer storage commitment.
    StoreError
        The request was refused.
    DeadlineError
        No answer came in time: the PACS may still keep the instances, but has not said so.
    JobCancelled
        Cancelled while waiting.
    """
    from pydicom.uid import generate_uid
    from pynetdicom import build_context, evt

    wanted = {uid: sop_class for sop_class, uid in instances}
    waiting = _Waiting(generate_uid(prefix=None))
    deadline = Deadline(cancel, timeout_s)
    handlers = [(evt.EVT_N_EVENT_REPORT, waiting.receive)]
    with ExitStack() as open_ones:
        if endpoint.move_port:
            open_ones.enter_context(_listening(endpoint, handlers))
        association = open_ones.enter_context(
            associate(endpoint, [build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED))], handlers=handlers)
        )
        status, _reply = association.send_n_action(
            _request(waiting.transaction_uid, wanted), _REQUEST, STORAGE_COMMITMENT, _WELL_KNOWN_INSTANCE
        )
        code = status.get("Status")
        if code is None:
            raise StoreError("the peer did not answer the request for storage commitment", peer=endpoint.name)
        if code in (0x0112, 0x0122, 0x0211):
            raise NotOfferedError("the peer does not offer storage commitment to us", peer=endpoint.name, status=code)
        if code != 0:
            raise StoreError(
                f"the request for storage commitment was refused: {status_meaning(code)}",
                peer=endpoint.name,
                status=code,
            )
        while not waiting.answered.wait(_POLL_SECONDS):
            deadline.raise_if_cancelled()
    failed = {
        uid: waiting.failed.get(uid, "the PACS does not name it") for uid in wanted if uid not in waiting.committed
    }
    return CommitmentReport(
        endpoint.name, waiting.transaction_uid, tuple(uid for uid in wanted if uid not in failed), failed
    )


class _Waiting:
    """Takes the one N-EVENT-REPORT that belongs to our transaction."""

    def __init__(self, transaction_uid: str) -> None:
        self.transaction_uid = transaction_uid
        self.answered = threading.Event()
        self.committed: set[str] = set()
        self.failed: dict[str, str] = {}

    def receive(self, event: "Event") -> "tuple[int, Dataset | None]":
        """Answer 0x0000 to our own transaction, 0x0115 (invalid argument) to any other."""
        try:
            information: Any = event.event_information
            if str(information.get("TransactionUID", "")) != self.transaction_uid:
                return 0x0115, None
            for item in information.get("ReferencedSOPSequence") or ():
                self.committed.add(str(item.ReferencedSOPInstanceUID))
            for item in information.get("FailedSOPSequence") or ():
                reason = int(item.get("FailureReason", 0x0110))
                uid = str(item.ReferencedSOPInstanceUID)
                if is_uid(uid):
                    self.failed[uid] = f"{_REASONS.get(reason, 'unknown reason')} (0x{reason:04X})"
                    self.committed.discard(uid)
        except Exception:  # noqa: BLE001 - parsers raise nearly anything on damaged input, which the status tells
            return 0x0110, None
        self.answered.set()
        return 0x0000, None


# PS3.3 C.14.1.1
_REASONS = {
    0x0110: "processing failure",
    0x0112: "the PACS does not hold it",
    0x0119: "it has another SOP Class there",
    0x0122: "its SOP Class is not supported",
    0x0131: "duplicate transaction",
    0x0213: "resource limitation",
}


@contextmanager
def _listening(endpoint: DimseEndpoint, handlers: list[Any]) -> Iterator[None]:
    limits = ScpLimits(message_bytes=2**24)
    entity = application_entity(
        endpoint.calling_ae_title, association_timeout_s=limits.idle_seconds, dimse_timeout_s=limits.idle_seconds
    )
    entity.require_calling_aet = [endpoint.ae_title]
    # The PACS stays the SCP of commitment on the association that it opens: it asks for that by role selection.
    entity.add_supported_context(STORAGE_COMMITMENT, list(UNCOMPRESSED), scu_role=False, scp_role=True)
    with ExitStack() as running:
        try:
            address = (endpoint.move_host, endpoint.move_port)
            running.enter_context(
                guarded_server(entity, address, handlers, limits, tls=receiving_context(endpoint.tls, endpoint.name))
            )
        except OSError as error:
            raise EndpointError(
                f"we cannot receive on {endpoint.move_host}:{endpoint.move_port}: {error.strerror}",
                peer=endpoint.name,
                advice="Choose another move_port, and tell the PACS administrator.",
            ) from error
        yield


def _request(transaction_uid: str, wanted: Mapping[str, str]) -> "Dataset":
    from pydicom import Dataset

    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = []
    for uid, sop_class in wanted.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        request.ReferencedSOPSequence.append(item)
    return request
