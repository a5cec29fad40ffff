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
        for path in self._paths():
            try:
                card = card_at(Path(path))
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
        FolderError
            The file cannot be read or written.
        """
        path = model_around(path.resolve())
        card = card_at(path)
        if str(path) in self._paths():
            return card
        own, _ = self.cards()
        if card.name in {*taken, *own}:
            advice = "Give it another name: in the card, or of its folder."
            if card.name in own:
                advice += f" Or take the other off the list: aidicombridge models remove {shlex.quote(card.name)}"
            raise ModelError(f"another model is called {card.name}", advice=advice)
        self._write([*self._paths(), str(path)])
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
        paths = self._paths()
        if wanted not in paths:
            return False
        self._write([path for path in paths if path != wanted])
        return True

    def _paths(self) -> list[str]:
        return [str(path) for path in read_kept(self.path, list, "the list of own models")]

    def _write(self, paths: list[str]) -> None:
        write_kept(self.path, paths, "the list of own models")


def _names(path: Path) -> set[str]:
    """Return what a model that cannot be used may be called: its file or folder, and the name on its card, if any."""
    names = {path.name, path.stem}
    if path.suffix == ".toml" and path.is_file():
        stated = re.search(
            r"""^name\s*=\s*["']([^"'\n]+)["']""", path.read_text("utf-8", errors="replace"), re.MULTILINE
        )
        names |= {stated[1]} if stated else set()
    return names
