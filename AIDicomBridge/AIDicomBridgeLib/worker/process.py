"""The child process: ``python -m AIDicomBridgeLib.worker.process``, started by :class:`~.client.Worker`.

It reads requests on its standard input and answers on its standard output, one JSON line each. It works on them one
after another on the main thread; a second thread waits for the end of the input, which means that the parent is gone:
then the private folder is removed, and that of the parent if it named one, and the process ends, with all that it
started.
"""

import contextlib
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ..errors import BridgeError, DependencyError, WorkerError
from ..progress import Progress
from . import process_tree
from .calls import Calls
from .messages import Codec, Lines, MessageError, from_line, to_line

PROGRESS_INTERVAL_S = 0.05
_PIECE_BYTES = 65536


class Answers:
    """The protocol's end of standard output; whatever else prints there goes to standard error."""

    def __init__(self) -> None:
        # Standard output itself is given away: a stray print of a library, or of C code, cannot reach the parent.
        self._descriptor = os.dup(1)
        os.dup2(2, 1)

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; nothing happens if the parent is gone: the input's end stops the process."""
        line = memoryview(to_line(message))
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(self._descriptor, line) :]


class Tasks:
    """Runs the requests and answers them.

    Parameters
    ----------
    codec
        Between values and messages.
    answers
        Where the answers go.
    """

    def __init__(self, codec: Codec, answers: Answers) -> None:
        self._codec = codec
        self._answers = answers
        self._calls = Calls(self._report)
        self._lock = threading.Lock()  # receivers report progress from threads of their own
        self._task: int | None = None  # None once it is answered: what comes later belongs to no task
        self._reported = ("", 0.0)

    def run(self, request: dict[str, Any]) -> None:
        """Do what one request asks for and send its result or its error."""
        self._task, self._reported = request["task"], ("", 0.0)
        try:
            call = getattr(self._calls, request["call"])
            arguments = {name: self._codec.decode(value) for name, value in request["arguments"].items()}
            result = self._codec.encode(call(**arguments))
            try:
                self._send("done", result=result)
            except MessageError as error:
                raise WorkerError("the answer is too long", advice="Narrow the query.") from error
        except Exception as error:  # noqa: BLE001 - whatever a call raises must reach the person, as a named error
            failure = error if isinstance(error, BridgeError) else _named(error)
            self._send("failed", error=self._codec.encode(failure))

    def _report(self, progress: Progress) -> None:
        """Send the first and the last report of a stage, and at most 20 a second in between."""
        stage, when = self._reported
        now = time.monotonic()
        if progress.stage != stage or progress.completed == progress.total or now - when >= PROGRESS_INTERVAL_S:
            self._reported = progress.stage, now
            self._send("progress", progress=self._codec.encode(progress))

    def _send(self, kind: str, **content: Any) -> None:
        with self._lock:
            if self._task is not None:
                self._answers.send({"task": self._task, "kind": kind, **content})
                if kind != "progress":
                    self._task = None


def main() -> None:
    """Serve the parent until its end of the pipe closes."""
    answers = Answers()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_input, args=(lines,), daemon=True).start()
    greeting = from_line(lines.get())
    folder = Path(greeting["folder"])
    # All that the engine and the programs it starts put aside lies in the private folder, and goes with it.
    tempfile.tempdir = str(folder / "temporary")
    Path(tempfile.tempdir).mkdir(mode=0o700)
    os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), tempfile.tempdir))
    tasks = Tasks(Codec(folder, "result"), answers)
    while True:
        tasks.run(from_line(lines.get()))


def _read_input(lines: "queue.SimpleQueue[bytes]") -> None:
    """Hand the requests on; end the process when the parent is gone or sends what is no request."""
    greeting: dict[str, Any] = {}
    reader = Lines()
    with contextlib.suppress(MessageError, OSError):
        while piece := os.read(0, _PIECE_BYTES):
            for line in reader.feed(piece):
                greeting = greeting or from_line(line)
                lines.put(line)
        # The end of the input: the parent is gone, and may not have come to remove what it retrieved.
        if "folder_of_parent" in greeting:
            _remove(Path(greeting["folder_of_parent"]))
    if greeting:
        _remove(Path(greeting["folder"]))
    process_tree.end_own_tree(greeting.get("process_group", 0))


def _remove(folder: Path) -> None:
    # Renamed first: the main thread may be about to write into it.
    with contextlib.suppress(OSError):
        folder = folder.rename(folder.with_name(f"{folder.name}-gone"))
    shutil.rmtree(folder, ignore_errors=True)


def _named(error: Exception) -> BridgeError:
    """Return an unforeseen exception as a named error, without its text: that may hold patient data."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return DependencyError(f"the package {error.name.split('.')[0]} is not installed", advice="Install it.")
    if isinstance(error, MemoryError):
        return WorkerError("the memory does not suffice", advice="Close other programs and try again.")
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "AIDicomBridgeLib" in code.co_filename:
            place = f" in {Path(code.co_filename).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return WorkerError(
        f"the step failed in an unforeseen way: {type(error).__name__}{place}",
        advice="Please report this as a fault of AIDicomBridge.",
    )


if __name__ == "__main__":
    try:
        main()
    except (MessageError, KeyError, TypeError):
        sys.exit("The input is not that of a Worker.")
