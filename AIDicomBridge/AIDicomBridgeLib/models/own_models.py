"""The models that a person has added: known by their names from then on, at every door."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from ..errors import BridgeError, ModelError
from ..user_folder import user_folder
from .card import ModelCard
from .kept_file import read_kept, write_kept
from .model_paths import card_at, model_around


class OwnModels:
    """Paths of cards, nnU-Net folders and MONAI bundles, kept in one file; the models stay where they are.

    Beside the path of an nnU-Net folder stands its configuration, for which a checkpoint may have to be read: once,
    when it is added.

    Parameters
    ----------
    path
        The file; ``default()`` gives the person's own.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def default(cls) -> "OwnModels":
        """Return those in the person's data folder; raises what :func:`.user_folder.user_folder` raises."""
        return cls(user_folder() / "models.json")

    def cards(self) -> tuple[dict[str, ModelCard], dict[str, str]]:
        """Return the cards by name, and of every path that cannot be used the reason.

        Raises
        ------
        FolderError
            The file cannot be read.
        """
        cards: dict[str, ModelCard] = {}
        unusable: dict[str, str] = {}
        for path, configuration in self._kept().items():
            try:
                card = card_at(Path(path), configuration=configuration)
            except (BridgeError, OSError) as error:
                unusable[path] = error.what if isinstance(error, BridgeError) else str(error)
                continue
            if card.name in cards:
                unusable[path] = f"another model is called {card.name} too"
            cards.setdefault(card.name, card)
        return cards, unusable

    def add(self, path: Path, taken: Iterable[str] = ()) -> ModelCard:
        """Remember a model and return its card; one that is known already stays.

        Parameters
        ----------
        path
            What :func:`card_at` takes, or a file that such a folder is known by: ``plans.json``, ``metadata.json``.
        taken
            Names that other models have.

        Raises
        ------
        ModelError
            There is no model, or its name is taken.
        DependencyError
            A checkpoint must be read to know what the model is, and torch is not installed.
        FolderError
            The file cannot be read or written.
        """
        path = model_around(path.resolve())
        card = card_at(path)
        kept = self._kept()
        if kept.get(str(path)) == _configuration(card):
            return card
        own, _ = self.cards()
        if str(path) not in kept and card.name in {*taken, *own}:
            advice = "Give it another name: in the card, or of its folder."
            if card.name in own:
                advice += f" Or take the other off the list: aidicombridge models remove {shlex.quote(card.name)}"
            raise ModelError(f"another model is called {card.name}", advice=advice)
        self._write({**kept, str(path): _configuration(card)})
        return card

    def forget(self, name_or_path: str) -> bool:
        """Take a model off the list, by its name or by its path; return whether it was there. Its files stay.

        One that cannot be used is known by the name that its card states, or by that of its file or folder, too.
        """
        cards, unusable = self.cards()
        wanted = str(Path(name_or_path).resolve())
        called = [path for path in unusable if name_or_path in _names(Path(path))]
        if name_or_path in cards:
            wanted = cards[name_or_path].command_name
        elif len(called) == 1:
            wanted = called[0]
        elif called and wanted not in called:
            raise ModelError(
                f"{len(called)} models that cannot be used are called {name_or_path}",
                advice=f"Name one by its path: {', '.join(called)}.",
            )
        kept = self._kept()
        if wanted not in kept:
            return False
        self._write({path: configuration for path, configuration in kept.items() if path != wanted})
        return True

    def _kept(self) -> dict[str, str]:
        kept = read_kept(self.path, dict, "the list of own models")
        return {path: str(configuration) for path, configuration in kept.items()}

    def _write(self, kept: dict[str, str]) -> None:
        write_kept(self.path, kept, "the list of own models")


def _configuration(card: ModelCard) -> str:
    return card.network.architecture if card.kind == "nnunet" and card.network is not None else ""


def _names(path: Path) -> set[str]:
    """Return what a model that cannot be used may be called: its file or folder, and the name on its card, if any."""
    names = {path.name, path.stem}
    if path.suffix == ".toml" and path.is_file():
        stated = re.search(
            r"""^name\s*=\s*["']([^"'\n]+)["']""", path.read_text("utf-8", errors="replace"), re.MULTILINE
        )
        names |= {stated[1]} if stated else set()
    return names
