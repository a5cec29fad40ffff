"""Model cards beside tiny networks with random weights: one as a person writes it, and one in code."""

import dataclasses
import hashlib
from pathlib import Path

import torch
from AIDicomBridgeLib import Catalogue, ModelCard
from AIDicomBridgeLib.inference.rules import Decision, InputRules, IntensityStep, WindowRules
from AIDicomBridgeLib.models.card import NetworkRules, WeightsFile

CARD = """\
name = "toy"
version = "1.0"
title = "A toy"
description = "Random."
citation = "none"
licence = "CC0-1.0"
learned = true
not_for_diagnostic_use = true

[conditions]
modalities = ["CT"]

[input]
orientation = "SPL"

[[input.intensity]]
rule = "window"
low = -1000
high = 1000

[windows]
patch = [16, 16, 16]
mirror_axes = [2]

[network]
classes = 2
architecture = "meshnet"
channels = 4
dilations = [1]

[weights]
file = "toy.safetensors"

[[segments]]
label = 1
name = "Spleen"
category = { value = "123037004", scheme = "SCT", meaning = "Anatomical Structure" }
type = { value = "78961009", scheme = "SCT", meaning = "Spleen" }
color_rgb = [157, 108, 162]
"""


def write_toy_card(folder: Path, *, nonsense: bool = False) -> Path:
    """Write the card and its weights and return the card's path; with ``nonsense`` the network gives NaN."""
    from safetensors.torch import save_file

    torch.manual_seed(5)
    last = torch.randn(2, 4, 1, 1, 1) * (float("nan") if nonsense else 1)
    save_file({"0.weight": torch.randn(4, 1, 3, 3, 3), "3.weight": last}, folder / "toy.safetensors")
    (folder / "toy.toml").write_text(CARD)
    return folder / "toy.toml"


def own_card(folder: Path) -> ModelCard:
    """Write a small MeshNet with random weights and its card, windows of 16, three classes."""
    from safetensors.torch import save

    torch.manual_seed(5)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, bias=False), torch.nn.Conv3d(4, 3, 1, bias=False))
    names = {"0.weight": network[0].weight, "3.weight": network[1].weight}
    content = save({name: tensor.detach().contiguous() for name, tensor in names.items()})
    (folder / "own.safetensors").write_bytes(content)
    shipped = Catalogue.load()["mindgrab"]
    segment = shipped.segments[0]
    return dataclasses.replace(
        shipped,
        name="own",
        segments=(segment, dataclasses.replace(segment, label=2, name="Other")),
        cleanups=(),
        decision=Decision((0, 1, 2)),
        modalities=("CT",),
        network=NetworkRules("meshnet", 3, 4, (1,)),
        input=InputRules("SPL", (2.0, 2.0, 2.0), (IntensityStep("window", -1000, 1000),)),
        windows=WindowRules((16, 16, 16)),
        weights=WeightsFile("own.safetensors", len(content), hashlib.sha256(content).hexdigest()),
    )
