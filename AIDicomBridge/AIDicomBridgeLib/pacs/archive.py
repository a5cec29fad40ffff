"""The built-in archive: a small, hardened DICOM SCP over an InstanceStore, for demos, tests and single machines.

As a program: ``python -m AIDicomBridgeLib.pacs.archive FOLDER --port N --ae-title AET`` prints its port and runs until
it gets SIGTERM or SIGINT.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..errors import BridgeError, EndpointError
from ..series.arrivals import StoredInstance
from ..series.attribute_text import attribute_texts, text_element
from ..series.incoming import IncomingInstance
from ..series.indexed_attributes import INDEXED_ATTRIBUTES
from ..series.instance_store import InstanceStore
from . import query
from .dimse import (
    MAXIMUM_CONTEXTS,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    VERIFICATION,
    application_entity,
    public_storage_classes,
    send_without_delay,
)
from .endpoint import DimseEndpoint
from .guarded_server import guarded_server
from .scp_guard import ScpLimits
from .storage_scp import Receiver

if TYPE_CHECKING:
    import ssl

    from pydicom import Dataset
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

_PENDING = 0xFF00
_CANCELLED = 0xFE00
_IDENTIFIER_DOES_NOT_MATCH = 0xA900
# Group instances by this UID to answer at a level; what an answer may be asked for grows with the level.
_UID_OF_LEVEL = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


class Archive:
    """An archive that answers C-ECHO, C-FIND, C-GET, C-MOVE and C-STORE; a context manager.

    Queries of both information models at every level. It takes every public storage SOP Class in every common
    transfer syntax except Deflated, keeps the bytes as they came, and is bound to one address, loopback by default.

    Parameters
    ----------
    store
        What the archive holds; it may be read and added to while the archive runs.
    ae_title
        Our AE title; peers that call another one are rejected.
    port
        0 for a free one; see :attr:`port`.
    move_destinations
        AE title -> (host, port) of those who may have instances sent to them.
    limits
        What one peer can make the archive hold or wait for.
    tls
        Serve over TLS with this context; a plain connection where not given.
    """

    def __init__(
        self,
        store: InstanceStore,
        *,
        ae_title: str = "AIDB-ARCHIVE",
        port: int = 0,
        host: str = "127.0.0.1",
        move_destinations: Mapping[str, tuple[str, int]] | None = None,
        limits: ScpLimits | None = None,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self.store = store
        self.host = host
        self.port = port
        self.ae_title = ae_title
        self.move_destinations = dict(move_destinations or {})
        self._limits = limits or ScpLimits()
        self._tls = tls
        self._running = ExitStack()

    @property
    def endpoint(self) -> DimseEndpoint:
        """Where a client finds the running archive."""
        return DimseEndpoint("", self.host, self.port, self.ae_title)

    def __enter__(self) -> "Archive":
        from pynetdicom import evt

        idle = self._limits.idle_seconds
        entity = application_entity(
            self.ae_title, association_timeout_s=idle, dimse_timeout_s=idle, connect_timeout_s=10
        )
        study_root = (STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE)
        for uid in (VERIFICATION, *study_root, PATIENT_ROOT_FIND, PATIENT_ROOT_GET, PATIENT_ROOT_MOVE):
            entity.add_supported_context(uid, list(UNCOMPRESSED))
        for sop_class in public_storage_classes():
            # Both roles: a requestor that wants C-GET asks to be the SCP of the storage classes.
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES), scu_role=True, scp_role=True)
        handlers = [
            (evt.EVT_C_STORE, self._receive),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
        ]
        try:
            self.port = self._running.enter_context(
                guarded_server(
                    entity,
                    (self.host, self.port),
                    handlers,
                    self._limits,
                    tls=self._tls,
                    receiver=_ArchiveReceiver(self.store),
                )
            )
        except OSError as error:
            raise EndpointError(
                f"the archive cannot listen on {self.host}:{self.port}: {error.strerror}",
                advice="Choose another port, or 0 for a free one.",
            ) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()

    def _receive(self, event: "Event") -> int:
        # A receiver of its own for every request: one full disk must not end the archive's life for good.
        return Receiver(self.store).receive(event)

    def _find(self, event: "Event") -> "Iterator[tuple[int, Dataset | None]]":
        identifier = event.identifier
        level = str(identifier.get("QueryRetrieveLevel", ""))
        if level not in _UID_OF_LEVEL:
            yield _IDENTIFIER_DOES_NOT_MATCH, None
            return
        for answer in self._answers(level, _filters(identifier)):
            if event.is_cancelled:
                yield _CANCELLED, None
                return
            yield _PENDING, self._response(identifier, level, answer)

    def _get(self, event: "Event") -> "Iterator[int | tuple[int, Dataset | None]]":
        instances = self._selected(event.identifier)
        yield len(instances)
        yield from _sent(event, instances)

    def _move(self, event: "Event") -> "Iterator[Any]":
        destination = self.move_destinations.get((event.move_destination or "").strip())
        if destination is None:
            yield None, None
            return
        instances = self._selected(event.identifier)
        from pynetdicom import evt

        contexts = _contexts_for(instances)
        yield (*destination, {"contexts": contexts, "evt_handlers": [(evt.EVT_CONN_OPEN, send_without_delay)]})
        yield len(instances)
        yield from _sent(event, instances)

    def _selected(self, identifier: "Dataset") -> list[StoredInstance]:
        """Return the instances that a C-GET or C-MOVE asks for; none if it does not name a study."""
        filters = {
            keyword: value for keyword, value in _filters(identifier).items() if keyword in _UID_OF_LEVEL.values()
        }
        if not filters.get("StudyInstanceUID"):
            return []
        return [instance for instance in self.store.instances() if query.matches(instance.attributes, filters)]

    def _answers(self, level: str, filters: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Yield one mapping of attributes per object of the level that matches."""
        groups: dict[str, list[Mapping[str, str]]] = {}
        for instance in self.store.instances():
            uid = instance.attributes.get(_UID_OF_LEVEL[level], "")
            groups.setdefault(uid, []).append(instance.attributes)
        for members in groups.values():
            # What an object lacks is empty here, not unknown: it must not match a key that asks for a value.
            answer = {**dict.fromkeys(INDEXED_ATTRIBUTES, ""), **members[0], **_counts(level, members)}
            if query.matches(answer, filters):
                yield answer

    def _response(self, identifier: "Dataset", level: str, answer: Mapping[str, str]) -> "Dataset":
        from pydicom import Dataset
        from pydicom.datadict import dictionary_VR, keyword_for_tag

        response = Dataset()
        # Tags only: reading the request's elements would validate their values, and warn with them.
        keywords = {tag: keyword_for_tag(tag) for tag in identifier.keys()}  # noqa: SIM118 - iterating gives elements
        texts = {tag: answer.get(keyword, "") for tag, keyword in keywords.items() if keyword}
        for tag, text in texts.items():
            if dictionary_VR(tag) != "SQ":
                response.add(text_element(tag, text))
        if not all(text.isascii() for text in texts.values()):
            response.SpecificCharacterSet = "ISO_IR 192"
        response.QueryRetrieveLevel = level
        response.RetrieveAETitle = self.ae_title
        return response


class _ArchiveReceiver:
    """Takes instances straight from the socket; a receiver of its own for every request, as above."""

    def __init__(self, store: InstanceStore) -> None:
        self._store = store

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> IncomingInstance | int:
        return Receiver(self._store).begin(sop_class_uid, sop_instance_uid, transfer_syntax_uid)

    def end(self, incoming: IncomingInstance) -> int:
        return Receiver(self._store).end(incoming)

    def refuse(self, sop_instance_uid: str, error: BridgeError) -> int:
        return Receiver(self._store).refuse(sop_instance_uid, error)

    def heard(self, byte_count: int) -> None:
        pass


def _filters(identifier: "Dataset") -> dict[str, str]:
    """Return the keys of a request that restrict it; empty ones and those not indexed match everything."""
    keywords = (*INDEXED_ATTRIBUTES, "ModalitiesInStudy")
    return {keyword: text for keyword, text in attribute_texts(identifier, keywords).items() if text not in ("", "*")}


def _counts(level: str, members: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the attributes of a study or series that follow from its instances."""
    if level == "PATIENT":
        return {"NumberOfPatientRelatedStudies": str(len({member["StudyInstanceUID"] for member in members}))}
    if level == "STUDY":
        series = {member["SeriesInstanceUID"]: member.get("Modality", "") for member in members}
        return {
            "ModalitiesInStudy": "\\".join(sorted({modality for modality in series.values() if modality})),
            "NumberOfStudyRelatedSeries": str(len(series)),
            "NumberOfStudyRelatedInstances": str(len(members)),
        }
    return {"NumberOfSeriesRelatedInstances": str(len(members))} if level == "SERIES" else {}


def _sent(event: "Event", instances: Iterable[StoredInstance]) -> "Iterator[tuple[int, Dataset | None]]":
    """Yield what pynetdicom is to send next; the stored bytes are not decoded, only wrapped."""
    from pydicom import dcmread

    for instance in instances:
        if event.is_cancelled:
            yield _CANCELLED, None
            return
        yield _PENDING, dcmread(instance.path)


def _contexts_for(instances: Iterable[StoredInstance]) -> "list[PresentationContext]":
    from pynetdicom import build_context

    contexts = []
    for sop_class, syntax in dict.fromkeys((item.sop_class_uid, item.transfer_syntax_uid) for item in instances):
        contexts.append(build_context(sop_class, syntax))
        if syntax in UNCOMPRESSED:
            contexts.append(build_context(sop_class, [other for other in UNCOMPRESSED if other != syntax]))
    return contexts[:MAXIMUM_CONTEXTS] or [build_context(VERIFICATION, list(UNCOMPRESSED))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an archive until SIGTERM or SIGINT; its port is the first line on standard output."""
    parser = argparse.ArgumentParser(description="A small DICOM archive on this machine's loopback address.")
    parser.add_argument("folder", help="where the instances lie")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) for a free one")
    parser.add_argument("--ae-title", default="AIDB-ARCHIVE")
    given = parser.parse_args(arguments)
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    with InstanceStore(given.folder) as store, Archive(store, ae_title=given.ae_title, port=given.port) as archive:
        sys.stdout.write(f"{archive.port}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
