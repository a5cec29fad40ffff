"""Runs the panel's flows: each is a generator that asks the worker for one thing after another and never blocks.

A flow reads like a plain function. Where it needs the worker it yields a :class:`Call` and gets back what the call
returned, while the window stays alive; an error or a cancel is raised at that place. Work that only the main thread may
do is done in small bites, with a bare ``yield`` between them::

    def flow(self):
        studies = yield Call("find_studies", endpoint=endpoint)
        for study in studies:
            self.show(study)
            yield
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import qt

from ..errors import BridgeError, JobCancelled
from ..progress import Progress
from ..worker.client import Worker

POLL_INTERVAL_MS = 30
# So long a flow keeps the main thread at a stretch; then the window gets its turn.
BITE_S = 0.02

Flow = Generator["Call | None", Any, Any]


class Call:
    """One thing for the worker to do: the call's name and its keyword arguments."""

    def __init__(self, name: str, /, **arguments: object) -> None:
        self.name = name
        self.arguments = arguments


def in_bites(steps: Generator[Any, None, None], resting: Callable[[Any], None] = lambda _step: None) -> Flow:
    """Do in small steps what only the main thread may do, with pauses; ``resting`` is called before each of them."""
    with closing(steps):
        bite_end = time.monotonic() + BITE_S
        for step in steps:
            if time.monotonic() > bite_end:
                resting(step)
                yield
                bite_end = time.monotonic() + BITE_S


class Stopped(JobCancelled):
    """A flow was stopped because the scene or the module goes, not because somebody pressed Cancel."""


class TaskRunner:
    """Runs one flow at a time on one resident worker.

    Parameters
    ----------
    worker
        For tests; a new one where not given. Its process starts with the first call.

    Attributes
    ----------
    on_change
        Called whenever a flow begins or ends.
    on_progress
        Called with every Progress of the running flow; the flow sets it, see ``StageStatus.running``.
    """

    def __init__(self, on_change: Callable[[], None], worker: Worker | None = None) -> None:
        self.worker = worker or Worker()
        self.on_change = on_change
        self.on_progress: Callable[[Progress], None] | None = None
        self._flow: Flow | None = None
        self._task: int | None = None
        self._paused = False  # the flow goes on at the next tick
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def busy(self) -> bool:
        """True while a flow runs."""
        return self._flow is not None

    def notify(self) -> None:
        """Say that what can be done may have changed."""
        self.on_change()

    def report(self, progress: Progress) -> None:
        """Show how far a step of the main thread's own has come."""
        if self.on_progress is not None:
            self.on_progress(progress)

    def start(self, flow: Flow) -> None:
        """Run a flow; what it raises of BridgeError and JobCancelled it has shown itself. Ignored while one runs."""
        if self.busy:
            flow.close()
            return
        self._flow = flow
        self._timer.start()
        self.on_change()
        self._advance(lambda: next(flow))

    def cancel(self) -> None:
        """Stop the running flow at once: it sees JobCancelled, and if it waits for the worker, that is killed."""
        self._break_off(JobCancelled("Cancelled."))

    def _break_off(self, why: JobCancelled) -> None:
        flow = self._flow
        if flow is None:
            return
        if not self._paused:  # else the worker has nothing to do, and may keep what it has loaded
            self.worker.cancel()
        self._task, self._paused = None, False
        self._advance(lambda: flow.throw(why))

    def stop(self) -> None:
        """Cancel, and end the worker's process with all that it holds in memory; the next call starts a new one."""
        self._break_off(Stopped("Cancelled."))
        self.worker.cancel()
        self._timer.start()  # until the process is gone

    def close(self) -> None:
        """Cancel, and end the worker for good. Safe to call twice."""
        self.on_change = lambda: None
        self.cancel()
        self._timer.stop()
        self.worker.close()

    def _poll(self) -> None:
        """Let a flow that made a pause go on, and hand the worker's news to the one that waits for it."""
        if self._paused:
            self._paused = False
            self._advance(lambda flow=self._flow: next(flow))
        for event in self.worker.poll():
            flow = self._flow
            if flow is None or event.task != self._task:
                continue  # of a flow that was cancelled
            if event.kind == "progress":
                if event.progress is not None:
                    self.report(event.progress)
                continue
            self._task = None
            if event.kind == "done":
                self._advance(lambda flow=flow, result=event.result: flow.send(result))
            else:
                failure = event.error or Stopped("Cancelled.")
                self._advance(lambda flow=flow, failure=failure: flow.throw(failure))
        if not self.busy and not self.worker.ending:
            self._timer.stop()

    def _advance(self, step: Callable[[], "Call | None"]) -> None:
        """Let the flow go on to its next call or pause, or to its end."""
        try:
            request = step()
            while True:
                if request is None:
                    self._paused = True
                    return
                try:
                    self._task = self.worker.submit(request.name, **request.arguments)
                    return
                except Exception as error:  # noqa: BLE001 - the flow shows it and raises it again
                    request = self._flow.throw(error)  # type: ignore[union-attr]
        except (StopIteration, BridgeError, JobCancelled):
            self._end()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._flow = self._task = self.on_progress = None
        self._paused = False
        self.on_change()
