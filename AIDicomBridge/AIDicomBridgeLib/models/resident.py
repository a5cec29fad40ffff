"""Models that stay loaded between volumes, up to a limit."""

import gc
import threading
from collections import OrderedDict
from pathlib import Path

from .card import ModelCard
from .loading import load_model, model_files
from .model import Model
from .weights import WeightsFolder


class ResidentModels:
    """The models used last, loaded; the one unused for longest is released when there are too many.

    Parameters
    ----------
    limit
        How many stay loaded; a network has some 100 MB, an ensemble of five folds some 600 MB.
    weights_folder
        The user's own where not given.
    """

    def __init__(self, limit: int = 2, weights_folder: WeightsFolder | None = None) -> None:
        self._limit = limit
        self._weights_folder = weights_folder
        self._models: OrderedDict[tuple[object, ...], Model] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, card: ModelCard, device: str = "auto", *, precision: str = "auto", mirror: bool = True) -> Model:
        """Return the model, loading it if it is not resident; takes and raises what :func:`.loading.load_model` does.

        A model whose files were changed or replaced since it was loaded is another model. One that has to make room is
        only let go: whoever still holds it, or runs it, can go on.
        """
        key = (self._identity(card), device, precision, mirror)
        with self._lock:
            if key not in self._models:
                while len(self._models) >= self._limit:  # before the next one is loaded
                    self._models.popitem(last=False)
                gc.collect()
                self._models[key] = load_model(
                    card, device, precision=precision, mirror=mirror, weights_folder=self._weights_folder
                )
            self._models.move_to_end(key)
            return self._models[key]

    def __contains__(self, card: ModelCard) -> bool:
        wanted = self._identity(card)
        with self._lock:
            return any(key[0] == wanted for key in self._models)

    def release(self) -> None:
        """Give back the memory of all of them."""
        with self._lock:
            while self._models:
                self._models.popitem()[1].release()

    def _identity(self, card: ModelCard) -> tuple[object, ...]:
        """Return the card and the state of its files: cards that read alike may lie beside different weights."""
        return card, *(_state(path) for path in model_files(card, self._weights_folder))


def _state(path: Path) -> tuple[Path, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # missing; loading says so by name
    return path.resolve(), found.st_size, found.st_mtime_ns
