"""What a card may say beside a built-in procedure: nothing that the procedure would pass over."""

from dataclasses import dataclass

from ..errors import ModelError
from ..inference.rules import Decision, InputRules, WindowRules
from .card import ModelCard


@dataclass(frozen=True)
class ProcedureCard:
    """What the card of one procedure holds.

    Attributes
    ----------
    labels
        How many ``[[segments]]`` there are; 0 for as many as the network has.
    input, windows
        What the networks are given; the procedure sees to it. None where it has no network.
    finder
        It has a second network.
    """

    labels: int = 0
    input: InputRules | None = None
    windows: WindowRules | None = None
    finder: bool = False


PROCEDURE_CARDS = {
    "ct-tissues": ProcedureCard(labels=4),
    "deepbet": ProcedureCard(1, InputRules("RAS"), WindowRules(), finder=True),
    "lungmask": ProcedureCard(0, InputRules("SPL"), WindowRules((256, 256))),
}


def refuse_unfit(card: ModelCard, where: str) -> None:
    """Raise :class:`ModelError` if the card's procedure cannot run as the card says; the text names the key.

    Parameters
    ----------
    where
        How complaints call the card.
    """
    usual = PROCEDURE_CARDS.get(card.procedure)
    what = f'the procedure "{card.procedure}"' if usual else "a card without a procedure"
    if (card.finder is not None) != (usual is not None and usual.finder):
        does = "has no" if card.finder is not None else "needs"
        raise ModelError(f"{where}: {what} {does} [finder_weights]")
    if usual is None:
        return
    if (card.network is None) != (usual.input is None):
        raise ModelError(f"{where}: {what} {'needs' if usual.input else 'has no'} [network]")
    if usual.labels and len(card.segments) != usual.labels:
        raise ModelError(f"{where}: {what} gives {usual.labels} [[segments]], and there are {len(card.segments)}")
    for key, said, needed in (
        ("[input]", card.input, usual.input),
        ("[windows]", card.windows, usual.windows),
        ("[output]", card.decision, Decision(tuple(range(len(card.segments) + 1))) if card.network else None),
    ):
        if said != needed:
            raise ModelError(
                f"{where}: {what} prepares and runs its networks in its own way, and {key} says another",
                advice=f'Write {key} as the shipped card of "{card.procedure}" has it, or leave [rules] out.',
            )
