"""Progress for people: a bar per stage in a terminal, a line per finished stage in a log."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from ..progress import Progress


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 object", "2 objects"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class ProgressLines:
    """A progress callback; :meth:`stop` before anything else is printed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._last: Progress | None = None
        self._started = 0.0

    def __call__(self, event: Progress) -> None:
        """Show one report."""
        if self._console.quiet:
            return
        if self._last is None or event.stage != self._last.stage:
            self._finish_stage()
            self._start_stage(event)
        self._last = event
        if self._bars is not None and self._task is not None:
            remark = f"{event.unit}  {event.message}".strip()
            self._bars.update(self._task, completed=event.completed, total=event.total, remark=remark)

    def stop(self) -> None:
        """Finish the current stage's line and give the terminal back."""
        self._finish_stage()
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._task = None

    def _start_stage(self, event: Progress) -> None:
        self._started = time.monotonic()
        if not self._console.is_terminal:
            return
        if self._bars is None:
            columns = (
                TextColumn("{task.description:>14}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[remark]}", markup=False),
                TimeElapsedColumn(),
            )
            self._bars = Bars(*columns, console=self._console)
            self._bars.start()
        self._task = self._bars.add_task(event.stage, total=event.total, remark="")

    def _finish_stage(self) -> None:
        last, self._last = self._last, None
        if last is None:
            return
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, total=max(last.completed, 1), completed=max(last.completed, 1))
            self._bars.stop_task(self._task)
        else:
            amount = counted(last.completed, last.unit.removesuffix("s")) if last.completed else ""
            self._console.print(f"{last.stage:>14}  {amount:<18} {time.monotonic() - self._started:6.1f} s")
