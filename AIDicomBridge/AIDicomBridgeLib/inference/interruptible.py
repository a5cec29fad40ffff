"""A cancel that is heard within a network, whatever it is made of: between one operation of torch and the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..progress import CancelToken, check_cancel


@contextmanager
def interruptible(cancel: CancelToken | None) -> Iterator[None]:
    """Let a cancel end what torch computes within the context, TorchScript too; :class:`JobCancelled` is raised then.

    Compiled networks cannot be run within it.
    """
    if cancel is None:
        yield
        return
    from torch.utils._python_dispatch import TorchDispatchMode

    class Listening(TorchDispatchMode):
        # torch.cond and its like, in exported networks: a cancel is heard before them, not within.
        supports_higher_order_operators = True

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # to have torch skip it would import its compiler: seconds, and nothing is compiled here

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            check_cancel(cancel)
            return func(*args, **(kwargs or {}))

    try:
        with Listening():
            yield
    except Exception:
        check_cancel(cancel)  # TorchScript makes another error of it
        raise
