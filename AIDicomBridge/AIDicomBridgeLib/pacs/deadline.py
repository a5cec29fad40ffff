"""A cancel that comes by itself when a whole transfer takes too long."""

import time

from ..errors import DeadlineError, JobCancelled
from ..progress import CancelToken, check_cancel

_LOOK_SECONDS = 0.05


class Deadline(CancelToken):
    """Cancelled by another token, or when its time is over.

    Parameters
    ----------
    cancel
        The person's own token.
    seconds
        Time from now.
    """

    def __init__(self, cancel: CancelToken | None, seconds: float) -> None:
        super().__init__()
        self._cancel_of_person = cancel
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def cancelled(self) -> bool:
        """True once the other token is cancelled or the time is over."""
        return self._is_persons or time.monotonic() > self._end

    def wait(self, timeout_s: float) -> bool:
        """Wait for the cancel or the end of the time, at most that long; return True if it came."""
        end = time.monotonic() + timeout_s
        while not self.cancelled:
            if (left := end - time.monotonic()) <= 0:
                return False
            time.sleep(min(left, _LOOK_SECONDS))
        return True

    def raise_if_cancelled(self) -> None:
        """Raise JobCancelled if the person cancelled, DeadlineError if the time is over."""
        check_cancel(self._cancel_of_person)  # which may itself be a deadline
        if super().cancelled:
            raise JobCancelled("Cancelled.")
        if time.monotonic() > self._end:
            raise DeadlineError(
                f"the transfer took longer than {self._seconds:g} s in all",
                advice="Raise total_timeout_s, or transfer less at once; what has arrived is kept.",
            )

    @property
    def _is_persons(self) -> bool:
        return super().cancelled or (self._cancel_of_person is not None and self._cancel_of_person.cancelled)
