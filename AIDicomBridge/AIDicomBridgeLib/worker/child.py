"""The child process as the parent has it: its pipes, its private folder, and its end."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import WorkerError
from . import process_tree
from .messages import Codec, Lines, ReadHeader, to_line

_PIECE_BYTES = 2**20
_PIECES_PER_POLL = 4
# A killed process that the system still holds after this time (a driver that does not return) is let go of.
_END_WAIT_S = 5.0
_SECRETS = (
    *("AIDICOMBRIDGE_DICOMWEB_TOKEN", "AIDICOMBRIDGE_DICOMWEB_USER", "AIDICOMBRIDGE_DICOMWEB_PASSWORD"),
    *("AIDICOMBRIDGE_DIMSE_USER", "AIDICOMBRIDGE_DIMSE_PASSWORD"),
)


class Child:
    """One child process: its pipes, which never block, and its private folder.

    Attributes
    ----------
    ended
        True once no answer will come any more; ``garbled`` if that is because the last one was none.
    has_answered
        True once it has said anything.
    python
        Its interpreter.
    codec
        Between its messages and values.
    """

    def __init__(
        self, python: str, environment: Mapping[str, str] | None, read_header: ReadHeader, of_parent: Path | None
    ) -> None:
        self.ended = self.garbled = self.has_answered = False
        self.python = python
        self.folder = Path(tempfile.mkdtemp(prefix="aidicombridge-worker-", dir=of_parent))  # mode 0700
        self.codec = Codec(self.folder, "argument", read_header)
        self._lines = Lines()
        self._unsent = bytearray()
        self._killed_at: float | None = None
        self._half_written: list[Path] = []
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

    def kill(self, half_written: list[Path]) -> None:
        """Kill the process with all that it started, without waiting; what it has half-written goes when it is gone."""
        if self._killed_at is None:
            process_tree.kill(self._process)
            self._killed_at, self._half_written = time.monotonic(), half_written

    def is_gone(self) -> bool:
        """Return True once the killed process is gone, or held by the system too long; then nothing is left of it."""
        late = self._killed_at is not None and time.monotonic() > self._killed_at + _END_WAIT_S
        if not process_tree.is_gone(self._process) and not late:
            return False
        process_tree.close_pipes(self._process)
        self._remove_folder()
        for folder in self._half_written:
            for part in folder.glob(".part-*"):
                shutil.rmtree(part, ignore_errors=True)
        return True

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it is not known."""
        return self._process.returncode

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
