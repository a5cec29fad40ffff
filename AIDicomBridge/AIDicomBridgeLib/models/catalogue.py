"""The models that can be asked for by name: the shipped cards, the user's own, and TotalSegmentator's."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import DependencyError, FolderError, ModelError
from .anatomy import SHIPPED
from .card import ModelCard
from .own_models import OwnModels
from .totalsegmentator import totalsegmentator_cards

SHIPPED_CARDS = SHIPPED


class Catalogue(Mapping[str, ModelCard]):
    """Model cards by name.

    Attributes
    ----------
    unusable
        The paths of own models that cannot be used, or of their list, and why.
    """

    def __init__(self, cards: Mapping[str, ModelCard], unusable: Mapping[str, str] | None = None) -> None:
        self._cards = dict(cards)
        self.unusable = dict(unusable or {})

    @classmethod
    def load(cls, *folders: Path | str, own: OwnModels | None = None) -> "Catalogue":
        """Read the shipped cards, then every ``*.toml`` of the given folders; a later card replaces its namesake.

        Then come the models that the person has added (``own``, the person's list where not given) and what
        TotalSegmentator has downloaded on this machine; neither replaces anything.

        Raises
        ------
        ModelError
            A folder does not exist or a card is invalid.
        """
        cards: dict[str, ModelCard] = {}
        for folder in (SHIPPED_CARDS, *map(Path, folders)):
            if not folder.is_dir():
                raise ModelError(f"the folder of model cards {folder} does not exist")
            for path in sorted(folder.glob("*.toml")):
                card = ModelCard.from_file(path)
                cards[card.name] = card
        added, unusable = _added(own)
        unusable |= {
            card.command_name: f"another model is called {card.name} too"
            for card in added.values()
            if card.name in cards
        }
        for card in (*added.values(), *totalsegmentator_cards()):
            cards.setdefault(card.name, card)
        return cls(cards, unusable)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._cards)

    def __getitem__(self, name: str) -> ModelCard:
        try:
            return self._cards[name]
        except KeyError:
            raise ModelError(f"there is no model '{name}'", advice=f"Known are: {', '.join(self.names())}.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, name: object) -> bool:
        return name in self._cards


def _added(own: OwnModels | None) -> tuple[dict[str, ModelCard], dict[str, str]]:
    """Return what :meth:`OwnModels.cards` gives; of a list that cannot be read the reason: it hides no other model."""
    try:
        own = own or OwnModels.default()
    except DependencyError:  # without platformdirs nothing of the person's own can be known yet
        return {}, {}
    try:
        return own.cards()
    except FolderError as error:
        return {}, {str(own.path): error.what}


def is_on_shipped_card(sha256: str) -> bool:
    """Return True if a card that ships with this software names that SHA-256."""
    shipped = (ModelCard.from_file(path) for path in SHIPPED_CARDS.glob("*.toml"))
    return any(file.sha256 == sha256 for card in shipped for file in card.weights_files)
