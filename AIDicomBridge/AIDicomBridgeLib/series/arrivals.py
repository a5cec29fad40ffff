"""Instances between the network and the index: made durable many at a time, apart from the receiving thread."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from .incoming import IncomingInstance

_BATCH = 32  # each holds a file open
_MOST_BATCHES = 3  # at once; then the receiving thread waits, and with it the peer
_SYNC_THREADS = 8


@dataclass(frozen=True)
class StoredInstance:
    """One instance in the store.

    Attributes
    ----------
    path
        The Part 10 file; read it, never change it.
    attributes
        Keyword -> text of the attributes that queries ask for. Patient data: not part of the repr.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


def stored_instance(files: Path, attributes: dict[str, str], transfer_syntax_uid: str) -> StoredInstance:
    """Return an instance with the only path, below the folder ``files``, under which it may lie.

    One folder per study and per series; the names are hashes of the UIDs, which are a stranger's.
    """
    uids = [attributes[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    study, series, instance = (hashlib.sha256(uid.encode("ascii")).hexdigest() for uid in uids)
    path = files / study[:16] / series[:16] / f"{instance[:32]}.dcm"
    return StoredInstance(
        *(uids[0], uids[1], uids[2]), attributes["SOPClassUID"], transfer_syntax_uid, path, MappingProxyType(attributes)
    )


@dataclass(frozen=True)
class Arrived:
    """A received and checked instance on its way into the index; ``settled`` when it is there, or has failed."""

    incoming: IncomingInstance
    stored: StoredInstance
    byte_count: int
    settled: threading.Event = field(default_factory=threading.Event)


def sync_all(instances: Sequence[IncomingInstance]) -> None:
    """Wait until the disk has all of them; their waits overlap. Raises DiskSpaceError."""
    if len(instances) == 1:
        instances[0].make_durable()
        return
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(IncomingInstance.make_durable, instances))


class CommitQueue:
    """Commits instances in batches on a thread of its own.

    Parameters
    ----------
    commit
        Makes a batch durable; what it raises is raised to whoever waits for it.
    """

    def __init__(self, commit: Callable[[Sequence[Arrived]], None]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: list[Arrived] = []
        self._running: list[Future[None]] = []
        self._thread: ThreadPoolExecutor | None = None

    def put(self, arrived: Arrived) -> None:
        """Take one more; waits while too many batches are on their way. Raises what an earlier commit raised."""
        with self._lock:
            self._waiting.append(arrived)
            if len(self._waiting) >= _BATCH:
                self._begin()
            late = self._running[:-_MOST_BATCHES]
        for future in late:
            self._await(future)

    def finish(self) -> None:
        """Commit the rest, wait for all, and end the thread. Raises the first failure."""
        with self._lock:
            if self._waiting:
                self._begin()
            running, thread = list(self._running), self._thread
            self._thread = None
        try:
            for future in running:
                self._await(future)
        finally:
            if thread is not None:
                thread.shutdown()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="aidicombridge-store")
        self._running.append(self._thread.submit(self._commit, self._waiting))
        self._waiting = []

    def _await(self, future: "Future[None]") -> None:
        try:
            future.result()
        finally:
            with self._lock:
                if future in self._running:
                    self._running.remove(future)
