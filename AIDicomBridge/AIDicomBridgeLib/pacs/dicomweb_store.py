"""STOW-RS in batches: every instance has its own outcome, read from what the peer says about it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadDicomError, BridgeError, DeadlineError, EndpointError, QueryError, format_status
from ..progress import CancelToken, ProgressCallback, report
from .deadline import Deadline
from .dimse import status_meaning
from .endpoint import DicomWebEndpoint
from .http_session import HttpSession
from .multipart import MultipartBody
from .outgoing import OutgoingInstance, read_outgoing
from .parallel import run_parallel
from .records import InstanceOutcome, Outcome, StoreReport

if TYPE_CHECKING:
    from pydicom import Dataset

    from .http_exchange import HttpAnswer

_BATCH_BYTES = 64 * 2**20
_LEAST_BATCH_BYTES = 8 * 2**20
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.5  # before the second attempt; before the third, four times as long
_MOST_PAUSE_SECONDS = 60.0  # that a peer may ask for
_WORTH_REPEATING = (408, 429, 502, 503, 504)
_TOO_LARGE = 413
# PS3.18 table 10.5.3-1: all, some or none stored; each of them lists what became of every instance.
_WITH_LISTS = (200, 202, 409)


def store_instances(
    http: HttpSession,
    paths_or_datasets: "Iterable[Path | str | Dataset]",
    endpoint: DicomWebEndpoint,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> StoreReport:
    """Send instances by STOW-RS, at most 64 MiB per request, and ``endpoint.connections`` requests at once.

    Raises
    ------
    BadDicomError
        A file or data set cannot be sent; nothing was.
    UnreachableError, EndpointError, DeadlineError
        The peer answered none of the requests.
    JobCancelled
        Cancelled; what the peer was sent until then may be stored there.
    """
    started = time.monotonic()
    deadline = Deadline(cancel, endpoint.total_timeout_s)
    instances = read_outgoing(paths_or_datasets)
    sending = _Sending(http, deadline)

    def show_progress() -> None:
        report(progress, "store", len(sending.outcomes), len(instances), "instances")

    show_progress()
    shown = show_progress if endpoint.connections == 1 else lambda: None  # else from the thread that watches
    actions = [partial(sending.send, batch, shown) for batch in _batches(instances, endpoint.connections)]
    run_parallel(actions, endpoint.connections, show_progress)
    for batch in sending.take_failed():  # by a peer that answered others: perhaps it bears fewer requests at once
        sending.send(batch, show_progress)
    if sending.failure is not None and not sending.answered:
        raise sending.failure
    for item in instances:
        sending.outcomes.setdefault(item.sop_instance_uid, _unknown(item, sending.reason))
    show_progress()
    return StoreReport(
        peer=endpoint.name,
        outcomes=tuple(sending.outcomes[item.sop_instance_uid] for item in instances),
        method="STOW-RS",
        seconds=time.monotonic() - started,
        byte_count=sending.byte_count,
    )


class _Sending:
    """Sends batches, from one thread or several, and enters the outcome of every instance.

    Attributes
    ----------
    answered
        Whether the peer answered any request.
    failure
        Why the last batch without an answer has none.
    outcomes
        By SOP Instance UID.
    """

    def __init__(self, http: HttpSession, deadline: Deadline) -> None:
        self._http = http
        self._deadline = deadline
        self._lock = threading.Lock()
        self._ended = False
        self._failed: list[Sequence[OutgoingInstance]] = []
        self.outcomes: dict[str, InstanceOutcome] = {}
        self.answered = False
        self.failure: BridgeError | None = None
        self.byte_count = 0

    @property
    def reason(self) -> str:
        """Why an instance without an outcome has none."""
        return self.failure.what if self.failure is not None else "it was not sent"

    def take_failed(self) -> list[Sequence[OutgoingInstance]]:
        """Return the batches worth another try, once."""
        failed, self._failed = self._failed, []
        return failed if self.answered and not self._ended else []

    def send(self, batch: Sequence[OutgoingInstance], show_progress: Callable[[], None]) -> None:
        """Send one batch, in parts if the peer finds it too large; its failure is not that of the others."""
        if self._ended or not batch:
            return
        if self.failure is not None and not self.answered:  # perhaps nobody is there; if somebody is, take_failed
            self._failed.append(batch)
            return
        try:
            found = self._answered(batch)
        except BadDicomError as error:  # of one file, which has changed since it was first read
            bad = [item for item in batch if item.sop_instance_uid == error.uid]
            self.outcomes |= {item.sop_instance_uid: _unknown(item, error.what) for item in bad}
            self.send([item for item in batch if item not in bad], show_progress)
            return
        except BridgeError as error:
            with self._lock:
                self.failure = error
                self._failed.append(batch)
                self._ended |= isinstance(error, EndpointError | DeadlineError)  # the next would fare no better
            return
        if found is None:
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self.send(half, show_progress)
            return
        with self._lock:
            self.outcomes |= {outcome.sop_instance_uid: outcome for outcome in found}
            self.byte_count += sum(item.part10_bytes for item in batch)
        show_progress()

    def _answered(self, batch: Sequence[OutgoingInstance]) -> list[InstanceOutcome] | None:
        """Send a batch until it is answered: again if the peer is busy or the connection breaks. None: too large.

        Storing twice is storing, so what became of the earlier attempts does not matter.
        """
        body = MultipartBody(batch)
        for attempt in range(1, _ATTEMPTS + 1):
            pause = _PAUSE_SECONDS * 4 ** (attempt - 1)
            try:
                with self._http.request(
                    *("POST", "/studies", self._deadline),
                    accept="application/dicom+json",
                    body=body,
                    content_type=body.content_type,
                ) as answer:
                    self.answered = True
                    if answer.status == _TOO_LARGE and len(batch) > 1:
                        return None
                    if answer.status not in _WORTH_REPEATING or attempt == _ATTEMPTS:
                        return _outcomes(self._http, batch, answer)
                    pause = _pause_asked_for(answer) or pause
            except (EndpointError, DeadlineError, BadDicomError):
                raise
            except BridgeError:
                if attempt == _ATTEMPTS:
                    raise
            self._deadline.wait(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _pause_asked_for(answer: "HttpAnswer") -> float:
    """Return the seconds that Retry-After asks for, within reason; 0 where it gives none."""
    with suppress(ValueError):
        return min(max(float(answer.header("Retry-After") or 0), 0), _MOST_PAUSE_SECONDS)
    return 0.0


def _batches(instances: Sequence[OutgoingInstance], connections: int) -> list[list[OutgoingInstance]]:
    """Return the instances in batches of bounded size, and of about one per connection where they are few."""
    sizes = [item.byte_count for item in instances]
    most = min(_BATCH_BYTES, max(sum(sizes) // connections, _LEAST_BATCH_BYTES)) if connections > 1 else _BATCH_BYTES
    batches: list[list[OutgoingInstance]] = []
    filled = most
    for item, size in zip(instances, sizes, strict=True):
        if filled + size > most:
            batches.append([])
            filled = 0
        batches[-1].append(item)
        filled += size
    return batches


def _outcomes(http: HttpSession, batch: Sequence[OutgoingInstance], answer: "HttpAnswer") -> list[InstanceOutcome]:
    http_status = f"HTTP {answer.status}"
    if answer.status in _WORTH_REPEATING or answer.status >= 500:
        # What the server, or a proxy before it, did until then nobody knows.
        return [_unknown(item, f"the peer answered {http_status}", http_status) for item in batch]
    if answer.status not in _WITH_LISTS:
        return [
            InstanceOutcome(item.sop_instance_uid, Outcome.REFUSED, http_status, "the peer refused the whole request")
            for item in batch
        ]
    try:
        lists = http.read_json(answer)
    except QueryError as error:
        return [_unknown(item, error.what) for item in batch]
    if isinstance(lists, list) and len(lists) == 1:
        lists = lists[0]
    stored = dict(_items(lists, "00081199"))
    failed = dict(_items(lists, "00081198"))
    outcomes = []
    for instance in batch:
        uid = instance.sop_instance_uid
        if uid in failed:
            reason = _number(failed[uid], "00081197")
            status = http_status if reason is None else format_status(reason)
            meaning = "no reason given" if reason is None else status_meaning(reason)
            outcomes.append(InstanceOutcome(uid, Outcome.REFUSED, status, meaning))
        elif uid in stored:
            warning = _number(stored[uid], "00081196")
            if warning:
                outcomes.append(InstanceOutcome(uid, Outcome.WARNED, format_status(warning), status_meaning(warning)))
            else:
                outcomes.append(InstanceOutcome(uid, Outcome.STORED, http_status))
        else:
            outcomes.append(_unknown(instance, f"the peer answered {http_status} but does not list this instance"))
    return outcomes


def _items(answer: Any, tag: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield SOP Instance UID and item of a sequence of referenced instances; whatever is no such item is skipped."""
    sequence = answer.get(tag) if isinstance(answer, Mapping) else None
    items = sequence.get("Value") if isinstance(sequence, Mapping) else None
    for item in items if isinstance(items, list) else ():
        uid = _first(item, "00081155")
        if isinstance(uid, str):
            yield uid.strip("\0 "), item


def _first(item: Any, tag: str) -> Any:
    element = item.get(tag) if isinstance(item, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values[0] if isinstance(values, list) and values else None


def _number(item: Mapping[str, Any], tag: str) -> int | None:
    value = _first(item, tag)
    return value if isinstance(value, int) and 0 <= value <= 0xFFFF else None


def _unknown(item: OutgoingInstance, reason: str, status: str = "") -> InstanceOutcome:
    return InstanceOutcome(item.sop_instance_uid, Outcome.UNKNOWN, status, reason)
