"""A pause of pynetdicom's reactor thread that is one.

Before an association sends a request it pauses its own reactor, which would take the answers for requests of the
peer. pynetdicom asks a flag whether the reactor has stopped, and the reactor sets the flag a moment before it looks
whether to stop: now and then it goes on, takes one answer and drops it. A C-FIND then lists one instance too few, and
nobody knows.
"""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynetdicom.association import Association

_LOOK_SECONDS = 0.05


class ReactorCheckpoint(threading.Event):
    """Where the reactor waits while it is paused; :meth:`clear` returns only when it does.

    Parameters
    ----------
    reactor
        The reactor's thread: an association.
    """

    def __init__(self, reactor: "Association") -> None:
        super().__init__()
        self._reactor = reactor
        self._changed = threading.Condition()
        self._open = True
        self._held = False

    def is_set(self) -> bool:
        """Return True if the reactor may go on."""
        return self._open

    def set(self) -> None:
        """Let the reactor go on."""
        with self._changed:
            self._open, self._held = True, False
            self._changed.notify_all()

    def clear(self) -> None:
        """Stop the reactor, and wait until it stands still or has ended."""
        with self._changed:
            self._open = False
            if threading.current_thread() is self._reactor:
                return
            while not self._held and not self._open and self._reactor.is_alive():
                self._changed.wait(_LOOK_SECONDS)
            if not self._reactor.is_alive():
                self._reactor._is_paused = True  # pynetdicom goes on asking for it, which nobody else would set now

    def wait(self, timeout: float | None = None) -> bool:
        """Stand still while paused; the reactor calls this once per turn."""

        def may_go_on() -> bool:
            # Asked again at every wake: between a set() and the next clear() the reactor may not have run at all.
            if not self._open and threading.current_thread() is self._reactor:
                self._held = True
                self._changed.notify_all()
            return self._open

        with self._changed:
            return self._changed.wait_for(may_go_on, timeout)


def pause_reliably(association: "Association") -> None:
    """Give an association that has just been established a pause that is one."""
    association._reactor_checkpoint = ReactorCheckpoint(association)
