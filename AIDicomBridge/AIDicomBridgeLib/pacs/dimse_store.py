"""C-STORE: every instance under its stored transfer syntax, every status looked at."""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AssociationError, BadDicomError, BridgeError, DeadlineError, NoContextAcceptedError, format_status
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .association import associate
from .deadline import Deadline
from .dimse import UNCOMPRESSED, VERIFICATION, class_name, status_meaning
from .endpoint import DimseEndpoint
from .fast_send import FastSender
from .outgoing import OutgoingInstance, read_outgoing
from .parallel import run_parallel, shares
from .records import InstanceOutcome, Outcome, StoreReport
from .scp_guard import ORDINARY_WAY

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

# Two presentation contexts per kind and one for verification stay below 128.
_KINDS_PER_ASSOCIATION = 60
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.5
_LEAST_SHARE = 10  # instances for which another association is worth its while
_OTHER_WARNINGS = (0x0001, 0x0107, 0x0116)  # beside 0xBxxx, PS3.7 annex C: the instance was stored


def store_instances(
    endpoint: DimseEndpoint,
    paths_or_datasets: "Iterable[Path | str | Dataset]",
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> StoreReport:
    """Send instances by C-STORE.

    An instance whose answer is lost is sent again on a new association, since storing the same instance twice is
    the same as storing it once; after three attempts its outcome stays UNKNOWN.

    Raises
    ------
    BadDicomError
        A file or data set cannot be sent; nothing was.
    UnreachableError, AssociationError
        Not even the first association came about.
    JobCancelled
        Cancelled between two instances.
    """
    started = time.monotonic()
    instances = read_outgoing(paths_or_datasets)
    outcomes: dict[str, InstanceOutcome] = {}
    cancel = Deadline(cancel, endpoint.total_timeout_s)
    sending = _Sending(endpoint, len(instances), outcomes, progress, cancel)
    at_once = endpoint.associations
    nobody_got_in = True
    for attempt in range(_ATTEMPTS):
        open_ones = [item for item in instances if item.sop_instance_uid not in outcomes]
        batches = [share for batch in _batches_by_kind(open_ones) for share in shares(batch, at_once, _LEAST_SHARE)]
        run_parallel([partial(sending.try_batch, batch) for batch in batches], at_once, sending.show_progress)
        may_be_too_many = endpoint.associations > 1 and sending.turned_away > 0 and attempt + 1 < _ATTEMPTS
        if nobody_got_in and sending.first_failure is not None and not outcomes and not may_be_too_many:
            raise sending.first_failure
        nobody_got_in = nobody_got_in and sending.turned_away == len(batches)
        if sending.out_of_time:
            break
        at_once, sending.turned_away = max(1, at_once - sending.turned_away), 0  # peers limit how many they accept
        if may_be_too_many:  # and count for a while those that have ended
            cancel.wait(_PAUSE_SECONDS * (attempt + 1))
    for item in instances:
        outcomes.setdefault(
            item.sop_instance_uid, InstanceOutcome(item.sop_instance_uid, Outcome.UNKNOWN, reason=sending.last_reason)
        )
    return StoreReport(
        peer=endpoint.name,
        outcomes=tuple(outcomes[item.sop_instance_uid] for item in instances),
        method="C-STORE",
        seconds=time.monotonic() - started,
        byte_count=sending.byte_count,
    )


class _Sending:
    """Sends batches and enters each answer into ``outcomes``; what has no answer is left out of it."""

    def __init__(
        self,
        endpoint: DimseEndpoint,
        total: int,
        outcomes: dict[str, InstanceOutcome],
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self._endpoint = endpoint
        self._total = total
        self._outcomes = outcomes
        self._progress = progress
        self._cancel = cancel
        self._lock = threading.Lock()
        self.first_failure: BridgeError | None = None
        self.turned_away = 0  # associations
        self.out_of_time = False
        self.last_reason = ""
        self.byte_count = 0

    def try_batch(self, batch: Sequence[OutgoingInstance]) -> None:
        """Send a batch; what ends it early is remembered, since others may fare better."""
        try:
            self._send(batch)
        except NoContextAcceptedError:
            for item in batch:
                self._outcomes[item.sop_instance_uid] = _refused_context(item)
        except BridgeError as error:
            with self._lock:
                self.turned_away += isinstance(error, AssociationError)
                self.out_of_time |= isinstance(error, DeadlineError)
                self.first_failure = self.first_failure or error
                self.last_reason = error.what

    def show_progress(self) -> None:
        """Report how many instances have their outcome; on the thread that asked for the transfer only."""
        report(self._progress, "store", len(self._outcomes), self._total, "instances")

    def _send(self, batch: Sequence[OutgoingInstance]) -> None:
        with associate(self._endpoint, _contexts(batch)) as association:
            fast = FastSender(association, self._endpoint.dimse_timeout_s)
            directly = fast.possible and not os.environ.get(ORDINARY_WAY)
            with fast.alone() if directly else nullcontext():
                whole = self._send_all(association, batch, fast if directly else None)
            if directly and not whole:
                association.abort()  # pynetdicom has not seen what ended it
        if self._endpoint.associations == 1:
            self.show_progress()

    def _send_all(self, association: "Association", batch: Sequence[OutgoingInstance], fast: FastSender | None) -> bool:
        """Send one after the other; False if the association came to an end before all were sent."""
        for number, item in enumerate(batch, start=1):
            if self._endpoint.associations == 1:
                self.show_progress()
            check_cancel(self._cancel)
            context = _context_for(association, item)
            if context is None:
                self._outcomes[item.sop_instance_uid] = _refused_context(item)
                continue
            try:
                status = self._send_one(association, fast, context, item, 1 + number % 65535)
            except BadDicomError as error:
                self._outcomes[item.sop_instance_uid] = InstanceOutcome(
                    item.sop_instance_uid, Outcome.REFUSED, reason=error.what
                )
                continue
            if status is None:
                self.last_reason = "the connection ended, or the peer fell silent, before it answered"
                return False
            self._outcomes[item.sop_instance_uid] = _outcome(item.sop_instance_uid, status)
            with self._lock:
                self.byte_count += item.byte_count
        return True

    def _send_one(
        self,
        association: "Association",
        fast: FastSender | None,
        context: "PresentationContext",
        item: OutgoingInstance,
        message_id: int,
    ) -> int | None:
        syntax = str(context.transfer_syntax[0])
        if fast is None:
            return send_encoded(
                association,
                context,
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
                dataset_bytes=item.encoded_dataset(syntax),
                message_id=message_id,
            ).get("Status")
        with item.open_dataset(syntax) as (dataset, byte_count):
            return fast.send(
                int(context.context_id or 0),
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
                dataset=dataset,
                byte_count=byte_count,
                message_id=message_id,
                stop=partial(check_cancel, self._cancel),
            )


def _batches_by_kind(instances: Sequence[OutgoingInstance]) -> Iterator[list[OutgoingInstance]]:
    """Yield groups that need few enough presentation contexts for one association."""
    kinds = iter(dict.fromkeys(_kind(item) for item in instances))
    while some := set(islice(kinds, _KINDS_PER_ASSOCIATION)):
        yield [item for item in instances if _kind(item) in some]


def _kind(item: OutgoingInstance) -> tuple[str, str]:
    return item.sop_class_uid, item.transfer_syntax_uid


def _contexts(batch: Sequence[OutgoingInstance]) -> "list[PresentationContext]":
    from pynetdicom import build_context

    contexts = []
    for sop_class, syntax in dict.fromkeys(_kind(item) for item in batch):
        contexts.append(build_context(sop_class, syntax))
        contexts.append(build_context(sop_class, [other for other in UNCOMPRESSED if other != syntax]))
    # Accepted nearly everywhere: so a peer that refuses all the others is told apart from one that breaks off.
    return [*contexts, build_context(VERIFICATION, list(UNCOMPRESSED))]


def _context_for(association: "Association", item: OutgoingInstance) -> "PresentationContext | None":
    """Return the context with the stored transfer syntax, else an uncompressed one that it can be converted to."""
    accepted = {
        str(context.transfer_syntax[0]): context
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class_uid
    }
    if item.transfer_syntax_uid in accepted:
        return accepted[item.transfer_syntax_uid]
    return next((accepted[syntax] for syntax in UNCOMPRESSED if syntax in accepted), None)


def send_encoded(
    association: "Association",
    context: "PresentationContext",
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    dataset_bytes: bytes,
    message_id: int,
) -> "Dataset":
    """Send one C-STORE with a data set that is already encoded, and return the status data set of the answer.

    The same steps as pynetdicom's ``send_c_store``, which would decode the data set and encode it anew. The status
    is empty if no answer came.
    """
    from pydicom import Dataset
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = message_id
    request.Priority = 2
    request.AffectedSOPClassUID = sop_class_uid
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.DataSet = BytesIO(dataset_bytes)
    if not association.is_established:
        return Dataset()
    association._reactor_checkpoint.clear()
    while not association._is_paused:  # the reactor must not take our answer
        time.sleep(0.0001)
    if not association.is_established:  # it ended in the meantime
        return Dataset()
    try:
        association.dimse.send_msg(request, int(context.context_id or 0))
        _context_id, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    if answer is None:
        association._handle_no_response()
        return Dataset()
    return association._check_received_status(answer)


def _outcome(uid: str, status: int) -> InstanceOutcome:
    text = format_status(status)
    if status == 0:
        return InstanceOutcome(uid, Outcome.STORED, text)
    outcome = Outcome.WARNED if status >> 12 == 0xB or status in _OTHER_WARNINGS else Outcome.REFUSED
    return InstanceOutcome(uid, outcome, text, status_meaning(status))


def _refused_context(item: OutgoingInstance) -> InstanceOutcome:
    from pydicom.uid import UID

    what, how = class_name(item.sop_class_uid), UID(item.transfer_syntax_uid).name
    return InstanceOutcome(
        item.sop_instance_uid,
        Outcome.REFUSED,
        reason=f"the peer accepts no presentation context for {what} with {how}",
    )
