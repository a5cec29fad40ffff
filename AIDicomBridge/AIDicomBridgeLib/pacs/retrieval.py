"""Retrieving until it is complete: what arrived is counted against the peer's own instance list.

No final status is believed: a C-MOVE may end with failure although files arrived, and a WADO-RS answer may end with
HTTP 200 although most parts are missing. What is missing is asked for again, then listed by name.
"""

import time
from collections.abc import Callable, Collection, Sequence

from ..errors import BridgeError, DiskSpaceError, EndpointError, NotFoundError, RetrieveError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.arrivals import StoredInstance
from ..series.instance_store import InstanceStore
from .deadline import Deadline
from .file_stream import FileStream
from .records import InstanceOutcome, InstanceRecord, Outcome, RetrieveReport
from .storage_scp import Receiver

ROUNDS = 3
_PAUSE_SECONDS = 0.2  # before the second round; before the third, four times as long


class Retrieval:
    """The state of one retrieve: what is expected, what has arrived, and why something has not.

    Attributes
    ----------
    counted
        How many instances the peer counts in what is asked for, where it says so.
    expected
        The instances to bring, as the peer lists them; none before it has.
    whole
        Whether these are all instances of their study or series, so that it may be asked for as such.
    receiver
        Takes instances that come by C-STORE.
    reasons
        SOP Instance UID -> why the last attempt did not bring it.
    round_reason
        Why the last round ended early, for those without a reason of their own.
    methods
        How the peer was asked, for each round.
    """

    def __init__(
        self,
        study_uid: str,
        into: InstanceStore,
        progress: ProgressCallback | None,
        cancel: Deadline,
        *,
        counted: int | None = None,
    ) -> None:
        self.expected: list[InstanceRecord] = []
        self.whole = True
        self.study_uid = study_uid
        self.into = into
        self.cancel = cancel
        self.receiver = Receiver(into, study_uid=study_uid, on_stored=self._stored, durable=False)
        self.reasons: dict[str, str] = {}
        self.round_reason = ""
        self.methods: list[str] = []
        self.started = time.monotonic()
        self._progress = progress
        self._counted = counted
        self._uids: set[str] = set()
        self.present: set[str] = set()
        self._arrived: set[str] = set()

    def expect(self, records: Sequence[InstanceRecord], *, whole: bool) -> None:
        """Set what the peer lists; what has arrived before counts too."""
        self.expected, self.whole = list(records), whole
        self._uids = {record.sop_instance_uid for record in records}
        self.present = {uid for uid in self._uids - self._arrived if uid in self.into}
        self.show_progress()

    @property
    def missing(self) -> list[InstanceRecord]:
        """Expected instances that the store does not hold yet, in the peer's order."""
        there = self.present | self._arrived
        return [record for record in self.expected if record.sop_instance_uid not in there]

    @property
    def arrived_count(self) -> int:
        """Expected instances that arrived in this retrieve."""
        return len(self._arrived & self._uids)

    def keep(self, stream: FileStream) -> None:
        """Keep an instance that came as a Part 10 file; one that cannot be kept becomes a reason."""
        try:
            stored = stream.keep()
        except DiskSpaceError:
            raise
        except BridgeError as error:
            if error.uid:
                self.reasons[error.uid] = error.what
            return
        self.receiver.received_bytes += stream.byte_count
        self._stored(stored)
        self.show_progress()

    def _stored(self, stored: StoredInstance) -> None:
        # In a C-MOVE this runs on the receiver's threads: no progress from here.
        self._arrived.add(stored.sop_instance_uid)

    def show_progress(self) -> None:
        """Report how many of the expected instances are there, or how many came before the list of them."""
        there = self.present | self._arrived
        done, total = (len(there & self._uids), len(self._uids)) if self._uids else (len(there), self._counted)
        report(self._progress, "retrieve", done, total, "instances")

    def outcome(self, record: InstanceRecord) -> InstanceOutcome:
        """Return what became of one expected instance."""
        uid = record.sop_instance_uid
        if uid in self._arrived:
            return InstanceOutcome(uid, Outcome.RECEIVED)
        if uid in self.present:
            return InstanceOutcome(uid, Outcome.PRESENT, reason="the store already held it")
        reason = self.receiver.refusals.get(uid) or self.reasons.get(uid) or self.round_reason
        return InstanceOutcome(uid, Outcome.MISSING, reason=reason or "the peer lists it but did not send it")


def wait_before_repeating(round_number: int, cancel: CancelToken) -> None:
    """Give a busy peer some time before it is asked again; a cancel ends the wait."""
    end = time.monotonic() + _PAUSE_SECONDS * 4 ** (round_number - 2)
    while time.monotonic() < end:
        check_cancel(cancel)
        time.sleep(0.02)


def retrieve_all(
    expected: Sequence[InstanceRecord],
    fetch: Callable[[Retrieval, int], str],
    *,
    peer: str,
    study_uid: str,
    series_uid: str | None,
    into: InstanceStore,
    progress: ProgressCallback | None,
    cancel: Deadline,
    counted: int | None = None,
    sop_instance_uids: Collection[str] | None = None,
    begun: Retrieval | None = None,
) -> RetrieveReport:
    """Run ``fetch`` until nothing is missing, at most :data:`ROUNDS` times, and report every instance.

    Parameters
    ----------
    expected
        The peer's instance list.
    fetch
        ``fetch(retrieval, round_number)`` asks the peer for what is missing, once, and returns the method's name. It
        sets ``round_reason`` where the peer did not do all of it.
    cancel
        Also the deadline for all of it; what has arrived until then is kept and reported.
    counted
        How many instances the peer counts in the study or series, where it says so: it may list fewer.
    sop_instance_uids
        Bring only these of the expected instances.
    begun
        What has come while the peer listed them: the first round.

    Raises
    ------
    NotFoundError
        The peer lists no instance.
    RetrieveError
        Not one instance arrived, and the peer gave a reason.
    """
    listed_count = len(expected)
    if sop_instance_uids is not None:
        expected = [record for record in expected if record.sop_instance_uid in sop_instance_uids]
    if not expected:
        raise NotFoundError("the study or series holds no instances", uid=series_uid or study_uid, peer=peer)
    retrieval = begun or Retrieval(study_uid, into, progress, cancel)
    retrieval.expect(expected, whole=len(expected) == listed_count)
    try:
        for round_number in range(1 if begun is None else 2, ROUNDS + 1):
            if not retrieval.missing:
                break
            retrieval.round_reason = ""
            try:
                if round_number > 1:
                    wait_before_repeating(round_number, cancel)
                check_cancel(cancel)
                retrieval.methods.append(fetch(retrieval, round_number))
            except (DiskSpaceError, EndpointError):
                raise
            except BridgeError as error:
                if not retrieval.arrived_count:
                    raise
                retrieval.round_reason = error.what
            if retrieval.receiver.failure is not None:
                raise retrieval.receiver.failure
    finally:
        into.sync()  # also what came before a cancel or a failure
    if not retrieval.arrived_count and len(retrieval.missing) == len(expected) and retrieval.round_reason:
        raise RetrieveError(
            f"nothing arrived: {retrieval.round_reason}",
            uid=series_uid or study_uid,
            peer=peer,
            advice="The PACS administrator can look the transfer up in the log of the PACS.",
        )
    return RetrieveReport(
        peer=peer,
        outcomes=tuple(retrieval.outcome(record) for record in retrieval.expected),
        method=", ".join(dict.fromkeys(retrieval.methods)),
        seconds=time.monotonic() - retrieval.started,
        byte_count=retrieval.receiver.received_bytes,
        study_uid=study_uid,
        series_uid=series_uid,
        unlisted=max((counted or 0) - listed_count, 0) if retrieval.whole else 0,
    )
