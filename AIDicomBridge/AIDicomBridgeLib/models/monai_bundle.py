"""A MONAI bundle as a model: its metadata and what its inference configuration says, and its TorchScript network.

The configuration is read as data. A plain checkpoint is run wherever its network is one of a few of MONAI's own and
MONAI is installed, else the TorchScript, if the user has agreed to it: consent changes no model that runs without it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, ModelError, WeightsError
from ..inference.member import Member
from .anatomy import segment_of
from .bundle_config import BundleFiles, Configuration
from .card import ModelCard, NetworkRules
from .consent import Consents
from .monai_pipeline import input_rules, output_rules, window_rules
from .state_dicts import load_into, read_checkpoint
from .torchscript import load_torchscript

if TYPE_CHECKING:
    from torch import nn

METADATA, CONFIGURATIONS = "configs/metadata.json", ("configs/inference.json", "configs/evaluate.json")
SCRIPT, CHECKPOINT = "models/model.ts", "models/model.pt"
KNOWN_NETWORKS = ("UNet", "SegResNet", "DynUNet", "BasicUNet", "AttentionUnet", "VNet", "SwinUNETR", "UNETR")


def is_monai_bundle(path: Path) -> bool:
    """Return True if a folder, or a zip archive, has the metadata of a bundle."""
    return (path.is_dir() or path.suffix == ".zip") and BundleFiles(path).has(METADATA)


def bundle_files(path: Path) -> list[Path]:
    """Return the files that make a model of the bundle."""
    return [path / name for name in (METADATA, *CONFIGURATIONS, SCRIPT, CHECKPOINT)] if path.is_dir() else [path]


def monai_card(path: Path) -> ModelCard:
    """Return the card of a bundle; nothing of it is run, and no weights are read.

    Raises
    ------
    ModelError
        It cannot be read, says no modality, or has a step that is not known, hidden in an expression, or done to
        several input channels as one.
    """
    files = BundleFiles(path)
    metadata, configuration_file = files.table(METADATA), _configuration_file(files)
    configuration = Configuration(files.table(configuration_file))
    try:
        formats = metadata["network_data_format"]
        image, prediction = formats["inputs"]["image"], formats["outputs"]["pred"]
        classes = int(prediction["num_channels"])
        names = {int(key): str(value) for key, value in (prediction.get("channel_def") or {}).items()}
        channels = int(image.get("num_channels", 1))
        channel_names = tuple(str(said) for said in _in_order(image.get("channel_def") or {}))
        name, version = str(metadata.get("name", path.stem)), str(metadata.get("version", "0"))
        background = classes > 1 and names.get(0, "background").lower() == "background"
        labels = range(1, classes) if background else range(classes)
        segments = tuple(
            segment_of(names.get(channel, f"label {channel}"), number, algorithm=f"{name} {version}")
            for number, channel in enumerate(labels, start=1)
        )
        decision, cleanups = output_rules(configuration, classes, background)
        seen = input_rules(configuration, channels, channel_names if len(channel_names) == channels else ())
        seen, windows = window_rules(configuration, seen)
        return ModelCard(
            name=name,
            version=version,
            title=str(metadata.get("task", name)),
            description=str(metadata.get("description", name)),
            citation="; ".join(map(str, metadata.get("references") or []))
            or str(metadata.get("authors", "not stated")),
            licence=str(metadata.get("license", metadata.get("copyright", "not stated"))),
            learned=True,
            not_for_diagnostic_use=True,
            modalities=tuple({"MRI": "MR", "PET": "PT"}.get(kind.upper(), kind.upper()) for kind in _modalities(image)),
            body_parts=(),
            segments=segments,
            cleanups=cleanups,
            decision=decision,
            network=NetworkRules("", classes),
            input=seen,
            windows=windows,
            weights=None,
            procedure="",
            sha256=_sha256(files.read(METADATA) + files.read(configuration_file)),
            folder=path,
            kind="monai",
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"the metadata of the bundle {path.name} lacks or garbles {error}") from error


def load_bundle(card: ModelCard, consents: Consents, asked_as: str) -> tuple[Member, str]:
    """Return the network of a bundle and the SHA-256 of its file.

    Raises
    ------
    ConsentError
        No plain weights can be run, the network is TorchScript, and the user has not agreed to it; nothing of it
        was run.
    ModelError, WeightsError
        There is no network that can be used.
    """
    if card.folder is None:
        raise ModelError(f"the model {card.name} is no bundle")
    files = BundleFiles(card.folder)
    try:
        return _plain_network(files)
    except (ModelError, WeightsError, DependencyError):
        if not files.has(SCRIPT):
            raise
    script = files.read(SCRIPT)  # what is left then
    consents.refuse_without(_sha256(script), card.name, asked_as)
    return load_torchscript(script), _sha256(script)


def _plain_network(files: BundleFiles) -> tuple[Member, str]:
    """Return the network of the bundle's checkpoint, made by MONAI, and the checkpoint's SHA-256."""
    content = files.read(CHECKPOINT)
    tensors = read_checkpoint(content)
    network = _known_network(Configuration(files.table(_configuration_file(files))))
    return Member(load_into(network, tensors.get("model", tensors))), _sha256(content)


def bundle_program(card: ModelCard) -> tuple[str, str]:
    """Return the SHA-256 and the name of the program in a bundle, for the user to agree to."""
    if card.folder is None or not BundleFiles(card.folder).has(SCRIPT):
        raise ModelError(f"the model {card.name} holds no program: there is nothing to agree to")
    return _sha256(BundleFiles(card.folder).read(SCRIPT)), SCRIPT


def _configuration_file(files: BundleFiles) -> str:
    found = next((name for name in CONFIGURATIONS if files.has(name)), None)
    if found is None:
        raise ModelError(
            f"the bundle {files.path.name} has no {CONFIGURATIONS[0]}",
            advice="A configuration in YAML is not read: convert it with json and yaml, or write a model card.",
        )
    return found


def _modalities(image: Mapping[str, Any]) -> tuple[str, ...]:
    given = image.get("modality")
    if not given:
        raise ModelError(
            "the bundle does not say for which modality it is",
            advice=f'Write it into {METADATA}, beside the "num_channels" of its image: "modality": "CT", or "MR".',
        )
    return tuple(given) if isinstance(given, list) else (str(given),)


def _in_order(channels: Mapping[str, Any]) -> list[Any]:
    """Return what a bundle calls its channels, by their numbers, which JSON holds as text."""
    return [channels[number] for number in sorted(channels, key=int)]


def _known_network(configuration: Configuration) -> "nn.Module":
    """Return one of MONAI's own networks, made with the plain values of the configuration."""
    given = configuration.get("network_def") or configuration.get("network")
    name = str(given.get("_target_", "")).rpartition(".")[2] if isinstance(given, Mapping) else ""
    if name not in KNOWN_NETWORKS or not isinstance(given, Mapping):
        raise ModelError(
            f"the bundle has no TorchScript network, and its network '{name}' is none of {', '.join(KNOWN_NETWORKS)}",
            advice="Export its network as TorchScript: python -m monai.bundle ckpt_export",
        )
    arguments = {key: configuration.plain(value, key) for key, value in given.items() if not key.startswith("_")}
    try:
        from monai.networks import nets
    except ImportError as error:
        raise DependencyError(
            f"the bundle needs MONAI's network {name}, and the package monai is not installed",
            advice="Install it: pip install monai",
        ) from error
    try:
        network: nn.Module = getattr(nets, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the bundle's arguments do not fit MONAI's network {name}: {error}") from error
    return network


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
