"""Sending what waits in the outbox and proving that it arrived."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadDicomError, BridgeError, NotOfferedError, PixelError
from ..pacs.client import PacsClient, connect
from ..pacs.endpoint import Endpoint
from ..pacs.records import Outcome
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.dicom_file import read_dicom
from ..series.instance_store import InstanceStore
from ..series.part10 import parse_part10_header
from .outbox import Delivery, DeliveryState, Outbox, Receipt

if TYPE_CHECKING:
    from pydicom import Dataset

# What a destination must hand back unchanged. Archives may add or correct descriptive attributes; that is only noted.
_MUST_BE_EQUAL = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ContentSequence",
    "PixelData",
)


@dataclass(frozen=True)
class DeliveryReport:
    """What became of every object that was to go to one destination.

    Attributes
    ----------
    destination
        Address of the endpoint.
    receipts
        Objects that the destination has shown to hold.
    remaining
        Objects that stay in the outbox, each with its state and reason.
    error
        Why the delivery ended early; None if it did not.
    """

    destination: str
    receipts: tuple[Receipt, ...]
    remaining: tuple[Delivery, ...]
    error: BridgeError | None = None

    @property
    def complete(self) -> bool:
        """True when nothing stays behind."""
        return not self.remaining

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for ``--json``."""
        return {
            "destination": self.destination,
            "complete": self.complete,
            "arrived": [
                {"sop_instance_uid": r.sop_instance_uid, "proof": r.proof, "note": r.note} for r in self.receipts
            ],
            "remaining": [
                {"sop_instance_uid": d.sop_instance_uid, "state": d.state.value, "status": d.status, "reason": d.reason}
                for d in self.remaining
            ],
            "error": self.error.to_dict() if self.error else None,
        }


def deliver(
    outbox: Outbox,
    endpoint: Endpoint,
    *,
    only: Iterable[str] | None = None,
    open_client: Callable[[Endpoint], PacsClient] = connect,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DeliveryReport:
    """Send what waits for a destination, ask the destination for it again, and settle what has arrived.

    Objects that the destination already lists (from a try that was cut off) are not sent again. A failure of the
    network is part of the report, not an exception: everything that did not arrive stays in the outbox.

    Parameters
    ----------
    only
        SOP Instance UIDs to deliver; all that wait for this destination where not given.
    open_client
        Opens the connection; for tests.

    Raises
    ------
    JobCancelled
        ``cancel`` was called; what did not arrive stays in the outbox.
    """
    wanted = None if only is None else set(only)

    def waiting() -> list[Delivery]:
        found = outbox.deliveries(endpoint.address)
        return [d for d in found if wanted is None or d.sop_instance_uid in wanted]

    receipts: list[Receipt] = []
    error: BridgeError | None = None
    try:
        whole = _refuse_damaged(outbox, waiting())
        outbox.mark_attempt(whole)
        with open_client(endpoint) as client:
            held = _listed(client, whole)
            _send(outbox, client, [d for d in whole if d.sop_instance_uid not in held], progress, cancel)
            receipts = _verify(outbox, client, whole, progress, cancel)
    except BridgeError as failure:
        error = failure
        for delivery in waiting():
            if delivery.state is DeliveryState.WAITING:
                outbox.mark(delivery, DeliveryState.WAITING, delivery.status, failure.what)
    return DeliveryReport(endpoint.address, tuple(receipts), tuple(waiting()), error)


def _refuse_damaged(outbox: Outbox, deliveries: list[Delivery]) -> list[Delivery]:
    """Return the deliveries whose file is readable; the others must not keep them back."""
    whole = []
    for delivery in deliveries:
        try:
            read_dicom(delivery.path, stop_before_pixels=True)
            whole.append(delivery)
        except BadDicomError as error:
            outbox.mark(delivery, DeliveryState.REFUSED, "", f"the file in the outbox is damaged: {error.what}")
    return whole


def _listed(client: PacsClient, deliveries: list[Delivery]) -> set[str]:
    """Return the SOP Instance UIDs of the deliveries' series that the destination lists."""
    series = sorted({(d.study_uid, d.series_uid) for d in deliveries})
    return {i.sop_instance_uid for study, one in series for i in client.find_instances(study, one)}


def _send(
    outbox: Outbox,
    client: PacsClient,
    deliveries: list[Delivery],
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> None:
    if not deliveries:
        return
    by_uid = {d.sop_instance_uid: d for d in deliveries}
    sent = client.store([d.path for d in deliveries], progress=progress, cancel=cancel)
    states = {
        Outcome.STORED: DeliveryState.SENT,
        Outcome.WARNED: DeliveryState.SENT,
        Outcome.REFUSED: DeliveryState.REFUSED,
    }
    for outcome in sent.outcomes:
        state = states.get(outcome.outcome, DeliveryState.WAITING)
        outbox.mark(by_uid[outcome.sop_instance_uid], state, outcome.status, outcome.reason)


def _verify(
    outbox: Outbox,
    client: PacsClient,
    deliveries: list[Delivery],
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> list[Receipt]:
    """Settle every delivery that the destination lists and, where it offers to hand it out, holds unchanged.

    Where handing out fails (network, disk, ...) nothing is proven: the delivery stays, to be verified by the next try.
    """
    listed = _listed(client, deliveries)
    accepted = {d.sop_instance_uid for d in outbox.deliveries() if d.state is DeliveryState.SENT}
    receipts: list[Receipt] = []
    wanted = sorted({(d.study_uid, d.series_uid) for d in deliveries if d.sop_instance_uid in listed})
    with tempfile.TemporaryDirectory(prefix="aidicombridge-") as folder, InstanceStore(folder) as store:
        failures = {series: _retrieve(client, study, series, store) for study, series in wanted}
        returned = {instance.sop_instance_uid: instance.path for instance in store.instances()}
        for number, delivery in enumerate(deliveries, start=1):
            check_cancel(cancel)
            uid, failure = delivery.sop_instance_uid, failures.get(delivery.series_uid)
            if uid in returned:
                receipts += _settle_compared(outbox, delivery, returned[uid])
            elif uid in listed and isinstance(failure, NotOfferedError):
                receipts.append(outbox.settle(delivery, proof="listed", note=failure.what))
            elif uid in listed:
                why = failure.what if failure else "it did not come back"
                outbox.mark(delivery, DeliveryState.SENT, "", f"listed by the destination, but not compared: {why}")
            elif delivery.sop_instance_uid in accepted:
                outbox.mark(delivery, DeliveryState.WAITING, "", "accepted, but the destination does not list it")
            report(progress, "verify", number, len(deliveries), "instances")
    return receipts


def _settle_compared(outbox: Outbox, delivery: Delivery, returned: Path) -> list[Receipt]:
    """Settle a delivery if what came back is the object that was sent; mark it refused if not."""
    try:
        differing = _differences(delivery.path, returned)
    except PixelError as error:
        outbox.mark(delivery, DeliveryState.SENT, "", f"came back, but could not be compared: {error.what}")
        return []
    wrong = [name for name in differing if name in _MUST_BE_EQUAL]
    if wrong:
        reason = f"the destination holds another object under this UID (differs in {', '.join(wrong)})"
        outbox.mark(delivery, DeliveryState.REFUSED, "", reason)
        return []
    note = f"the destination changed {', '.join(differing)}" if differing else ""
    return [outbox.settle(delivery, proof="compared", note=note)]


def _retrieve(client: PacsClient, study_uid: str, series_uid: str, store: InstanceStore) -> BridgeError | None:
    """Bring a series back as far as it comes; return what kept the rest."""
    try:
        client.retrieve(study_uid, series_uid, into=store).raise_if_incomplete()
    except BridgeError as error:
        return error
    return None


def _differences(sent: Path, returned: Path) -> list[str]:
    """Return the keywords of the top-level elements that differ between two files, sorted.

    Most archives hand out the very bytes: comparing them first saves decoding both, 3 s for a SEG of 1700 frames.
    """
    if _encoded(sent) == _encoded(returned):
        return []
    ours, theirs = read_dicom(sent), read_dicom(returned)
    names = {element.keyword or str(element.tag) for dataset in (ours, theirs) for element in dataset}
    return sorted(name for name in names if not _equal(ours, theirs, name))


def _encoded(path: Path) -> tuple[str, bytes]:
    """Return a file's transfer syntax and its data set as encoded, without the file meta information."""
    content = path.read_bytes()
    header = parse_part10_header(content)
    return header.transfer_syntax_uid, content[header.dataset_offset :]


def _equal(ours: "Dataset", theirs: "Dataset", name: str) -> bool:
    if name == "PixelData" and ours.file_meta.TransferSyntaxUID != theirs.file_meta.TransferSyntaxUID:
        import numpy as np

        try:
            return bool(np.array_equal(ours.pixel_array, theirs.pixel_array))
        except Exception as error:  # decoders raise nearly anything
            raise PixelError("it was compressed anew, and no decoder for that is installed") from error
    mine, other = ours.get(name), theirs.get(name)
    # An empty type 2 element may come back absent, or the other way round.
    return mine == other or (mine in (None, "") and other in (None, ""))
