"""STOW-RS in batches: every instance has its own outcome, read from what the peer says about it."""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BridgeError, EndpointError, format_status
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .dimse import status_meaning
from .http_session import HttpSession
from .outgoing import OutgoingInstance, read_outgoing
from .records import InstanceOutcome, Outcome, StoreReport

if TYPE_CHECKING:
    import requests
    from pydicom import Dataset

_BATCH_BYTES = 64 * 2**20
_ATTEMPTS = 3
_WORTH_REPEATING = (408, 429, 502, 503, 504)
# PS3.18 table 10.5.3-1: all, some or none stored; each of them lists what became of every instance.
_WITH_LISTS = (200, 202, 409)


def store_instances(
    http: HttpSession,
    paths_or_datasets: "Iterable[Path | str | Dataset]",
    *,
    peer: str,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> StoreReport:
    """Send instances by STOW-RS, at most 64 MiB per request.

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
    outcomes: dict[str, InstanceOutcome] = {}
    byte_count = 0
    for batch, parts in _batches(instances):
        report(progress, "store", len(outcomes), len(instances), "instances")
        check_cancel(cancel)
        try:
            for outcome in _send(http, batch, parts):
                outcomes[outcome.sop_instance_uid] = outcome
        except EndpointError:
            if not outcomes:
                raise
            break
        except BridgeError as error:
            if not outcomes:
                raise
            for item in batch:
                outcomes[item.sop_instance_uid] = _unknown(item, error.what)
        byte_count += sum(len(part) for part in parts)
    for item in instances:
        outcomes.setdefault(item.sop_instance_uid, _unknown(item, "it was not sent"))
    report(progress, "store", len(instances), len(instances), "instances")
    return StoreReport(
        peer=peer,
        outcomes=tuple(outcomes[item.sop_instance_uid] for item in instances),
        method="STOW-RS",
        seconds=time.monotonic() - started,
        byte_count=byte_count,
    )


def _batches(instances: Sequence[OutgoingInstance]) -> Iterator[tuple[list[OutgoingInstance], list[bytes]]]:
    batch: list[OutgoingInstance] = []
    parts: list[bytes] = []
    for item in instances:
        part = item.part10()
        if batch and sum(len(other) for other in parts) + len(part) > _BATCH_BYTES:
            yield batch, parts
            batch, parts = [], []
        batch.append(item)
        parts.append(part)
    if batch:
        yield batch, parts


def _send(http: HttpSession, batch: list[OutgoingInstance], parts: list[bytes]) -> list[InstanceOutcome]:
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


def _outcomes(http: HttpSession, batch: list[OutgoingInstance], response: "requests.Response") -> list[InstanceOutcome]:
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
