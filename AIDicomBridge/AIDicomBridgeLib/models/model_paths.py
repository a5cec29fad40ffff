"""From the path of a model to its card."""

from pathlib import Path

from ..errors import ModelError
from .card import ModelCard
from .monai_bundle import is_monai_bundle, monai_card
from .nnunet_folder import is_nnunet_folder, nnunet_card


def card_at(path: Path, *, configuration: str = "") -> ModelCard:
    """Return the card at a path: a card (``*.toml``), an nnU-Net folder, or a MONAI bundle (a folder or ``*.zip``).

    Parameters
    ----------
    configuration
        That of an nnU-Net folder whose name does not say it (:func:`nnunet_card`).

    Raises
    ------
    ModelError
        There is none, or it cannot be used.
    """
    return ModelCard.from_file(path) if path.suffix == ".toml" else folder_card(path, configuration=configuration)


def model_around(path: Path) -> Path:
    """Return the folder that a ``plans.json``, ``dataset.json`` or ``configs/metadata.json`` is of; else the path."""
    if path.name in ("plans.json", "dataset.json"):
        return path.parent
    return path.parents[1] if path.name == "metadata.json" and path.parent.name == "configs" else path


def folder_card(folder: Path, *, configuration: str = "") -> ModelCard:
    """Return the card of a model that is a folder; ``configuration`` as :func:`card_at` has it.

    Raises
    ------
    ModelError
        It is no folder of a known kind.
    """
    if folder.is_dir() and is_nnunet_folder(folder):
        return nnunet_card(folder, configuration=configuration)
    if is_monai_bundle(folder):
        return monai_card(folder)
    if (folder / "plans.json").is_file():
        raise ModelError(
            f"the nnU-Net folder {folder.name} has no dataset.json or no fold_0/checkpoint_final.pth",
            advice="If another checkpoint is meant, such as checkpoint_best.pth, copy it under that name.",
        )
    raise ModelError(
        f"the {'folder' if folder.is_dir() else 'file'} {folder.name} is no model",
        advice="An nnU-Net result folder has plans.json, dataset.json and fold_0/checkpoint_final.pth; a MONAI bundle "
        "has configs/metadata.json.",
    )
