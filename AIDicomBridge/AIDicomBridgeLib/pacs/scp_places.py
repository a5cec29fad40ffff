"""Who may stay where there are more connections than places: strangers must not keep honest peers out."""

import math
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .scp_guard import ConnectionGuard, ScpLimits

# Connections without an association request, of which each costs two threads and a buffer.
_MOST_NEWCOMERS = 24
# How long one of them may take while others wait; a peer in earnest takes milliseconds.
_GRACE_SECONDS = 3.0
# Bytes per second over the whole life of an association, below which it does not keep its place against others.
_LEAST_RATE = 1024.0


class Places:
    """The connections of one server, each with its age and its guard."""

    def __init__(self, limits: ScpLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._taken: dict[Any, _Place] = {}
        self._admitted = 0  # connections whose threads are on their way

    def admit(self) -> bool:
        """Return whether there is room for one more connection, after closing those that keep others out.

        Where many have not asked for an association yet, those that take long go. If all places are taken by
        associations, the one that sends least goes, if it is next to nothing: the silence that a peer may keep must not
        become a place that it keeps for ever. After a True :meth:`take` or :meth:`give_up` has to follow.
        """
        now = time.monotonic()
        with self._lock:
            for one in [one for one, place in self._taken.items() if place.has_ended(one, now)]:
                del self._taken[one]
            others = list(self._taken.items())
            waiting = [(one, place) for one, place in others if not one.is_established]
            room = self._admitted + len(waiting) < _MOST_NEWCOMERS
            self._admitted += room
        if len(waiting) > self.limits.associations // 2:
            for one, place in waiting:
                if place.age(now) > _GRACE_SECONDS:
                    hang_up(one)
        if len(others) >= self.limits.associations:
            rates = [(place.rate(now), one) for one, place in others if one.is_established]
            rate, least = min(rates, key=lambda item: item[0], default=(math.inf, None))
            if rate < _LEAST_RATE:
                hang_up(least)
        return room

    def take(self, association: Any, guard: ConnectionGuard) -> None:
        """Enter the association of a connection that was admitted."""
        with self._lock:
            self._admitted -= 1
            self._taken[association] = _Place(time.monotonic(), guard)

    def give_up(self) -> None:
        """Say that a connection that was admitted has come to nothing."""
        with self._lock:
            self._admitted -= 1


@dataclass(frozen=True)
class _Place:
    since: float
    guard: ConnectionGuard

    def age(self, now: float) -> float:
        """Return the seconds since the connection was made."""
        return now - self.since

    def has_ended(self, association: Any, now: float) -> bool:
        """Return whether the association's thread is over; it starts a moment after its connection is entered."""
        was_started = association.ident is not None
        return not association.is_alive() and (was_started or self.age(now) > _GRACE_SECONDS)

    def rate(self, now: float) -> float:
        """Return the bytes per second that have come so far; a young connection has not shown its rate yet."""
        age = self.age(now)
        return math.inf if age <= self.guard.limits.idle_seconds else self.guard.total_bytes / age


def hang_up(association: Any) -> None:
    """Close the connection of an association, as if the peer had; pynetdicom then ends it."""
    connection = association.dul.socket.socket if association.dul.socket is not None else None
    if connection is not None:  # else it is closed already
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
