"""Where panel and console keep what they retrieved, for this session only."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "aidicombridge-"
# A file that is locked (on Windows: open) as long as the process that made the folder lives.
IN_USE = "in-use"


class PrivateFolder:
    """A temporary folder that only this user can read; made on first use, removed by :meth:`close` or at exit.

    If this process dies, the worker removes it, if there is one; else, as when the power fails, the next one that is
    made for this user does.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._in_use: IO[bytes] | None = None

    @property
    def path(self) -> Path:
        """The folder, which exists."""
        if self._folder is None:
            remove_abandoned(Path(tempfile.gettempdir()))
            # On Windows a file that a node still maps cannot be removed; the rest is.
            self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
            self._in_use = _mark_in_use(Path(self._folder.name))
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove the folder. Safe to call twice."""
        if self._folder is not None and self._in_use is not None:
            self._in_use.close()
            self._folder.cleanup()
            self._folder = None


def remove_abandoned(temporary: Path) -> None:
    """Remove the private folders of this user's processes that are gone; those of others are left alone."""
    for folder in temporary.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # not ours, in use, or just removed by its owner
            if folder.is_symlink() or (os.name == "posix" and folder.stat().st_uid != os.getuid()):
                continue
            marker = folder / IN_USE
            if os.name == "posix":
                with marker.open("rb") as file:
                    _lock(file)
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                marker.unlink()
                shutil.rmtree(folder, ignore_errors=True)


def _mark_in_use(folder: Path) -> IO[bytes]:
    """Return the open marker. On POSIX it gets its name when it is locked: nobody finds it before."""
    if os.name != "posix":
        return (folder / IN_USE).open("wb")
    marker = folder / "starting"
    file = marker.open("wb")
    _lock(file)
    marker.rename(folder / IN_USE)
    return file


def _lock(file: IO[bytes]) -> None:
    """Lock an open file until it is closed. BlockingIOError if another process has done so. POSIX only."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
