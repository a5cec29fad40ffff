"""Where the panel keeps what it retrieved, for this session only."""

import tempfile
from pathlib import Path


class PrivateFolder:
    """A temporary folder that only this user can read; made on first use, removed by :meth:`close` or at exit.

    If this process dies, the worker removes it.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        """The folder, which exists."""
        if self._folder is None:
            # On Windows a file that a node still maps cannot be removed; the rest is.
            self._folder = tempfile.TemporaryDirectory(prefix="aidicombridge-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove the folder. Safe to call twice."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
