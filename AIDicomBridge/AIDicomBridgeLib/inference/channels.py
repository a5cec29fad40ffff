"""The volumes that a network sees together, one for each of its input channels."""

import re
from collections.abc import Sequence

import numpy as np

from ..errors import ConflictError, GeometryError, ModelError
from ..series.volume import ImageVolume
from .rules import InputRules

_SAME_PLACE_MM = 0.01  # how far apart the corners of two grids may lie that count as one
# The words of a channel's name that say of which modality it is.
_WORDS = {
    # Words end in CT that are none: duct, tract, SPECT. CTV is a target of radiotherapy.
    "CT": re.compile(r"([CN]E|CB|NC|U?HR|U?LD|[LFS]D|DE|MD|PC|[KM]?V|[34]D|PET)CT(P?A|P)?\d*|CT(?!V\d*$)\w*"),
    "MR": re.compile(r"\w*MR[IA]?\d*|MR\w*|T[12][A-Z]*|PDW?|(FLAIR|DWI|ADC|SWI|DIXON|MP2?RAGE)\d*"),
    "PT": re.compile(r"(FDG|PSMA)?(PET|PT)(CT|MRI?)?\d*|PETNORM|SUV[A-Z]*|FDG|PSMA"),
}
_WORD_ENDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")  # cineMRI is two


def modalities_of(name: str) -> tuple[str, ...]:
    """Return the modalities that a channel's name speaks of, such as ``("MR",)`` for T1; none where it says nothing."""
    words = [word.upper() for word in _WORD_ENDS.split(name)]
    return tuple(modality for modality, known in _WORDS.items() if any(map(known.fullmatch, words)))


def channels_of(
    volume: ImageVolume | Sequence[ImageVolume], rules: InputRules | None, model: str
) -> tuple[ImageVolume, ...]:
    """Return the volumes, one for each input channel, in the order of the channels.

    Raises
    ------
    ModelError
        There are more or fewer than the model has channels; the text names these. Or one is of the modality that
        another channel's name speaks of, or stands for two channels that would then be the same.
    ConflictError
        They are not of one study.
    GeometryError
        They do not lie on one grid, or that grid is irregular.
    """
    volumes = (volume,) if isinstance(volume, ImageVolume) else tuple(volume)
    wanted = rules.channels if rules is not None else 1
    if len(volumes) != wanted:
        names = f" ({', '.join(rules.channel_names)})" if rules is not None and rules.channel_names else ""
        raise ModelError(
            f"the model {model} wants {wanted} input channel{'s' if wanted > 1 else ''}{names}, and {len(volumes)} "
            f"volume{'s were' if len(volumes) != 1 else ' was'} given",
            advice="Give it one volume for each, in that order, all on one grid: Model.segment([first, second, ...])."
            if wanted > 1
            else "Give it one series.",
        )
    first, *others = volumes
    if rules is not None and others:
        _refuse_swapped(volumes, rules, model)
        _refuse_twice(volumes, rules, model)
    for other in others:
        if other.source.study_uid != first.source.study_uid:
            raise ConflictError(
                "the volumes of the input channels are of different studies", uid=other.source.series_uid
            )
        same_frame = other.source.frame_of_reference_uid == first.source.frame_of_reference_uid
        if not same_frame or other.voxels.shape != first.voxels.shape or _distance_mm(first, other) > _SAME_PLACE_MM:
            raise GeometryError(
                f"the volumes of the input channels do not lie on one grid: {first.voxels.shape} and "
                f"{other.voxels.shape} voxels",
                uid=other.source.series_uid,
                advice="Resample the series to one grid first.",
            )
    if others and any(channel.source.irregularity for channel in volumes):
        raise GeometryError(
            "volumes of several input channels must be regular, and one has uneven or tilted slices",
            uid=first.source.series_uid,
        )
    return volumes


def _refuse_swapped(volumes: Sequence[ImageVolume], rules: InputRules, model: str) -> None:
    kinds = [modalities_of(name) for name in rules.channel_names]
    of_any = {kind for own in kinds for kind in own}
    for own, name, volume in zip(kinds, rules.channel_names, volumes, strict=False):
        # What no name speaks of, the card's modalities allow or not: CT may be what the training called the PET.
        if own and volume.modality in of_any.difference(own):
            raise ModelError(
                f"the model {model} wants {name} there, and the volume given for it is {volume.modality}",
                uid=volume.source.series_uid,
                advice=f"Give the volumes in the order of the model's channels: {', '.join(rules.channel_names)}.",
            )


def _refuse_twice(volumes: Sequence[ImageVolume], rules: InputRules, model: str) -> None:
    seen = set()
    for number, volume in enumerate(volumes):
        windows = tuple(
            (step.low, step.high)
            for step in rules.intensity
            if step.rule in ("window", "clip") and (not step.channels or number in step.channels)
        )  # a CT in several windows is several channels
        source = (volume.source.series_uid, *volume.source.sop_instance_uids, volume.source.frames, windows)
        if source in seen:
            raise ModelError(
                f"the model {model} was given the same series for two of its {rules.channels} channels",
                uid=volume.source.series_uid,
                advice="Give it another series for each.",
            )
        seen.add(source)


def _distance_mm(first: ImageVolume, second: ImageVolume) -> float:
    """Return how far apart the outermost voxels of two volumes of one shape lie at most."""
    k, j, i = (size - 1 for size in first.voxels.shape)
    corners = np.array([(a, b, c, 1) for a in (0, i) for b in (0, j) for c in (0, k)], float).T
    return float(np.abs((first.ijk_to_lps - second.ijk_to_lps) @ corners).max())
