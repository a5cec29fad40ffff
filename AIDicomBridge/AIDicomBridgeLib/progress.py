"""Progress and cancel, the same for every long step."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .errors import JobCancelled


@dataclass(frozen=True)
class Progress:
    """One report of how far a step has come.

    Attributes
    ----------
    stage
        The step's name, e.g. ``"retrieve"``.
    completed, total
        Units done and in all; ``total`` is None while it is unknown.
    unit
        What is counted, plural: ``"instances"``, ``"layers"``, ``"bytes"``.
    message
        A short remark for people; never patient data.
    """

    stage: str
    completed: int
    total: int | None = None
    unit: str = ""
    message: str = ""


ProgressCallback = Callable[[Progress], None]


class CancelToken:
    """Lets one thread (or signal handler) ask another to stop at its next safe point."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask for the stop. Any thread may call it, more than once."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True once :meth:`cancel` was called."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the cancel, at most that long; return True if it came."""
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raise :class:`JobCancelled` if :meth:`cancel` was called."""
        if self.cancelled:
            raise JobCancelled("Cancelled.")


def report(progress: ProgressCallback | None, *args: object, **kwargs: object) -> None:
    """Call ``progress`` with ``Progress(*args, **kwargs)`` if there is a callback."""
    if progress is not None:
        progress(Progress(*args, **kwargs))  # type: ignore[arg-type]


def check_cancel(cancel: CancelToken | None) -> None:
    """Raise :class:`JobCancelled` if ``cancel`` is given and was cancelled."""
    if cancel is not None:
        cancel.raise_if_cancelled()
