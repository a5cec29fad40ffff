"""The models that can be asked for by name: the shipped cards, and the user's own folders of cards."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import ModelError
from .anatomy import SHIPPED
from .card import ModelCard
from .totalsegmentator import totalsegmentator_cards

SHIPPED_CARDS = SHIPPED


class Catalogue(Mapping[str, ModelCard]):
    """Model cards by name."""

    def __init__(self, cards: Mapping[str, ModelCard]) -> None:
        self._cards = dict(cards)

    @classmethod
    def load(cls, *folders: Path | str) -> "Catalogue":
        """Read the shipped cards, then every ``*.toml`` of the given folders; a later card replaces its namesake.

        What TotalSegmentator has downloaded on this machine is found too.

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
        for card in totalsegmentator_cards():
            cards.setdefault(card.name, card)
        return cls(cards)

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


def is_on_shipped_card(sha256: str) -> bool:
    """Return True if a card that ships with this software names that SHA-256."""
    shipped = (ModelCard.from_file(path) for path in SHIPPED_CARDS.glob("*.toml"))
    return any(file.sha256 == sha256 for card in shipped for file in card.weights_files)
