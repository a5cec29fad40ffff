"""Whether the window answers: the gaps of a timer in it while the panel works."""

import time
from typing import Any

import numpy as np

BEAT_MS = 20


class Beats:
    """A timer in the window, and whether the panel waited for the worker at each of its beats."""

    def __init__(self, runner: Any) -> None:
        import qt

        self._runner = runner
        self._loop = qt.QEventLoop()
        self._timer = qt.QTimer()
        self._timer.setInterval(BEAT_MS)
        self._timer.connect("timeout()", self._beat)
        self._beats: list[tuple[float, bool]] = []

    def run_until_idle(self) -> tuple[np.ndarray, np.ndarray]:
        """Run the window until the panel has done; return the gaps in ms while it waited, and the other ones."""
        self._beats = [(time.perf_counter(), True)]
        self._timer.start()
        self._loop.exec()
        self._timer.stop()
        times, waiting = (np.array(column) for column in zip(*self._beats, strict=True))
        gaps_ms = np.diff(times) * 1000
        waited = waiting[:-1] & waiting[1:]
        return gaps_ms[waited], gaps_ms[~waited]

    def _beat(self) -> None:
        self._beats.append((time.perf_counter(), self._runner._task is not None))
        if not self._runner.busy:
            self._loop.quit()
