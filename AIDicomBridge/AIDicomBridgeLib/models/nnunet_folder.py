"""An nnU-Net v2 result folder as a model: plans.json, dataset.json, and a checkpoint in each fold.

That is the form in which TotalSegmentator and most nnU-Net models are handed on. Nothing of nnU-Net is needed.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checked_table import CheckedTable
from ..errors import ModelError, WeightsError
from ..inference.channels import modalities_of
from ..inference.rules import Decision, InputRules, IntensityStep, WindowRules
from .anatomy import segment_of
from .card import ModelCard, NetworkRules
from .card_file import checked_orientation, read_body_parts, read_modalities
from .nnunet_networks import build_nnunet
from .state_dicts import read_checkpoint

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT = "checkpoint_final.pth"
CARD = "aidicombridge.toml"  # optional beside plans.json: what nnU-Net's files do not say
# Slices, rows, columns as nnU-Net's readers give them: as they lie in the series, or turned to RAS, slowest axis first.
_READERS = {"SimpleITKIO": "kji", "NibabelIO": "kji", "NibabelIOWithReorient": "SAR"}


def is_nnunet_folder(folder: Path) -> bool:
    """Return True if a folder has the files of a trained nnU-Net configuration."""
    return all((folder / name).is_file() for name in ("plans.json", "dataset.json")) and bool(_checkpoints(folder))


def nnunet_card(
    folder: Path, *, name: str | None = None, orientation: str | None = None, configuration: str = ""
) -> ModelCard:
    """Return the card of a result folder, which nnU-Net calls ``TRAINER__PLANS__CONFIGURATION``.

    No weights are read, but of a folder of another name the first checkpoint, which says what configuration it is of,
    where ``configuration`` is not given.

    A file ``aidicombridge.toml`` in it may add ``name``, ``version``, ``title``, ``description``, ``citation``,
    ``licence``, ``orientation``, ``modalities``, ``body_parts`` and ``suv``.

    Parameters
    ----------
    name
        The folder's dataset name where not given.
    orientation
        Axes of the images that it was trained on, slowest first; where neither this nor the file says it, those of the
        reader that the plans name.
    configuration
        Which of the plans' it is of, where the folder's name does not say it.

    Raises
    ------
    ModelError
        A file is missing or damaged, or it is something that cannot be run: the second stage of a cascade, an unknown
        network, or an unknown way of reading, resampling or normalising.
    WeightsError
        The folder has another name and its first checkpoint is damaged or holds more than weights.
    DependencyError
        That checkpoint must be read, and torch is not installed.
    """
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    added = _added(folder)
    try:
        configuration_name = _configuration_name(folder, plans, configuration)
        planned = _configuration(plans, configuration_name)
        _refuse_unsupported(planned, configuration_name)
        named = dataset.get("channel_names") or dataset.get("modality") or {}
        channels = tuple(str(named[key]) for key in sorted(named, key=int))
        forward = [int(axis) for axis in plans["transpose_forward"]]
        natural = checked_orientation(added.get("orientation", str, orientation or ""), CARD) or _as_read(plans)
        decision, segments = _labels(dataset)
        name = added.get("name", str, name or str(plans.get("dataset_name", folder.parent.name)))
        version = added.get("version", str, configuration_name)
        modalities = [kind for channel in channels for kind in modalities_of(channel)] or ["CT", "MR", "PT"]
        spacing = [float(value) for value in planned["spacing"]]
        patch = tuple(int(extent) for extent in planned["patch_size"])
        _refuse_unsound(channels, forward, spacing, patch)
        card = ModelCard(
            name=name,
            version=version,
            title=added.get("title", str, f"nnU-Net {name}"),
            description=added.get("description", str, str(dataset.get("description", "")) or f"nnU-Net {name}."),
            citation=added.get(
                "citation", str, str(dataset.get("reference", "")) or "Isensee et al., Nat Methods 2021"
            ),
            licence=added.get("licence", str, str(dataset.get("licence", dataset.get("license", ""))) or "not stated"),
            learned=True,
            not_for_diagnostic_use=True,
            modalities=read_modalities(added, list(dict.fromkeys(modalities))),
            body_parts=read_body_parts(added),
            segments=tuple(segment_of(text, value, algorithm=f"{name} {version}") for value, text in segments),
            cleanups=(),
            decision=decision,
            network=NetworkRules(configuration_name, len(decision.values)),
            input=InputRules(
                "".join(natural[axis] for axis in forward),
                tuple([0.0] * (3 - len(spacing)) + spacing),
                tuple(step for number in range(len(channels)) for step in _intensity(plans, planned, number)),
                channels=len(channels),
                channel_names=channels,
                resampling="nnunet",
                crop="nonzero",
                suv=_suv(added, channels),
            ),
            windows=WindowRules(patch, mirror_axes=None),
            weights=None,
            procedure="",
            sha256=_digest(folder, natural),
            folder=folder,
            kind="nnunet",
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ModelError(f"the plans.json or dataset.json of {folder.name} lacks or garbles {error}") from error
    added.refuse_unknown_keys()  # now that every key was asked for
    return card


def load_nnunet(card: ModelCard) -> "tuple[list[nn.Module], tuple[int, ...], str]":
    """Return the networks of all folds, the axes that they may be mirrored along, and the SHA-256 of the checkpoints.

    Raises
    ------
    WeightsError
        A checkpoint is damaged, holds more than weights, is of another configuration, or does not fit the plans.
    """
    if card.folder is None or card.network is None or card.input is None:
        raise ModelError(f"the model {card.name} is no folder")
    plans = _json(card.folder / "plans.json")
    configuration = _configuration(plans, card.network.architecture)
    digest = hashlib.sha256()
    networks, mirrored = [], ()
    for path in _checkpoints(card.folder):
        content = read_checkpoint(path)
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        _refuse_other_configuration(card.folder, card.network.architecture, plans, content)
        weights = content.get("network_weights")
        if not isinstance(weights, dict):
            raise WeightsError(f"the checkpoint {path.parent.name}/{path.name} lacks the key 'network_weights'")
        networks.append(build_nnunet(configuration, card.input.channels, card.network.classes, weights))
        mirrored = tuple(content.get("inference_allowed_mirroring_axes") or ())
    return networks, mirrored, digest.hexdigest()


def nnunet_files(folder: Path) -> list[Path]:
    """Return the files that make a model of the folder."""
    return [*(folder / name for name in ("plans.json", "dataset.json", CARD)), *_checkpoints(folder)]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints whose outputs are averaged: the numbered folds', or that of ``fold_all`` on its own."""
    found = [path for path in folder.glob(f"fold_*/{CHECKPOINT}") if path.is_file()]
    folds = {path.parent.name.removeprefix("fold_"): path for path in found}
    numbered = sorted(filter(str.isdecimal, folds), key=int)
    # Trained on the cases of all folds together, it is another model and none of them.
    return [folds[fold] for fold in numbered or ("all",) if fold in folds]


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"the file {path.name} of the nnU-Net folder cannot be read") from error
    if not isinstance(content, dict):
        raise ModelError(f"the file {path.name} of the nnU-Net folder is no table")
    return content


def _added(folder: Path) -> CheckedTable:
    import tomllib

    path = folder / CARD
    if not path.is_file():
        return CheckedTable({}, CARD)
    try:
        return CheckedTable(tomllib.loads(path.read_text(encoding="utf-8")), CARD)
    except (OSError, ValueError) as error:
        raise ModelError(f"the file {CARD} cannot be read: {error}") from error


def _configuration_name(folder: Path, plans: Mapping[str, Any], given: str) -> str:
    """Return which of the plans' configurations the folder is of: by its name, as given, or as its checkpoint says."""
    known: Mapping[str, Any] = plans["configurations"]
    named = folder.name.rpartition("__")[2]
    if named in known or len(known) == 1:
        return named if named in known else next(iter(known))
    if given in known:
        return given
    for path in _checkpoints(folder)[: 0 if given else 1]:
        if said := _said_configuration(read_checkpoint(path), known):
            return said
    endings = " or ".join(f"__{name}" for name in known)
    raise ModelError(
        f"neither the name of the nnU-Net folder {folder.name} nor its checkpoint says which configuration it is of",
        advice=f"Let the folder's name end in {endings}.",
    )


def _said_configuration(checkpoint: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return which of the known configurations a checkpoint says that it is of; empty where it says none of them."""
    arguments = checkpoint.get("init_args")
    said = arguments.get("configuration") if isinstance(arguments, dict) else None
    return said if isinstance(said, str) and said in known else ""


def _refuse_other_configuration(folder: Path, name: str, plans: Mapping[str, Any], checkpoint: dict[str, Any]) -> None:
    """Raise :class:`WeightsError` where a folder whose name says nothing has got the checkpoint of another network."""
    said = _said_configuration(checkpoint, plans["configurations"])
    if said and said != name and folder.name.rpartition("__")[2] != name:
        raise WeightsError(
            f"a checkpoint of the nnU-Net folder {folder.name} is of the configuration {said}, and the model of {name}",
            advice="Was the folder changed? Take it off the list of own models, and add it again.",
        )


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one configuration with what it inherits from others."""
    left = dict(plans["configurations"])  # each is inherited from once: a circle of them is a missing one
    found = dict(left.pop(name))
    while parent := found.pop("inherits_from", None):
        found = {**left.pop(parent), **found}
    return found


def _refuse_unsound(channels: Sequence[str], forward: list[int], spacing: list[float], patch: tuple[int, ...]) -> None:
    """Raise ValueError with the key of what no training writes, and no run would end or begin with."""
    if not channels:
        raise ValueError("'channel_names'")
    if sorted(forward) != [0, 1, 2]:
        raise ValueError("'transpose_forward'")
    if len(spacing) not in (2, 3) or not all(0 < mm < math.inf for mm in spacing):
        raise ValueError("'spacing'")
    if len(patch) != len(spacing) or min(patch) < 1:
        raise ValueError("'patch_size'")


def _refuse_unsupported(configuration: Mapping[str, Any], name: str) -> None:
    if configuration.get("previous_stage"):
        raise ModelError(
            f"the nnU-Net configuration {name} is the second stage of a cascade (after "
            f"{configuration['previous_stage']}), which is not supported",
            advice="Use the folder of its first stage, or of a 3d_fullres configuration.",
        )
    preprocessor = configuration.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise ModelError(f"the nnU-Net configuration {name} prepares images by {preprocessor}, which is not supported")
    for key, order in (("resampling_fn_data", 3), ("resampling_fn_probabilities", 1)):
        function = configuration.get(key, "resample_data_or_seg_to_shape")
        if function != "resample_data_or_seg_to_shape":
            raise ModelError(f"the nnU-Net configuration {name} resamples by {function}, which is not supported")
        usual = {"order": order, "order_z": 0, "force_separate_z": None, "is_seg": False}
        for option, value in (configuration.get(f"{key}_kwargs") or {}).items():
            if value != usual.get(option, value):
                raise ModelError(
                    f"the nnU-Net configuration {name} resamples with {option} = {value}, which is not supported"
                )


def _as_read(plans: Mapping[str, Any]) -> str:
    """Return the axes of an image as nnU-Net's own program gives it to the network, before the plans transpose it."""
    reader = str(plans["image_reader_writer"])
    if reader not in _READERS:
        raise ModelError(
            f"the nnU-Net plans read images by {reader}, and it is not known how that lays their axes",
            advice=f'If you know it, write it into the file {CARD} beside plans.json: orientation = "kji" for slices, '
            'rows, columns as they lie in a series, or the directions that they grow to, like "SAR".',
        )
    return _READERS[reader]


def _labels(dataset: Mapping[str, Any]) -> tuple[Decision, list[tuple[int, str]]]:
    """Return how outputs become labels, and each label's value and name."""
    labels = {name: value for name, value in dataset["labels"].items() if name not in ("background", "ignore")}
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        order = [int(value) for value in dataset["regions_class_order"]]
        named = list(zip(order, _remainders(labels), strict=True))
        return Decision(tuple(order), "sigmoid", overlap_rule="last"), sorted(named)
    values = {name: int(value[0] if isinstance(value, list) else value) for name, value in labels.items()}
    named = sorted((value, name) for name, value in values.items())
    if not named or [value for value, _ in named] != list(range(1, len(named) + 1)):
        raise ValueError("'labels'")
    return Decision(tuple(range(len(named) + 1))), named


def _remainders(regions: Mapping[str, Any]) -> list[str]:
    """Return what each region is called once the later ones have taken their part of it, as nnU-Net's labels do."""
    values = {name: set(value) if isinstance(value, list) else {value} for name, value in regions.items()}
    found = []
    for number, (name, own) in enumerate(values.items(), start=1):
        taken_by = [later for later in list(values)[number:] if values[later] & own]
        found.append(f"{name} without {' and '.join(taken_by)}" if taken_by else name)
    return found


def _suv(added: CheckedTable, channels: Sequence[str]) -> bool | None:
    """Return if PET is to be SUV: as the file says it, else a channel's name."""
    said: bool | None = added.optional("suv", bool)
    if said is None and any("SUV" in channel.upper() for channel in channels):
        return True
    return said


def _intensity(plans: Mapping[str, Any], configuration: Mapping[str, Any], channel: int) -> tuple[IntensityStep, ...]:
    """Return how one channel is normalised."""
    scheme, of = str(configuration["normalization_schemes"][channel]), (channel,)
    if scheme == "CTNormalization":
        known = plans["foreground_intensity_properties_per_channel"][str(channel)]
        low, high = float(known["percentile_00_5"]), float(known["percentile_99_5"])
        return (IntensityStep("nnunet-ct", low, high, float(known["mean"]), float(known["std"]), channels=of),)
    if scheme == "ZScoreNormalization":
        masked = bool(configuration["use_mask_for_norm"][channel])
        return (IntensityStep("z-score", nonzero_only=masked, holes_too=masked, channels=of),)
    if scheme == "RescaleTo01Normalization":
        return (IntensityStep("min-max", channels=of),)
    if scheme == "NoNormalization":
        return ()
    raise ModelError(f"the nnU-Net normalisation {scheme} is not supported")


def _digest(folder: Path, orientation: str) -> str:
    """Return a SHA-256 of what decides how the checkpoints are run: wherever the folder lies, it is the same."""
    digest = hashlib.sha256(orientation.encode())
    for name in ("plans.json", "dataset.json", CARD):
        if (folder / name).is_file():
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()
