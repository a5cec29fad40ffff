"""``python -m bench.precision``: what bfloat16 changes in the labels of the shipped networks, on a real head MR.

Where the device computes bfloat16 natively, it is what runs. Elsewhere its rounding is: layers get inputs and weights
that were rounded to it, sum in float32 as such hardware does, and their outputs are rounded again.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from AIDicomBridgeLib import Catalogue, load_model, read_volume
from AIDicomBridgeLib.cli.demo_data import head_scan
from AIDicomBridgeLib.inference.device import choose_precision
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.series.volume import ImageVolume
from synthetic import save_series
from torch.utils._python_dispatch import TorchDispatchMode

CONVOLUTIONS, OTHER_LAYERS = {"convolution", "_convolution", "conv3d"}, {"group_norm", "native_group_norm", "gelu"}
DICE = 0.999


class RoundedLayers(TorchDispatchMode):
    """Give layers what they would get in bfloat16, and round what they return."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in CONVOLUTIONS:
            args = tuple(_rounded(arg) for arg in args)
        result = func(*args, **(kwargs or {}))
        if name not in CONVOLUTIONS | OTHER_LAYERS:
            return result
        return (_rounded(result[0]), *result[1:]) if isinstance(result, tuple) else _rounded(result)


def _rounded(value: Any) -> Any:
    return value.bfloat16().float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


@contextlib.contextmanager
def _timed(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{name:<28}{time.perf_counter() - start:7.1f} s", flush=True)


def least_dice(name: str, volume: ImageVolume, device: str, weights: WeightsFolder) -> float:
    """Return the Dice coefficient of bfloat16's and float32's labels, of the segment where they differ most."""
    card = Catalogue.load()[name]
    exact = load_model(card, device, precision="float32", weights_folder=weights)
    native = choose_precision(exact.device) == torch.bfloat16
    model = load_model(card, device, precision="bfloat16", weights_folder=weights) if native else exact
    with _timed(f"{name}, float32"):
        wanted = exact.segment(volume, any_body_part=True).labels
    with _timed(f"{name}, bfloat16"), contextlib.nullcontext() if native else RoundedLayers():
        found = model.segment(volume, any_body_part=True).labels
    dice = [
        2 * np.count_nonzero((wanted == label) & (found == label))
        / (np.count_nonzero(wanted == label) + np.count_nonzero(found == label))
        for label in np.unique(wanted[wanted > 0])
    ]  # fmt: skip
    print(f"{name}: Dice {min(dice):.5f}, {'computed' if native else 'rounded'} in bfloat16", flush=True)
    return min(dice)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["mindgrab", "deepbet"])
    parser.add_argument("--device", default="cpu", help="as torch names it (cpu)")
    options = parser.parse_args()
    weights = WeightsFolder.default()
    with tempfile.TemporaryDirectory() as name:
        volume = read_volume(save_series(head_scan(Path(name)).datasets, Path(name) / "series"))
        dice = [least_dice(model, volume, options.device, weights) for model in options.models]
    return int(min(dice) < DICE)


if __name__ == "__main__":
    raise SystemExit(main())
