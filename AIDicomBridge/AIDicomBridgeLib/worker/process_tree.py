"""Starting a process and ending it together with everything that it started, on Linux, macOS and Windows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

_END_WAIT_S = 5.0


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that leads a tree of its own, with pipes for standard input and output.

    On POSIX it leads a new session, so that a Ctrl-C meant for us does not reach it. Its standard error goes nowhere:
    what libraries print there may hold patient data.
    """
    return subprocess.Popen(
        arguments,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows only
    )


def end(process: subprocess.Popen[bytes]) -> int | None:
    """Kill the tree of a started process and return the exit status, negative for a signal.

    A process that has ended by itself keeps its own status; what it left running is killed. None if the process is
    still held by the system after 5 s (a driver that does not return).
    """
    # Killed before it is waited for: while the leader is unreaped, nobody else can get its number.
    if process.returncode is None:
        _kill_tree(process.pid)
    deadline = time.monotonic() + _END_WAIT_S
    if process.stdout is not None:
        _wait_for_end_of(process.stdout.fileno(), deadline)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        return process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _wait_for_end_of(pipe: int, deadline: float) -> None:
    """Read a pipe to its end: behind a launcher the interpreter is no child of ours, but only it writes there."""
    os.set_blocking(pipe, False)
    while time.monotonic() < deadline:
        try:
            if not os.read(pipe, 65536):
                return
        except BlockingIOError:
            time.sleep(0.001)


def end_own_tree(leader: int) -> None:
    """End this process and the tree that ``leader``, this process or its launcher, leads. Does not return."""
    if os.name != "posix":
        _kill_tree(os.getpid())
    elif os.getpgrp() == leader:  # never a group that somebody else made, such as a shell's
        _kill_tree(leader)
    os._exit(1)


def _kill_tree(leader: int) -> None:
    if sys.platform == "win32":
        command = ["taskkill", "/PID", str(leader), "/T", "/F"]
        subprocess.run(command, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
        return
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS refuses for a group of which only an unreaped leader is left
        return
