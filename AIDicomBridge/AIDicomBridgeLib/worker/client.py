"""The parent's side: :class:`Worker` starts the child process, asks it, and never waits for it."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BadDicomError, BridgeError, WorkerError
from ..progress import Progress
from .call_table import refuse_wrong_call
from .child import Child, find_python
from .messages import Codec, MessageError, encoded_slices, from_line

if TYPE_CHECKING:
    import numpy as np

    from ..series.source_slice import SourceSlice

_Kind = TypeVar("_Kind")
# File, its size and time of change, SOP Instance UID, frame number.
_SliceKey = tuple[Path, tuple[int, int], str, int | None]
# Headers of a result's source are read in such portions: 300 of them take 0.2 s.
_POLL_BUDGET_S = 0.015
_GARBLED = ("the background process sent something that is no answer", "The next run starts a new one.")
# So long the end of this process waits for the child's.
_CLOSE_WAIT_S = 2.0


@dataclass(frozen=True)
class Event:
    """What became known about a task.

    Attributes
    ----------
    task
        Its number, as :meth:`Worker.submit` gave it.
    kind
        ``"progress"``; or, once and last, ``"done"``, ``"failed"`` or ``"cancelled"``.
    progress, result, error
        What the kind brings: the report, what the call returned, why it failed.
    """

    task: int
    kind: str
    progress: Progress | None = None
    result: object = None
    error: BridgeError | None = None


class Worker:
    """The engine in a resident child process: long steps run there, one after another; nothing here waits for them.

    The calls are the public methods of :class:`~.calls.Calls`. Voxels and labels arrive memory-mapped and may be
    written to (copy-on-write). The child keeps its last model and volume loaded, and ends itself when this process
    ends. On Windows Python 3.12 is needed.

    Parameters
    ----------
    python
        The interpreter; where not given, Slicer's ``PythonSlicer`` if it lies beside this process's program, else
        this process's own.
    environment
        Environment variables of the child; this process's own where not given. Credentials of the command line are
        left out: they travel on the pipe, inside the endpoints.
    folder
        Gives a private folder of this process, asked when a child starts: the child's own is made in it, and the
        child removes it if this process dies. The system's temporary folder where not given.
    """

    def __init__(
        self,
        *,
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Callable[[], Path] | None = None,
    ) -> None:
        self._python = python
        self._folder = folder
        self._environment = environment
        self._child: Child | None = None
        self._ending: list[Child] = []  # killed, and perhaps not gone yet
        self._open: dict[int, Path | None] = {}  # tasks without their last event; the folder that an export writes to
        self._last_task = 0
        self._answers: deque[Iterator[Event | None]] = deque()  # None: not ready, there is more to do
        self._headers: dict[_SliceKey, Any] = {}  # of the source seen last, as its files were then

    @property
    def busy(self) -> bool:
        """True while a task has not had its last event."""
        return bool(self._open)

    @property
    def ending(self) -> bool:
        """True while a killed child is not gone yet: :meth:`poll` is to be called until it is."""
        return bool(self._ending)

    def submit(self, call: str, /, **arguments: object) -> int:
        """Ask for a call, after those asked for before, and return the task's number. Starts the child if none runs.

        Raises
        ------
        TypeError
            There is no such call, or it does not take these arguments.
        WorkerError
            The child cannot be started.
        DiskSpaceError
            An array among the arguments cannot be written.
        ValueError
            The arguments are longer than any message may be.
        """
        refuse_wrong_call(call, arguments)
        child = self._running_child()
        try:
            encoded = {name: child.codec.encode(value) for name, value in arguments.items()}
        finally:
            child.codec.drop_filed()
        child.send({"task": self._last_task + 1, "call": call, "arguments": encoded})
        self._last_task += 1
        self._open[self._last_task] = Path(str(arguments["folder"])) if call == "export" else None
        return self._last_task

    def file_in_steps(self, array: "np.ndarray") -> Iterator[None]:
        """Hand over, a plane a step, an array that the next call is to be submitted with: to submit it then is quick.

        Until that call the array must stay as it is. 512x512x300 of uint16 are 160 MB, in steps of 0.5 MB.

        Raises
        ------
        WorkerError, DiskSpaceError
            As :meth:`submit`.
        """
        return self._running_child().codec.file_in_steps(array)

    def poll(self) -> list[Event]:
        """Return what became known since the last poll. Never waits; takes some 15 ms at most, plus one array."""
        self._reap()
        self._receive()
        deadline = time.monotonic() + _POLL_BUDGET_S
        ready: list[Event] = []
        try:
            while self._answers:
                for event in self._answers[0]:
                    if event is not None:
                        if event.kind != "progress":
                            self._open.pop(event.task, None)
                        ready.append(event)
                    if time.monotonic() > deadline:
                        return ready
                self._answers.popleft()
        except MessageError:
            return ready + self._fail(*_GARBLED)
        child = self._child
        if child is not None and child.ended:  # only now: its answers lay in its folder
            child.kill(self._half_written)
            if child.is_gone():  # else the next poll says how it ended
                ready += self._fail(*(_GARBLED if child.garbled else _describe_end(child)))
        return ready

    def cancel(self) -> None:
        """Kill the child with all that it started; every open task ends as ``cancelled`` at the next poll.

        Never waits: what the child leaves on disk is removed by the polls that follow, see :attr:`ending`.
        """
        self._end_child()
        self._answers.clear()
        if self._open:
            self._answers.append(iter([Event(task, "cancelled") for task in self._open]))

    def close(self) -> None:
        """Kill the child and forget all tasks, without events; may be called again.

        Nothing is left, unless the system holds the child for seconds.
        """
        self._end_child()
        deadline = time.monotonic() + _CLOSE_WAIT_S
        while self._ending and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.001)
        self._answers.clear()
        self._open.clear()
        self._headers.clear()

    def _running_child(self) -> "Child":
        if self._child is not None and not self._open:  # it may have died while it had nothing to do
            self._receive()
            if self._child.ended:
                self._end_child()
        if self._child is None:
            of_parent = self._folder() if self._folder is not None else None
            self._child = Child(self._python or find_python(), self._environment, self._header, of_parent)
        return self._child

    def _receive(self) -> None:
        if self._child is None:
            return
        try:
            for line in self._child.exchange():
                self._child.has_answered = True
                self._answers.append(self._rebuild(self._child.codec, line))
        except MessageError:
            self._child.ended = self._child.garbled = True

    def _rebuild(self, codec: Codec, line: bytes) -> Iterator[Event | None]:
        """Turn an answer into its event, in small steps."""
        message = from_line(line)
        task, kind = message.get("task"), message.get("kind")
        if not isinstance(task, int) or task not in self._open or kind not in ("progress", "done", "failed"):
            raise MessageError("an answer to no task")
        try:
            if kind == "progress":
                yield Event(task, kind, progress=_checked(codec.decode(message.get("progress")), Progress))
            elif kind == "failed":
                yield Event(task, kind, error=_checked(codec.decode(message.get("error")), BridgeError))
            else:
                result = message.get("result")
                needed = dict.fromkeys(encoded_slices(result))
                if needed:
                    self._headers = {
                        key: header for key, header in self._headers.items() if (key[0], *key[2:]) in needed
                    }
                for key in needed:
                    self._header(*key)
                    yield None
                yield Event(task, kind, result=codec.decode(result))
        except BridgeError as error:
            yield Event(task, "failed", error=error)

    def _header(self, path: Path, uid: str, frame_number: int | None) -> Any:
        state = _state_of(path, uid)
        key = path, state, uid, frame_number
        if key not in self._headers:  # all frames of an instance come with the first
            self._headers |= {(path, state, uid, piece.frame_number): piece.header for piece in _read_slices(path, uid)}
        if key not in self._headers:
            raise BadDicomError(f"the file {path.name} has no frame {frame_number}", uid=uid)
        return self._headers[key]

    def _fail(self, what: str, advice: str) -> list[Event]:
        """End the child and, with an error, every open task."""
        self._end_child()
        self._answers.clear()
        events = [Event(task, "failed", error=WorkerError(what, advice=advice)) for task in self._open]
        self._open.clear()
        return events

    def _end_child(self) -> None:
        """Kill the child if there is one; :meth:`_reap` does the rest."""
        child, self._child = self._child, None
        if child is not None:
            child.kill(self._half_written)
            self._ending.append(child)
            self._reap()

    def _reap(self) -> None:
        """Remove what children that are gone have left."""
        self._ending = [child for child in self._ending if not child.is_gone()]

    @property
    def _half_written(self) -> list[Path]:
        """The folders in which an export may have left a part."""
        return [folder for folder in self._open.values() if folder is not None]


def _checked(value: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise MessageError(f"an answer holds no {kind.__name__}")
    return value


def _state_of(path: Path, uid: str) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise BadDicomError(f"the file {path.name} cannot be read: {error.strerror}", uid=uid) from error
    return found.st_size, found.st_mtime_ns


def _read_slices(path: Path, uid: str) -> "list[SourceSlice]":
    from ..series.dicom_file import read_header
    from ..series.source_slice import slices_of

    header, pixel_offset = read_header(path)
    if str(header.SOPInstanceUID) != uid:
        raise BadDicomError(
            f"the file {path.name} has changed while it was worked on", uid=uid, advice="Load it again."
        )
    return list(slices_of(path, header, pixel_offset))


def _describe_end(child: Child) -> tuple[str, str]:
    status, advice = child.status, "The next run starts a new one."
    if status is None or status >= 0:
        how = "" if status is None else f" (exit status {status})"
        if not child.has_answered:
            return f"the background process, run by {child.python}, ended{how} before it said anything", (
                "If it does so each time, packages that it needs are missing there, or replaced by others: install "
                "them again, or the extension."
            )
        return f"the background process ended{how} before its answer", advice
    name = str(-status)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    if name == "SIGKILL":
        advice = f"Most often the memory did not suffice. {advice}"
    return f"the background process ended (signal {name}) before its answer", advice
