"""While an association waits for its answers, its reactor stands still: otherwise it takes one of them and drops it."""

import sys
import threading
from collections.abc import Iterator

import pytest
from AIDicomBridgeLib.pacs.reactor_pause import ReactorCheckpoint


class Reactor(threading.Thread):
    """Turns as pynetdicom's does: waits at the checkpoint, then does what must not happen during a pause."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.checkpoint = ReactorCheckpoint(self)
        self.turns = 0
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            self.checkpoint.wait()
            self.turns += 1


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the threads change places as often as they can
    reactor = Reactor()
    reactor.start()
    yield reactor
    reactor.ended = True
    reactor.checkpoint.set()
    reactor.join(10)
    sys.setswitchinterval(before)


def test_nothing_happens_during_a_pause(reactor) -> None:
    for _ in range(2000):
        reactor.checkpoint.clear()
        turns = reactor.turns
        for _ in range(20):
            pass
        assert reactor.turns == turns
        reactor.checkpoint.set()
    reactor.checkpoint.clear()
    turns = reactor.turns
    reactor.checkpoint.set()
    while reactor.turns == turns:
        pass


def test_a_reactor_that_has_ended_holds_nobody_up(reactor) -> None:
    reactor.ended = True
    reactor.join(10)

    reactor.checkpoint.clear()

    assert not reactor.checkpoint.is_set()
    assert reactor._is_paused  # which pynetdicom goes on asking for
