"""The memory that models take on one series, measured and planned: run as a program, one line of JSON for each way.

Blocks of memory that are freed must go back to the system at once (``MALLOC_MMAP_THRESHOLD_``), or a later run would be
served from what an earlier one left.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK  # noqa: F401 - what the libraries themselves take is none of a model's
import torch
from AIDicomBridgeLib import Catalogue
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.member import Member
from AIDicomBridgeLib.inference.rules import Cleanup, Decision, InputRules, IntensityStep, WindowRules
from AIDicomBridgeLib.models.card import ModelCard
from AIDicomBridgeLib.models.model import Model
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from synthetic import body_phantom, make_series, save_series
from toy_card import own_card

PEAK_IS_RESET_BY = Path("/proc/self/clear_refs")
CPU, SHAPE = torch.device("cpu"), (48, 144, 144)


def ways(card: ModelCard) -> Iterator[tuple[str, Model]]:
    """Yield models by what is special of their run."""

    def seen(*steps: IntensityStep, **rules: object) -> InputRules:
        return InputRules("SPL", intensity=steps, **rules)  # type: ignore[arg-type]

    yield "as it is", own(card)
    for name, steps in {
        "z-score of what is not 0": IntensityStep("z-score", nonzero_only=True),
        "z-score, holes too": IntensityStep("z-score", nonzero_only=True, holes_too=True),
        "percentiles": IntensityStep("percentiles", 1, 99),
    }.items():
        yield name, own(dataclasses.replace(card, input=seen(steps)))
    yield "linear", own(dataclasses.replace(card, input=seen(spacing_mm=(0.8, 0.8, 0.8))))
    yield "cubic", own(dataclasses.replace(card, input=seen(spacing_mm=(0.8, 0.8, 0.8), resampling="cubic")))
    yield "slices apart", own(dataclasses.replace(card, input=seen(spacing_mm=(5, 0.8, 0.8), resampling="nnunet")))
    yield "cleaned", own(dataclasses.replace(card, cleanups=(Cleanup(1, True, True, 1.0), Cleanup(2, True, True))))
    whole = dataclasses.replace(card, windows=WindowRules())
    yield "seen whole", own(whole)
    yield "float16", in_float16(whole)
    many = tuple(dataclasses.replace(card.segments[0], label=label) for label in range(1, 30))
    windows = WindowRules((48, 72, 72), 0.0)
    wide = dataclasses.replace(card, segments=many, decision=Decision(tuple(range(30))), windows=windows)
    yield "folds and mirrors", own(wide, folds=2, mirror_axes=(0,))
    for name in ("ct-tissues", "lungmask-r231"):
        yield name, procedure(Catalogue.load()[name])


def own(card: ModelCard, *, folds: int = 1, mirror_axes: tuple[int, ...] = ()) -> Model:
    assert card.decision is not None
    networks = [torch.nn.Conv3d(1, len(card.decision.values), 1).eval() for _ in range(folds)]
    ensemble = Ensemble(networks, CPU, torch.float32, mirror_axes=mirror_axes)
    return Model(card, CPU, torch.float32, {"network": ensemble}, "")


def in_float16(card: ModelCard) -> Model:
    """Return a model with layers that autocast takes to float16, and others that it does not."""
    layers = [torch.nn.Conv3d(1, 4, 1), torch.nn.GroupNorm(2, 4), torch.nn.Conv3d(4, 1, 3, padding=1)]
    ensemble = Ensemble([torch.nn.Sequential(*layers, torch.nn.Conv3d(1, 3, 1)).eval()], CPU, torch.float16)
    return Model(card, CPU, torch.float16, {"network": ensemble}, "")


def procedure(card: ModelCard) -> Model:
    """Return a shipped procedure with something in its networks' place that takes hardly any memory itself."""
    card = dataclasses.replace(card, modalities=("CT",))
    if card.network is None:
        return Model(card, CPU, torch.float32, {}, "")
    flat = card.windows is not None and len(card.windows.patch) == 2
    layer = Member(lambda x: torch.cat([0.4 - x, x, x - 0.5], 1))
    ensemble = Ensemble([layer], CPU, torch.float32, flat=flat)
    return Model(card, CPU, torch.float32, {"network": ensemble, "finder": ensemble}, "")


def peak_bytes(model: Model, volume: ImageVolume, **options: bool) -> int:
    """Return how far the memory of this process rose at most while the model ran."""
    PEAK_IS_RESET_BY.write_text("5")
    before = status("VmRSS")
    model.segment(volume, any_body_part=True, **options)  # type: ignore[arg-type]
    return status("VmHWM") - before


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(folder: Path) -> None:
    """Write a series and a card to an empty folder; print every way's bytes, measured and planned."""
    torch.set_num_threads(2)
    volume = read_volume(save_series(make_series(body_phantom(SHAPE), spacing_mm=(1.0, 1.0, 1.0)), folder / "series"))
    card = dataclasses.replace(own_card(folder), input=InputRules("SPL"), windows=WindowRules((8, 72, 144), 0.0))
    own(card).segment(volume, any_body_part=True)  # threads and kernels are there afterwards

    def measured(way: str, model: Model, seen: ImageVolume = volume, **options: bool) -> None:
        plan = model.plan(seen, **options)  # type: ignore[arg-type]
        row = {"way": way, "planned": plan.host_bytes, "measured": peak_bytes(model, seen, **options)}
        sys.stdout.write(f"{json.dumps(row)}\n")

    for way, model in ways(card):
        measured(way, model)
    measured("with probabilities", own(card), probabilities=True)
    measured("of float32", own(card), dataclasses.replace(volume, voxels=volume.voxels.astype(np.float32)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
