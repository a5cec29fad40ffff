"""Real PACS servers and independent programs for tests; servers run on loopback, in folders of their own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import environ
from pathlib import Path

import pytest

START_SECONDS = 60.0
STOP_SECONDS = 10.0


def require_program(name: str) -> str:
    """Return the path of a program, or skip the test and say which program it lacks.

    Debian's own folders come first: pynetdicom installs programs with the same names as DCMTK's.
    """
    found = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin") or shutil.which(name)
    if found is None:
        pytest.skip(f"the program {name} is not installed")
    return found


def free_port() -> int:
    """Return a TCP port that was free on loopback a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], *, log: Path, ready: Callable[[], bool], variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the length of a ``with`` block, which begins when ``ready`` says so."""
    # Without TCP_NODELAY, DCMTK waits 40 ms for a delayed acknowledge after every instance.
    environment = {**environ, "TCP_NODELAY": "1", **(variables or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=log.parent
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield process
        finally:
            process.kill()  # it keeps nothing that anybody needs, and some take seconds for a farewell
            process.wait(STOP_SECONDS)


def listens(port: int) -> bool:
    """Return True if something on loopback accepts connections on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
