"""The parent's side: :class:`Worker` starts the child process, asks it, and never waits for it."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BadDicomError, BridgeError, WorkerError
from ..progress import Progress
from . import process_tree
from .call_table import refuse_wrong_call
from .messages import Codec, Lines, MessageError, ReadHeader, encoded_slices, from_line, to_line

if TYPE_CHECKING:
    from ..series.source_slice import SourceSlice

_Kind = TypeVar("_Kind")
# File, its size and time of change, SOP Instance UID, frame number.
_SliceKey = tuple[Path, tuple[int, int], str, int | None]
_PIECE_BYTES = 2**20
_PIECES_PER_POLL = 4
# Headers of a result's source are read in such portions: 300 of them take 0.2 s.
_POLL_BUDGET_S = 0.015
_GARBLED = ("the background process sent something that is no answer", "The next run starts a new one.")
_SECRETS = (
    *("AIDICOMBRIDGE_DICOMWEB_TOKEN", "AIDICOMBRIDGE_DICOMWEB_USER", "AIDICOMBRIDGE_DICOMWEB_PASSWORD"),
    *("AIDICOMBRIDGE_DIMSE_USER", "AIDICOMBRIDGE_DIMSE_PASSWORD"),
)


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
        self._child: _Child | None = None
        self._open: dict[int, Path | None] = {}  # tasks without their last event; the folder that an export writes to
        self._last_task = 0
        self._answers: deque[Iterator[Event | None]] = deque()  # None: not ready, there is more to do
        self._headers: dict[_SliceKey, Any] = {}  # of the source seen last, as its files were then

    @property
    def busy(self) -> bool:
        """True while a task has not had its last event."""
        return bool(self._open)

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
        encoded = {name: child.codec.encode(value) for name, value in arguments.items()}
        child.send({"task": self._last_task + 1, "call": call, "arguments": encoded})
        self._last_task += 1
        self._open[self._last_task] = Path(str(arguments["folder"])) if call == "export" else None
        return self._last_task

    def poll(self) -> list[Event]:
        """Return what became known since the last poll. Never waits; takes some 15 ms at most, plus one array."""
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
        if self._child is not None and self._child.ended:  # only now: its answers lay in its folder
            what_and_advice = _GARBLED if self._child.garbled else _describe_end(self._end_child())
            ready += self._fail(*what_and_advice)
        return ready

    def cancel(self) -> None:
        """Kill the child with all that it started; every open task ends as ``cancelled`` at the next poll."""
        self._end_child()
        self._answers.clear()
        if self._open:
            self._answers.append(iter([Event(task, "cancelled") for task in self._open]))

    def close(self) -> None:
        """Kill the child and forget all tasks, without events. Nothing is left; may be called again."""
        self._end_child()
        self._answers.clear()
        self._open.clear()
        self._headers.clear()

    def _running_child(self) -> "_Child":
        if self._child is not None and not self._open:  # it may have died while it had nothing to do
            self._receive()
            if self._child.ended:
                self._end_child()
        if self._child is None:
            of_parent = self._folder() if self._folder is not None else None
            self._child = _Child(self._python or find_python(), self._environment, self._header, of_parent)
        return self._child

    def _receive(self) -> None:
        if self._child is None:
            return
        try:
            for line in self._child.exchange():
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

    def _end_child(self) -> int | None:
        """Kill the child if there is one; remove its folder and what an export left half-written."""
        child, self._child = self._child, None
        if child is None:
            return None
        status = child.end()
        for folder in self._open.values():
            for half_written in folder.glob(".part-*") if folder is not None else ():
                shutil.rmtree(half_written, ignore_errors=True)
        return status


class _Child:
    """One child process: its pipes, which never block, and its private folder.

    Attributes
    ----------
    ended
        True once no answer will come any more; ``garbled`` if that is because the last one was none.
    codec
        Between its messages and values.
    """

    def __init__(
        self, python: str, environment: Mapping[str, str] | None, read_header: ReadHeader, of_parent: Path | None
    ) -> None:
        self.ended = self.garbled = False
        self.folder = Path(tempfile.mkdtemp(prefix="aidicombridge-worker-", dir=of_parent))  # mode 0700
        self.codec = Codec(self.folder, "argument", read_header)
        self._lines = Lines()
        self._unsent = bytearray()
        command = [python, "-P", "-m", f"{__package__}.process"]  # -P: nothing is imported from the current folder
        try:
            self._process = process_tree.start(command, _child_environment(environment))
        except OSError as error:
            self._remove_folder()
            raise WorkerError(
                f"the background process cannot be started with {python}: {error.strerror}",
                advice="Check the installation.",
            ) from error
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018, S101
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        greeting = {"folder": str(self.folder), "process_group": self._process.pid}
        self.send(greeting if of_parent is None else greeting | {"folder_of_parent": str(of_parent)})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message as far as the pipe takes it now; :meth:`exchange` sends the rest."""
        self._unsent += to_line(message)
        self._flush()

    def exchange(self) -> Iterator[bytes]:
        """Send what is left to send, and return the lines that have arrived."""
        self._flush()
        for _ in range(_PIECES_PER_POLL):
            try:
                piece = os.read(self._output, _PIECE_BYTES)
            except BlockingIOError:
                return
            if not piece:
                self.ended = True
                return
            yield from self._lines.feed(piece)

    def end(self) -> int | None:
        """Kill the process with all that it started, remove its folder, and return its exit status."""
        status = process_tree.end(self._process)
        self._remove_folder()
        return status

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._input, self._unsent[:_PIECE_BYTES])]
        except BlockingIOError:
            return
        except OSError:  # the child has closed its end: reading tells
            self._unsent.clear()

    def _remove_folder(self) -> None:
        for folder in (self.folder, self.folder.with_name(f"{self.folder.name}-gone")):
            shutil.rmtree(folder, ignore_errors=True)


def find_python() -> str:
    """Return the interpreter for the child: Slicer's ``PythonSlicer`` if there is one, else our own."""
    beside = shutil.which("PythonSlicer", path=str(Path(sys.executable).parent)) if sys.executable else None
    # A program that is not called python embeds one and cannot be started as an interpreter.
    embedded = "python" not in Path(sys.executable or "").name.lower()
    python = beside or (shutil.which("PythonSlicer") if embedded else sys.executable)
    if not python:
        raise WorkerError("there is no Python to run the background process with", advice="Check the installation.")
    return python


def _child_environment(environment: Mapping[str, str] | None) -> dict[str, str]:
    variables = {name: value for name, value in (environment or os.environ).items() if name not in _SECRETS}
    library = str(Path(__file__).resolve().parents[2])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (library, variables.get("PYTHONPATH"))))
    return variables


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


def _describe_end(status: int | None) -> tuple[str, str]:
    advice = "The next run starts a new one."
    if status is None or status >= 0:
        how = "" if status is None else f" (exit status {status})"
        return f"the background process ended{how} before its answer", advice
    name = str(-status)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    if name == "SIGKILL":
        advice = f"Most often the memory did not suffice. {advice}"
    return f"the background process ended (signal {name}) before its answer", advice
