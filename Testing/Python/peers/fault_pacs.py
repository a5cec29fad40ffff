"""Peers that refuse, stall, truncate and lie: one for DIMSE, one for HTTP."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

AE_TITLE = "FAULTY"


@dataclass
class DimseFaults:
    """What the faulty DIMSE peer does wrong; nothing by default.

    Attributes
    ----------
    withheld
        SOP Instance UIDs that it lists but never sends, although it ends with success.
    find_status
        Status with which it ends every query.
    store_status
        SOP Instance UID -> status with which it answers a C-STORE.
    abort_at_store
        Break the association off at this C-STORE, counted from 1; once.
    offers_get
        Whether it accepts C-GET.
    silent
        Never answer a query.
    silent_get
        Never answer a C-GET.
    silent_store
        Take segmentations and reports too, and never answer a C-STORE.
    silent_after
        Fall silent after this many instances of a C-GET or C-MOVE; once.
    abort_after
        Break the association off after this many instances of a C-GET or C-MOVE; once.
    pause_s
        Seconds between two instances of a C-GET or C-MOVE.
    refuses_role
        Refuse that the client becomes the receiver on its own association, which C-GET needs.
    move_port
        Where it sends what is moved to AIDICOMBRIDGE.
    listed_uid
        SOP Instance UID that it lists instead of the first real one.
    listed_class
        SOP Class UID that it lists instead of the first real one.
    lists_late
        List nothing before something was stored.
    counted
        How many instances it says that a series has.
    """

    withheld: set[str] = field(default_factory=set)
    find_status: int = 0x0000
    store_status: dict[str, int] = field(default_factory=dict)
    abort_at_store: int = 0
    offers_get: bool = True
    silent: bool = False
    silent_get: bool = False
    silent_after: int = 0
    abort_after: int = 0
    pause_s: float = 0.0
    refuses_role: bool = False
    silent_store: bool = False
    move_port: int = 0
    listed_uid: str = ""
    listed_class: str = ""
    lists_late: bool = False
    counted: int = 0


class FaultyPacs:
    """A DIMSE peer that holds one series of CT images; ``stored`` is what it was sent."""

    def __init__(self, datasets: list[Dataset], faults: DimseFaults) -> None:
        self.datasets = datasets
        self.faults = faults
        self.stored: list[str] = []
        self.keep: list[Dataset] | None = None  # where what it is sent goes
        self.get_requests = self.store_requests = 0
        self.asked = threading.Event()  # a query has come
        self.endpoint: DimseEndpoint
        self._released = threading.Event()

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.set()
        if self.faults.silent:
            self._released.wait(30)
        if self.faults.find_status:
            yield self.faults.find_status, None
            return
        if self.faults.lists_late and not self.stored:
            return
        wanted = event.identifier
        for number, dataset in enumerate(self.datasets):  # one answer per instance at every level, as qrscp does
            answer = Dataset()
            answer.QueryRetrieveLevel = wanted.QueryRetrieveLevel
            for element in wanted:
                if element.keyword in dataset:
                    setattr(answer, element.keyword, dataset[element.tag].value)
            if number == 0 and self.faults.listed_uid and wanted.QueryRetrieveLevel == "IMAGE":
                answer.SOPInstanceUID = self.faults.listed_uid
            if number == 0 and self.faults.listed_class and wanted.QueryRetrieveLevel == "IMAGE":
                answer.SOPClassUID = self.faults.listed_class
            if self.faults.counted and wanted.QueryRetrieveLevel == "SERIES":
                answer.NumberOfSeriesRelatedInstances = self.faults.counted
            yield 0xFF00, answer

    def get(self, event: Any) -> Iterator[Any]:
        self.get_requests += 1
        if self.faults.silent_get:
            self._released.wait(30)
        yield from self._sent(event)

    def move(self, event: Any) -> Iterator[Any]:
        yield "127.0.0.1", self.faults.move_port
        yield from self._sent(event)

    def _sent(self, event: Any) -> Iterator[Any]:
        chosen, faults = self._chosen(event.identifier), self.faults
        yield len(chosen)
        for number, dataset in enumerate(chosen):
            self._released.wait(faults.pause_s)
            if faults.silent_after and number == faults.silent_after:
                faults.silent_after = 0
                self._released.wait(30)
            if faults.abort_after and number == faults.abort_after:
                faults.abort_after = 0
                event.assoc.abort()
                return
            yield 0xFF00, dataset

    def store(self, event: Any) -> int:
        self.store_requests += 1
        if self.faults.silent_store:
            self._released.wait(30)
        uid = str(event.request.AffectedSOPInstanceUID)
        if self.faults.abort_at_store and len(self.stored) + 1 == self.faults.abort_at_store:
            self.faults.abort_at_store = 0
            event.assoc.abort()
            return 0xC000
        if self.keep is not None:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.keep.append(dataset)
        status = self.faults.store_status.get(uid, 0x0000)
        self.stored.append(uid)
        return status

    def release(self) -> None:
        self._released.set()

    def _chosen(self, identifier: Dataset) -> list[Dataset]:
        wanted = identifier.get("SOPInstanceUID") or []
        uids = {wanted} if isinstance(wanted, str) else set(wanted)
        return [
            dataset
            for dataset in self.datasets
            if dataset.SOPInstanceUID not in self.faults.withheld and (not uids or dataset.SOPInstanceUID in uids)
        ]


@contextmanager
def faulty_pacs(
    datasets: list[Dataset],
    faults: DimseFaults | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    passcode: str = "",
) -> Iterator[FaultyPacs]:
    """Run a DIMSE peer with the given faults; over TLS where a server's context is given.

    With a passcode it lets in only who shows it.
    """
    peer = FaultyPacs(datasets, faults or DimseFaults())
    entity = AE(ae_title=AE_TITLE)
    entity.require_called_aet = True
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.connection_timeout = 5
    entity.add_supported_context(Verification)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    if peer.faults.offers_get:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    roles = {} if peer.faults.refuses_role else {"scu_role": True, "scp_role": True}
    entity.add_supported_context(CTImageStorage, **roles)
    if peer.faults.silent_store:
        for result in (SegmentationStorage, Comprehensive3DSRStorage):
            entity.add_supported_context(result)
    entity.add_requested_context(CTImageStorage)
    handlers = [
        *((evt.EVT_C_FIND, peer.find), (evt.EVT_C_GET, peer.get)),
        *((evt.EVT_C_MOVE, peer.move), (evt.EVT_C_STORE, peer.store)),
    ]
    if passcode:
        handlers.append((evt.EVT_USER_ID, lambda event: (event.secondary_field == passcode.encode(), None)))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    peer.endpoint = DimseEndpoint(
        "faulty", "127.0.0.1", server.server_address[1], AE_TITLE, connect_timeout_s=5, association_timeout_s=5
    )
    try:
        yield peer
    finally:
        peer.release()
        # shutdown() aborts all that is left, which breaks the thread of a rejected association that waits for its end.
        for association in entity.active_associations:
            if association.is_rejected:
                association.join(5)
        entity.shutdown()


@dataclass(frozen=True)
class HttpRequest:
    """One request that the faulty web service got; ``path`` is below its root."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class HttpAnswer:
    """One answer; with the status 0 the connection is closed without any.

    ``announced_length`` is what Content-Length says; None tells the truth, -1 leaves it out. With ``drip_s`` the body
    comes byte by byte, so many seconds apart, from ``drip_from`` on.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/dicom+json"
    announced_length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    drip_from: int = 0


@contextmanager
def faulty_web(respond: Callable[[HttpRequest], HttpAnswer]) -> Iterator[DicomWebEndpoint]:
    """Run an HTTP service on loopback that answers what ``respond`` says."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def log_message(self, *_arguments: object) -> None:
            """Write nothing."""

        def _answer(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path.removeprefix("/dicom-web"))
            answer = respond(HttpRequest(self.command, path, unquote(parts.query), dict(self.headers), body))
            if not answer.status:
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            if answer.announced_length != -1:
                self.send_header("Content-Length", str(answer.announced_length or len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            at_once = answer.drip_from if answer.drip_s else len(answer.body)
            with suppress(ConnectionError):  # the client may have had enough
                self.wfile.write(answer.body[:at_once])
                for start in range(at_once, len(answer.body)):
                    if stopped.wait(answer.drip_s):
                        return
                    self.wfile.write(answer.body[start : start + 1])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield DicomWebEndpoint(
            "faulty-web", f"http://127.0.0.1:{server.server_address[1]}/dicom-web", connect_timeout_s=5, timeout_s=5
        )
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
