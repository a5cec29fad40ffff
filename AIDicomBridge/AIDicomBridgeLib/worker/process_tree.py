"""Starting a process and ending it together with everything that it started, on Linux, macOS and Windows."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

_MOST_PIECES = 64


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


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the tree of a started process, without waiting for it; one that has ended by itself keeps its status."""
    # Killed before it is waited for: while the leader is unreaped, nobody else can get its number.
    if process.returncode is None:
        _kill_tree(process.pid)


def is_gone(process: subprocess.Popen[bytes]) -> bool:
    """Return True once a killed process and its tree are gone, and ``returncode`` is its status. Never waits.

    Behind a launcher the interpreter is no child of ours, but only it writes to the pipe: that ends with it.
    """
    if process.stdout is not None and not process.stdout.closed and not _is_at_end(process.stdout.fileno()):
        return False
    if process.poll() is None:
        return False
    close_pipes(process)
    return True


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Let go of a process."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _is_at_end(pipe: int) -> bool:
    """Read what is left in a pipe; return False if somebody could still write to it."""
    os.set_blocking(pipe, False)
    try:
        for _ in range(_MOST_PIECES):
            if not os.read(pipe, 65536):
                return True
    except BlockingIOError:
        pass
    return False


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
