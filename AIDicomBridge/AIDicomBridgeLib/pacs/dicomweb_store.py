"""STOW-RS in batches: every instance has its own outcome, read from what the peer says about it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BridgeError, DeadlineError, EndpointError, format_status
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .deadline import Deadline
from .dimse import status_meaning
from .endpoint import DicomWebEndpoint
from .http_session import HttpSession
from .outgoing import OutgoingInstance, read_outgoing
from .parallel import run_parallel
from .records import InstanceOutcome, Outcome, StoreReport

if TYPE_CHECKING:
    import requests
    from pydicom import Dataset

_BATCH_BYTES = 64 * 2**20
_LEAST_BATCH_BYTES = 8 * 2**20
_ATTEMPTS = 3
_WORTH_REPEATING = (408, 429, 502, 503, 504)
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
    UnreachableError, EndpointError
        Not even the first batch could be sent.
    JobCancelled
        Cancelled between two batches.
    """
    started = time.monotonic()
    instances = read_outgoing(paths_or_datasets)
    sending = _Sending(http, Deadline(cancel, endpoint.total_timeout_s))

    def show_progress() -> None:
        report(progress, "store", len(sending.outcomes), len(instances), "instances")

    show_progress()
    actions = [partial(sending.send, batch, show_progress) for batch in _batches(instances, endpoint.connections)]
    run_parallel(actions, endpoint.connections, show_progress)
    for item in instances:
        sending.outcomes.setdefault(item.sop_instance_uid, _unknown(item, "it was not sent"))
    show_progress()
    return StoreReport(
        peer=endpoint.name,
        outcomes=tuple(sending.outcomes[item.sop_instance_uid] for item in instances),
        method="STOW-RS",
        seconds=time.monotonic() - started,
        byte_count=sending.byte_count,
    )


class _Sending:
    """Sends batches, from one thread or several, and enters the outcome of every instance."""

    def __init__(self, http: HttpSession, cancel: CancelToken) -> None:
        self._http = http
        self._cancel = cancel
        self._lock = threading.Lock()
        self._ended = False
        self.outcomes: dict[str, InstanceOutcome] = {}
        self.byte_count = 0

    def send(self, batch: Sequence[OutgoingInstance], show_progress: Callable[[], None]) -> None:
        """Send one batch; a failure is raised if nothing at all has been sent yet, else it is the outcome."""
        if self._ended:
            return
        parts: list[bytes] = []
        try:
            check_cancel(self._cancel)
            parts = [item.part10() for item in batch]
            found = _send(self._http, batch, parts)
        except (EndpointError, DeadlineError) as error:
            self._ended = True  # the next batch would fare no better
            if not self.outcomes and isinstance(error, EndpointError):
                raise
            return
        except BridgeError as error:
            if not self.outcomes:
                raise
            found = [_unknown(item, error.what) for item in batch]
        with self._lock:
            self.outcomes |= {outcome.sop_instance_uid: outcome for outcome in found}
            self.byte_count += sum(len(part) for part in parts)
        if threading.current_thread() is threading.main_thread():
            show_progress()


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


def _send(http: HttpSession, batch: Sequence[OutgoingInstance], parts: list[bytes]) -> list[InstanceOutcome]:
    """Send one batch; the same bytes again if the peer is busy or the connection breaks: storing twice is storing."""
    boundary = f"aidicombridge-{uuid.uuid4().hex}"
    pieces = [f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + part for part in parts]
    body = b"".join([*pieces, f"\r\n--{boundary}--\r\n".encode()])[2:]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            response = http.request(
                "POST",
                "/studies",
                accept="application/dicom+json",
                body=body,
                content_type=f'multipart/related; type="application/dicom"; boundary={boundary}',
            )
            with response:
                if response.status_code in _WORTH_REPEATING and attempt < _ATTEMPTS:
                    continue
                return _outcomes(http, batch, response)
        except EndpointError:
            raise
        except BridgeError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _outcomes(
    http: HttpSession, batch: Sequence[OutgoingInstance], response: "requests.Response"
) -> list[InstanceOutcome]:
    http_status = f"HTTP {response.status_code}"
    if response.status_code not in _WITH_LISTS:
        return [
            InstanceOutcome(item.sop_instance_uid, Outcome.REFUSED, http_status, "the peer refused the whole request")
            for item in batch
        ]
    try:
        answer = http.read_json(response)
    except BridgeError as error:
        return [_unknown(item, error.what) for item in batch]
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    stored = dict(_items(answer, "00081199"))
    failed = dict(_items(answer, "00081198"))
    outcomes = []
    for instance in batch:
        uid = instance.sop_instance_uid
        if uid in failed:
            reason = _number(failed[uid], "00081197")
            outcomes.append(
                InstanceOutcome(
                    uid,
                    Outcome.REFUSED,
                    http_status if reason is None else format_status(reason),
                    "no reason given" if reason is None else status_meaning(reason),
                )
            )
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


def _unknown(item: OutgoingInstance, reason: str) -> InstanceOutcome:
    return InstanceOutcome(item.sop_instance_uid, Outcome.UNKNOWN, reason=reason)
