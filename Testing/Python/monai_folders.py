"""MONAI bundles for the tests: small, with a TorchScript network that thresholds at one half."""

import json
from pathlib import Path
from typing import Any

import torch

INFERER = {"_target_": "monai.inferers.SlidingWindowInferer", "roi_size": [8, 8, 8], "overlap": 0.25}
RESCALED = {"_target_": "ScaleIntensityRanged", "a_min": -1000, "a_max": 1000, "b_min": 0, "b_max": 1, "clip": True}


class _Threshold(torch.nn.Module):
    def forward(self, x):
        x = x.mean(1, keepdim=True)
        return torch.cat([0.5 - x, x - 0.5], 1)


def write_bundle(
    folder: Path,
    transforms: Any = (),
    *,
    channels: tuple[str, ...] = ("background", "spleen"),
    inputs: tuple[str, ...] = ("image",),
    **configuration: Any,
) -> Path:
    """Write a bundle whose steps before the network are ``transforms``; further keys go into its configuration."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    metadata = {
        "version": "0.1",
        "name": "Stranger",
        "network_data_format": {
            "inputs": {
                "image": {
                    "modality": "CT",
                    "num_channels": len(inputs),
                    "channel_def": dict(enumerate(inputs)),
                    "spatial_shape": [8, 8, 8],
                }
            },
            "outputs": {
                "pred": {"num_channels": len(channels), "channel_def": dict(enumerate(channels))},
            },
        },
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    steps = list(transforms) if isinstance(transforms, list | tuple) else transforms
    written = {"preprocessing": {"_target_": "Compose", "transforms": steps}, "inferer": INFERER} | configuration
    (folder / "configs" / "inference.json").write_text(json.dumps(written))
    torch.jit.trace(_Threshold(), torch.zeros(1, len(inputs), 8, 8, 8)).save(str(folder / "models" / "model.ts"))
    return folder
