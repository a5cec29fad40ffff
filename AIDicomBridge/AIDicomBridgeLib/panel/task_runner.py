"""Runs the panel's flows: each is a generator that asks the worker for one thing after another and never blocks.

A flow reads like a plain function. Where it needs the worker it yields a :class:`Call` and gets back what the call
returned, while the window stays alive; an error or a cancel is raised at that place::

    def flow(self):
        studies = yield Call("find_studies", endpoint=endpoint)
        self.show(studies)
"""

from collections.abc import Callable, Generator
from typing import Any

import qt

from ..errors import BridgeError, JobCancelled
from ..progress import Progress
from ..worker.client import Worker

POLL_INTERVAL_MS = 30

Flow = Generator["Call", Any, Any]


class Call:
    """One thing for the worker to do: the call's name and its keyword arguments."""

    def __init__(self, name: str, /, **arguments: object) -> None:
        self.name = name
        self.arguments = arguments


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
        """Stop the running flow at once: the worker's process is killed, the flow sees JobCancelled."""
        flow = self._flow
        if flow is None:
            return
        self.worker.cancel()
        self._task = None
        self._advance(lambda: flow.throw(JobCancelled("Cancelled.")))

    def close(self) -> None:
        """Cancel, and end the worker for good. Safe to call twice."""
        self.on_change = lambda: None
        self.cancel()
        self._timer.stop()
        self.worker.close()

    def _poll(self) -> None:
        """Hand the worker's news to the flow."""
        for event in self.worker.poll():
            flow = self._flow
            if flow is None or event.task != self._task:
                continue  # of a flow that was cancelled
            if event.kind == "progress":
                if self.on_progress is not None and event.progress is not None:
                    self.on_progress(event.progress)
                continue
            self._task = None
            if event.kind == "done":
                self._advance(lambda flow=flow, result=event.result: flow.send(result))
            else:
                failure = event.error or JobCancelled("Cancelled.")
                self._advance(lambda flow=flow, failure=failure: flow.throw(failure))

    def _advance(self, step: Callable[[], Call]) -> None:
        """Let the flow go on to its next call, or to its end."""
        try:
            request = step()
            while True:
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
        self._timer.stop()
        self.on_change()
