"""From a name, a card or a path to a model that is ready to run: :func:`load_model`."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..inference.device import choose_device, choose_precision
from ..inference.ensemble import Ensemble
from ..inference.member import Member
from .card import PROGRAMS, SUFFIXES, ModelCard
from .catalogue import Catalogue, is_on_shipped_card
from .consent import Consents
from .joined import JoinedModel
from .lungmask_unet import build_lungmask
from .meshnet import build_meshnet
from .model import Model
from .model_paths import card_at, folder_card
from .monai_bundle import bundle_files, bundle_program, load_bundle
from .nnunet_folder import is_nnunet_folder, load_nnunet, nnunet_files
from .onnx_network import load_onnx, onnx_device
from .state_dicts import read_checkpoint, read_safetensors
from .torch_export import load_export
from .torchscript import load_torchscript
from .weights import WeightsFolder

if TYPE_CHECKING:
    import torch


def load_model(
    name_or_card_or_path: str | ModelCard | Path,
    device: str = "auto",
    *,
    precision: str = "auto",
    mirror: bool = True,
    compiled: bool = False,
    catalogue: Catalogue | None = None,
    weights_folder: WeightsFolder | None = None,
    consents: Consents | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    name_or_card_or_path
        A name of the catalogue, a card, the path of a card (``*.toml``), an nnU-Net result folder, or a
        MONAI bundle (a folder or ``*.zip``).
    device
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    precision
        ``"auto"`` (the quickest that the device computes natively), ``"float32"``, ``"bfloat16"``, ``"float16"``.
    mirror
        Average mirrored windows in, where the card asks for it or nnU-Net trained it so: up to 8 times the work.
    compiled
        Let torch compile the network, which takes a minute or so and a C++ compiler: for many volumes on end. Models
        that are programs, or graphs, run as they are.
    catalogue, weights_folder, consents
        The shipped cards, the user's weights folder and the user's consents where not given.

    Raises
    ------
    ModelError
        The name, card, device or precision cannot be used.
    WeightsError
        The weights are missing or not the ones that the card names; nothing is fetched here.
    DependencyError
        A package that the model needs is not installed, or not for the device.
    ConsentError
        The weights are a program that is on no shipped card, and the user has not agreed to run it; none of it ran.
    """
    card = find_card(name_or_card_or_path, catalogue)
    asked_as = card.command_name if isinstance(name_or_card_or_path, ModelCard) else str(name_or_card_or_path)
    consents = consents or Consents.default()
    if card.parts:
        return JoinedModel(
            card,
            [
                load_model(
                    part,
                    device,
                    precision=precision,
                    mirror=mirror,
                    compiled=compiled,
                    weights_folder=weights_folder,
                    consents=consents,
                )
                for part in card.parts
            ],
        )
    target = choose_device(device)
    if card.network is None:
        import torch

        return Model(card, target, torch.float32, {}, "")
    if card.weights is not None and card.weights.format == "onnx":
        target = onnx_device(target, chosen=device != "auto")
    chosen = _precision(precision, target)
    folder = weights_folder or WeightsFolder.default()
    windows = card.windows
    flat = windows is not None and len(windows.patch) == 2
    axes = windows.mirror_axes if windows else ()
    members: list[Member]
    if card.kind == "nnunet":
        networks, trained_axes, sha256 = load_nnunet(card)
        axes = trained_axes if axes is None else axes
        members = [Member(network) for network in networks]
    elif card.kind == "monai":
        network, sha256 = load_bundle(card, consents, asked_as)
        members = [network]
    else:
        content = folder.verified(card)
        members = [_build(card, content, target, consents, asked_as)]
        sha256 = hashlib.sha256(content).hexdigest()
    mirrored = tuple(axis + flat for axis in axes or ()) if mirror else ()
    classes = card.network.classes
    ensemble = Ensemble(members, target, chosen, flat=flat, mirror_axes=mirrored, compiled=compiled, classes=classes)
    ensembles = {"network": ensemble}
    if card.finder is not None:
        content = folder.verified(card, card.finder)
        finder = _build(replace(card, weights=card.finder), content, target, consents, asked_as)
        ensembles["finder"] = Ensemble([finder], target, chosen, compiled=compiled, classes=classes)
    return Model(card, target, ensemble.precision, ensembles, sha256)


def find_card(name_or_card_or_path: str | ModelCard | Path, catalogue: Catalogue | None = None) -> ModelCard:
    """Return the card that a name, a path or a card itself means."""
    if isinstance(name_or_card_or_path, ModelCard):
        return name_or_card_or_path
    path, text = Path(name_or_card_or_path), str(name_or_card_or_path)
    if text.endswith((".toml", ".zip")):
        return card_at(path)
    known = catalogue or Catalogue.load()
    # A plain name is a model's also where a folder of that name, an output perhaps, lies in the working directory.
    if text not in known:
        if path.is_dir():
            return folder_card(path)
        _refuse_path(path)
    return known[text]


def _refuse_path(path: Path) -> None:
    """Raise :class:`ModelError` if that is a file, or was meant as a path; a name that is not known stays one."""
    suffixes = [suffix for known in SUFFIXES.values() for suffix in known]
    if path.is_file():
        around = next((folder for folder in path.resolve().parents[:2] if is_nnunet_folder(folder)), None)
        raise ModelError(
            f"the file {path.name} is no model by itself",
            advice=f"Name the nnU-Net folder that it is part of: {around}"
            if around
            else "A network's file needs a card beside it that says how it is run: see 'Bring your own model' in the "
            "README, and name the card (*.toml).",
        )
    if len(path.parts) > 1 or path.suffix in suffixes:
        raise ModelError(
            f"there is no file or folder {path}", advice="Is it written right, from the folder you are in?"
        )


def model_files(card: ModelCard, weights_folder: WeightsFolder | None = None) -> list[Path]:
    """Return the files that a model is loaded from; some may be missing."""
    if card.parts:
        return [file for part in card.parts for file in model_files(part, weights_folder)]
    if card.kind == "file" or card.folder is None:
        folder = weights_folder or WeightsFolder.default()
        return [folder.path(card, weights) for weights in card.weights_files]
    return nnunet_files(card.folder) if card.kind == "nnunet" else bundle_files(card.folder)


def programs_of(card: ModelCard, weights_folder: WeightsFolder | None = None) -> list[tuple[str, str]]:
    """Return the SHA-256 and the name of every program that a model holds, for the user to agree to.

    Raises
    ------
    ModelError
        It holds none: there is nothing to agree to.
    WeightsError
        A file is not on this machine.
    """
    if card.kind == "monai":
        return [bundle_program(card)]
    programs = [file for file in card.weights_files if file.format in PROGRAMS]
    if not programs:
        raise ModelError(f"the model {card.name} is no program: there is nothing to agree to")
    folder = weights_folder or WeightsFolder.default()
    return [(hashlib.sha256(folder.verified(card, file)).hexdigest(), file.file) for file in programs]


def _precision(name: str, device: "torch.device") -> "torch.dtype":
    import torch

    if name == "auto":
        return choose_precision(device)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ModelError(f"the precision must be auto, {', '.join(known)}, not '{name}'")
    return known[name]


def _build(card: ModelCard, content: bytes, device: "torch.device", consents: Consents, asked_as: str) -> Member:
    """Return the network of a card's weights file; a program only if it may run."""
    if card.network is None or card.weights is None:
        raise ModelError(f"the card {card.name} has no network")
    kind = card.weights.format
    if kind in PROGRAMS:
        sha256 = hashlib.sha256(content).hexdigest()
        if not is_on_shipped_card(sha256):
            consents.refuse_without(sha256, card.name, asked_as)
        return load_torchscript(content) if kind == "torchscript" else load_export(content)
    if kind == "onnx":
        return load_onnx(content, device)
    tensors = read_safetensors(content) if kind == "safetensors" else read_checkpoint(content)
    if card.network.architecture == "meshnet":
        return Member(build_meshnet(card.network, card.input.channels if card.input is not None else 1, tensors))
    return Member(build_lungmask(card.network, tensors))
