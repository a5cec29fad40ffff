"""Several transfers at once, watched from the thread that asked for them."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TypeVar

_WATCH_SECONDS = 0.1
_T = TypeVar("_T")


def run_parallel(actions: Sequence[Callable[[], None]], at_most: int, watch: Callable[[], None]) -> None:
    """Run all actions, ``at_most`` of them at once, and raise the first failure when all have ended.

    ``watch`` is called meanwhile on the calling thread, where progress belongs. One action, or one at a time, runs on
    the calling thread itself.
    """
    if at_most == 1 or len(actions) <= 1:
        for action in actions:
            action()
        return
    with ThreadPoolExecutor(at_most, thread_name_prefix="aidicombridge-transfer") as pool:
        futures = [pool.submit(action) for action in actions]
        try:
            while wait(futures, _WATCH_SECONDS, FIRST_EXCEPTION).not_done:
                watch()
                if any(future.done() and future.exception() for future in futures):
                    break
        finally:
            for future in futures:
                future.cancel()  # those that have not begun
    for future in futures:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error


def shares(items: Sequence[_T], count: int, least: int) -> list[Sequence[_T]]:
    """Return the items in at most ``count`` runs of nearly equal length, of ``least`` or more if several."""
    count = max(1, min(count, len(items) // least))
    size, longer = divmod(len(items), count)
    starts = [number * size + min(number, longer) for number in range(count + 1)]
    return [items[first:last] for first, last in pairwise(starts)]
