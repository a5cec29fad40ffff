"""A MONAI bundle as a model: its metadata and what its inference configuration says, and its TorchScript network.

The configuration is read as data. A bundle with a plain checkpoint only is run if its network is one of a few of
MONAI's own, which must then be installed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, ModelError
from ..inference.label_rows import Decision
from .anatomy import segment_of
from .bundle_config import BundleFiles, components, plain
from .card import InputRules, IntensityStep, ModelCard, NetworkRules, WindowRules
from .consent import Consents
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


def monai_card(path: Path) -> ModelCard:
    """Return the card of a bundle; nothing of it is run, and no weights are read.

    Raises
    ------
    ModelError
        It cannot be read, wants several input channels, or hides a needed value in an expression.
    """
    files = BundleFiles(path)
    metadata, configuration = files.table(METADATA), _configuration(files)
    try:
        formats = metadata["network_data_format"]
        image, prediction = formats["inputs"]["image"], formats["outputs"]["pred"]
        classes = int(prediction["num_channels"])
        names = {int(key): str(value) for key, value in (prediction.get("channel_def") or {}).items()}
        if int(image.get("num_channels", 1)) != 1:
            raise ModelError(f"the bundle wants {image['num_channels']} input channels, and a series is one")
        name, version = str(metadata.get("name", path.stem)), str(metadata.get("version", "0"))
        background = names.get(0, "background").lower() == "background"
        labels = range(1, classes) if background else range(classes)
        segments = tuple(
            segment_of(names.get(channel, f"label {channel}"), number, algorithm=f"{name} {version}")
            for number, channel in enumerate(labels, start=1)
        )
        values = tuple(range(len(segments) + 1)) if background else tuple(range(1, len(segments) + 1))
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
            modalities=tuple("MR" if kind in ("MRI", "MR") else kind for kind in _modalities(image)),
            body_parts=(),
            segments=segments,
            cleanups=(),
            decision=Decision(values, "softmax" if background else "sigmoid"),
            network=NetworkRules("", classes),
            input=_input_rules(configuration),
            windows=_window_rules(configuration, image),
            weights=None,
            procedure="",
            sha256=hashlib.sha256(files.read(METADATA) + repr(sorted(configuration)).encode()).hexdigest(),
            folder=path,
            kind="monai",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the metadata of the bundle {path.name} lacks or garbles {error}") from error


def load_bundle(card: ModelCard, consents: Consents, asked_as: str) -> "tuple[nn.Module, str]":
    """Return the network of a bundle and the SHA-256 of its file.

    Raises
    ------
    ConsentError
        The network is TorchScript, and the user has not agreed to it; nothing of it was run.
    ModelError, WeightsError
        There is no network that can be used.
    """
    if card.folder is None:
        raise ModelError(f"the model {card.name} is no bundle")
    files = BundleFiles(card.folder)
    if files.has(SCRIPT):
        content = files.read(SCRIPT)
        sha256 = hashlib.sha256(content).hexdigest()
        consents.refuse_without(sha256, card.name, asked_as)
        return load_torchscript(content), sha256
    content = files.read(CHECKPOINT)
    tensors = read_checkpoint(content)
    return load_into(_known_network(_configuration(files)), tensors.get("model", tensors)), _sha256(content)


def bundle_program(card: ModelCard) -> tuple[str, str]:
    """Return the SHA-256 and the name of the program in a bundle, for the user to agree to."""
    if card.folder is None or not BundleFiles(card.folder).has(SCRIPT):
        raise ModelError(f"the model {card.name} holds no program: there is nothing to agree to")
    return _sha256(BundleFiles(card.folder).read(SCRIPT)), SCRIPT


def _configuration(files: BundleFiles) -> Mapping[str, Any]:
    return next((files.table(name) for name in CONFIGURATIONS if files.has(name)), {})


def _modalities(image: Mapping[str, Any]) -> tuple[str, ...]:
    given = image.get("modality", "CT")
    return tuple(given) if isinstance(given, list) else (str(given),)


def _input_rules(configuration: Mapping[str, Any]) -> InputRules:
    """Return what the transforms before the network do, as far as they are known by name."""
    orientation, steps = "RAS", []
    spacing: tuple[float, ...] = ()
    for transform in components(configuration.get("preprocessing", configuration)):
        kind = str(transform["_target_"]).rpartition(".")[2].removesuffix("d").removesuffix("Dict")

        def value(key: str, default: Any = None, transform: Mapping[str, Any] = transform) -> Any:
            return plain(configuration, transform.get(key, default), key)

        if kind == "Orientation":
            orientation = str(value("axcodes", "RAS"))
        elif kind == "Spacing":
            pixdim = value("pixdim")
            spacing = tuple(float(size) for size in (pixdim if isinstance(pixdim, list) else [pixdim] * 3))
        elif kind == "ScaleIntensityRange":
            low, high, to_low, to_high = (float(value(key)) for key in ("a_min", "a_max", "b_min", "b_max"))
            if value("clip", False):
                steps.append(IntensityStep("clip", low, high))
            scale = (high - low) / (to_high - to_low)  # (x - mean) / std takes low and high to b_min and b_max
            steps.append(IntensityStep("shift-scale", mean=low - to_low * scale, std=scale))
        elif kind == "NormalizeIntensity":
            steps.append(IntensityStep("z-score", nonzero_only=bool(value("nonzero", False))))
        elif kind == "ScaleIntensity":
            steps.append(IntensityStep("min-max"))
        elif kind == "ScaleIntensityRangePercentiles":
            steps.append(IntensityStep("percentiles", float(value("lower")), float(value("upper"))))
    return InputRules(orientation, spacing, tuple(steps))


def _window_rules(configuration: Mapping[str, Any], image: Mapping[str, Any]) -> WindowRules:
    inferer = configuration.get("inferer")
    inferer = inferer if isinstance(inferer, Mapping) else {}
    patch = plain(configuration, inferer.get("roi_size", image.get("spatial_shape")), "roi_size")
    return WindowRules(
        tuple(int(extent) for extent in patch),
        float(plain(configuration, inferer.get("overlap", 0.25), "overlap")),
        tiling="monai",
        importance=str(plain(configuration, inferer.get("mode", "constant"), "mode")),
    )


def _known_network(configuration: Mapping[str, Any]) -> "nn.Module":
    """Return one of MONAI's own networks, made with the plain values of the configuration."""
    given = configuration.get("network_def", configuration.get("network"))
    name = str(given.get("_target_", "")).rpartition(".")[2] if isinstance(given, Mapping) else ""
    if name not in KNOWN_NETWORKS or not isinstance(given, Mapping):
        raise ModelError(
            f"the bundle has no TorchScript network, and its network '{name}' is none of {', '.join(KNOWN_NETWORKS)}",
            advice="Export its network as TorchScript: python -m monai.bundle ckpt_export",
        )
    arguments = {key: plain(configuration, value, key) for key, value in given.items() if not key.startswith("_")}
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
