"""A worker whose rules model computes without end, and has a process of its own compute beside it.

The model announces both by connecting to a server here: a connection shows that the process computes, and its end that
the process is gone, whoever would have had to wait for it.
"""

import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from AIDicomBridgeLib.worker import client

DEADLINE_S = 60.0
SLICES_FIRST = 3  # are done as ever

# What runs in the worker's place: the worker, with one function that the model calls for every slice made slow.
_SLOW = """
import json, os, runpy, socket, subprocess, sys

def announce(who):
    connection = socket.create_connection(("127.0.0.1", {port}))
    connection.sendall(json.dumps([who, os.getpid()]).encode() + b"\\n")
    return connection

if sys.argv[1:] == ["beside"]:
    connection = announce("beside")
    while True:
        sum(range(10**6))

from AIDicomBridgeLib.models import ct_tissues

check_cancel, slices = ct_tissues.check_cancel, 0

def check_and_compute(cancel):
    global slices
    slices += 1
    if slices > {slices_first} and not os.path.exists({quick!r}):
        beside = subprocess.Popen([sys.executable, __file__, "beside"])
        connection = announce("model")
        while True:
            sum(range(10**6))
    check_cancel(cancel)

ct_tissues.check_cancel = check_and_compute
runpy.run_module("AIDicomBridgeLib.worker.process", run_name="__main__")
"""


@dataclass
class Computing:
    """The processes that compute: the worker's, and the one that its model has started."""

    process_ids: dict[str, int]
    connections: dict[str, socket.socket]

    def wait_for_end(self) -> None:
        """Return when both processes are gone; TimeoutError if one stays."""
        for connection in self.connections.values():
            assert connection.recv(1) == b""


class SlowModel:
    """Makes the model of the next workers slow, until told otherwise."""

    def __init__(self, listener: socket.socket, quick: Path) -> None:
        self._listener, self._quick = listener, quick
        self._accepted: list[socket.socket] = []

    def computing(self, shell) -> Computing:
        """Return the processes once they compute; the window goes on meanwhile."""
        found = Computing({}, {})

        def all_there() -> bool:
            try:
                connection = self._listener.accept()[0]
            except BlockingIOError:
                return False
            self._accepted.append(connection)
            connection.settimeout(DEADLINE_S)
            who, process_id = json.loads(connection.makefile().readline())
            found.process_ids[who], found.connections[who] = process_id, connection
            return set(found.connections) == {"model", "beside"}

        shell.wait_until(all_there, DEADLINE_S, "the model's computation")
        return found

    def be_quick(self) -> None:
        """Let the model of the next worker be as it is."""
        self._quick.touch()

    def close(self) -> None:
        for connection in self._accepted:
            connection.close()


@contextmanager
def slow_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowModel]:
    """Start every worker through a launcher, as PythonSlicer is one, with its rules model made slow."""
    folder.mkdir()
    program, launcher, quick = folder / "slow.py", folder / "PythonSlicer", folder / "quick"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        program.write_text(
            _SLOW.format(port=listener.getsockname()[1], slices_first=SLICES_FIRST, quick=os.fspath(quick))
        )
        launcher.write_text(f'#!/bin/sh\n"{sys.executable}" -P "{program}"\nexit $?\n')
        launcher.chmod(stat.S_IRWXU)
        monkeypatch.setattr(client, "find_python", lambda: os.fspath(launcher))
        model = SlowModel(listener, quick)
        try:
            yield model
        finally:
            model.close()
