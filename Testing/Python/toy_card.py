"""A model card as a person writes it, beside a tiny network with random weights: any CT, windows of 16 voxels."""

from pathlib import Path

import torch

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
