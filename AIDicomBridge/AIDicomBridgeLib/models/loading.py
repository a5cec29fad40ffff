"""From a name, a card or a path to a model that is ready to run: :func:`load_model`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..inference.device import choose_device, choose_precision
from ..inference.ensemble import Ensemble
from .card import ModelCard
from .catalogue import Catalogue
from .meshnet import build_meshnet
from .model import Model
from .state_dicts import read_checkpoint, read_safetensors
from .weights import WeightsFolder

if TYPE_CHECKING:
    import torch


def load_model(
    name_or_card_or_path: str | ModelCard | Path,
    device: str = "auto",
    *,
    precision: str = "auto",
    catalogue: Catalogue | None = None,
    weights_folder: WeightsFolder | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    name_or_card_or_path
        A name of the catalogue, a card, or the path of a card (``*.toml``).
    device
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    precision
        ``"auto"`` (the quickest that the device computes natively), ``"float32"``, ``"bfloat16"``, ``"float16"``.
    catalogue, weights_folder
        The shipped cards and the user's weights folder where not given.

    Raises
    ------
    ModelError
        The name, card, device or precision cannot be used.
    WeightsError
        The weights are missing or not the ones that the card names; nothing is fetched here.
    """
    card = find_card(name_or_card_or_path, catalogue)
    target = choose_device(device)
    if card.network is None:
        import torch

        return Model(card, target, torch.float32, {}, card.sha256)
    chosen = _precision(precision, target)
    folder = weights_folder or WeightsFolder.default()
    member = _build(card, folder.verified(card))
    windows = card.windows
    flat = windows is not None and len(windows.patch) == 2
    mirrored = tuple(axis + flat for axis in windows.mirror_axes) if windows else ()
    ensemble = Ensemble([member], target, chosen, flat=flat, mirror_axes=mirrored)
    return Model(card, target, chosen, {"network": ensemble}, card.weights.sha256 if card.weights else card.sha256)


def find_card(name_or_card_or_path: str | ModelCard | Path, catalogue: Catalogue | None = None) -> ModelCard:
    """Return the card that a name, a path or a card itself means."""
    if isinstance(name_or_card_or_path, ModelCard):
        return name_or_card_or_path
    if str(name_or_card_or_path).endswith(".toml"):
        return ModelCard.from_file(name_or_card_or_path)
    return (catalogue or Catalogue.load())[str(name_or_card_or_path)]


def _precision(name: str, device: "torch.device") -> "torch.dtype":
    import torch

    if name == "auto":
        return choose_precision(device)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ModelError(f"the precision must be auto, {', '.join(known)}, not '{name}'")
    return known[name]


def _build(card: ModelCard, content: bytes) -> Any:
    if card.network is None or card.weights is None:
        raise ModelError(f"the card {card.name} has no network")
    read = {"safetensors": read_safetensors, "state-dict": read_checkpoint}[card.weights.format]
    return build_meshnet(card.network, read(content))
