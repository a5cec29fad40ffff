"""``python -m bench.inference``: our windows beside MONAI's, nnU-Net's and lungmask's, and the memory of 118 classes.

Every side runs the same network on the same tensor, from the machine's memory to labels in the machine's memory. Sides
take turns; the least of several passes counts. A side whose package is missing is left out by name. ``--device cuda``
gives the same table on a GPU.
"""

import argparse
import dataclasses
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from AIDicomBridgeLib import load_model, read_volume
from AIDicomBridgeLib.inference.device import choose_precision
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.kept_memory import freed_memory_kept
from AIDicomBridgeLib.inference.label_rows import LabelRows
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan, Task
from AIDicomBridgeLib.inference.rules import Decision, WindowRules
from AIDicomBridgeLib.inference.sliding_window import count_windows, run_windows
from AIDicomBridgeLib.models.loading import find_card
from AIDicomBridgeLib.progress import Progress

from .study import write_ct

Side = Callable[[], np.ndarray]


U_NET = {
    "kernel_sizes": [[3, 3, 3]] * 5,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 4,
    "n_conv_per_stage": 2,
    "n_conv_per_stage_decoder": 2,
}


def u_net(classes: int, features: Sequence[int] = (16, 32, 64, 128, 160)) -> torch.nn.Module:
    """Return a U-Net of nnU-Net's kind with random weights whose outputs differ from place to place."""
    from AIDicomBridgeLib.models.nnunet_networks import _unet

    torch.manual_seed(0)
    return _unet(False, U_NET | {"features_per_stage": features, "conv_bias": True}, 1, classes).eval()


def ours(network: torch.nn.Module, tensor: torch.Tensor, rules: WindowRules, device: torch.device, kind: str) -> Side:
    """Return a run of our engine."""
    ensemble = Ensemble([network], device, getattr(torch, kind))
    grid, patch = tuple(tensor.shape[1:]), rules.patch
    classes = ensemble(torch.zeros(1, 1, *patch, device=device)).shape[1]
    axis = Task(0, grid, grid, patch, classes, 1).axis
    plan = MemoryPlan(str(device), kind, 1, str(device), "float32", grid, patch, 1, 0, 0)

    def run() -> np.ndarray:
        rows = LabelRows(Decision(tuple(range(classes))), grid, grid, axis=axis)
        with torch.inference_mode(), freed_memory_kept(device.type == "cpu"):
            run_windows(ensemble, tensor.to(device), rows, rules, patch, plan)
        return rows.labels

    return run


def monai(network: torch.nn.Module, tensor: torch.Tensor, rules: WindowRules, device: torch.device) -> Side:
    """Return a run of MONAI's sliding window."""
    from monai.inferers import sliding_window_inference

    network = network.to(device)

    def run() -> np.ndarray:
        with torch.inference_mode():
            outputs = sliding_window_inference(
                tensor[None].to(device), rules.patch, 1, network, overlap=rules.overlap, mode=rules.importance
            )
            return outputs[0].argmax(0).to(torch.uint8).cpu().numpy()

    return run


def nnunet(network: torch.nn.Module, tensor: torch.Tensor, rules: WindowRules, device: torch.device) -> Side:
    """Return a run of nnU-Net's predictor, from tensor to labels on the same grid."""
    from types import SimpleNamespace

    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=device.type == "cuda", device=device, allow_tqdm=False
    )
    classes = network(torch.zeros(1, 1, *rules.patch)).shape[1]
    predictor.network = network.to(device)
    predictor.configuration_manager = SimpleNamespace(patch_size=rules.patch)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=classes)
    predictor.allowed_mirroring_axes = None

    def run() -> np.ndarray:
        outputs = predictor.predict_sliding_window_return_logits(tensor)
        return outputs.argmax(0).to(torch.uint8).cpu().numpy()

    return run


def compare(title: str, sides: dict[str, Side], repeat: int) -> None:
    """Run the sides in turns and print wall and CPU seconds and the agreement with the first."""
    best: dict[str, tuple[float, float]] = {}
    labels: dict[str, np.ndarray] = {}
    for number in range(repeat):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            wall, cpu = time.perf_counter(), time.process_time()
            labels[name] = sides[name]()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = min(best.get(name, spent), spent)
    first = next(iter(sides))
    print(f"\n{title}\n{'':<28}{'wall s':>9}{'CPU s':>9}{'wall ratio':>12}{'CPU ratio':>11}{'equal':>9}")
    for name, (wall, cpu) in best.items():
        equal = float((labels[name] == labels[first]).mean())
        ratios = f"{wall / best[first][0]:12.2f}{cpu / best[first][1]:11.2f}"
        print(f"{name:<28}{wall:9.2f}{cpu:9.2f}{ratios}{equal:9.4f}")


def compare_windows(arguments: argparse.Namespace, device: torch.device) -> None:
    """Compare the sliding windows, once on each peer's tiling."""
    tensor = torch.randn(1, *[arguments.size] * 3, generator=torch.Generator().manual_seed(1))
    network, patch = u_net(arguments.classes), (arguments.patch,) * 3
    kind = str(choose_precision(device)).removeprefix("torch.")
    for peer, tiling, run in (("MONAI", "monai", monai), ("nnU-Net", "nnunet", nnunet)):
        if tiling not in arguments.peers:
            continue
        rules = WindowRules(patch, 0.5, tiling)
        sides = {"AIDicomBridge float32": ours(network, tensor, rules, device, "float32")}
        if find_spec({"MONAI": "monai", "nnU-Net": "nnunetv2"}[peer]):
            sides[f"{peer} float32"] = run(network, tensor, rules, device)
        else:
            print(f"Left out: {peer} (not installed)")
        if kind != "float32":
            sides[f"AIDicomBridge {kind}"] = ours(u_net(arguments.classes), tensor, rules, device, kind)
        title = (
            f"{count_windows(tuple(tensor.shape[1:]), patch, rules)} windows of {patch}, {arguments.classes} classes"
        )
        compare(f"{title}, {device}", sides, arguments.repeat)


def compare_lungmask(arguments: argparse.Namespace, device: torch.device) -> None:
    """Compare the forward passes of lungmask's network with what LMInferer does with a volume."""
    if not find_spec("lungmask"):
        print("Left out: lungmask (not installed)")
        return
    from AIDicomBridgeLib.models.card import NetworkRules
    from AIDicomBridgeLib.models.lungmask_unet import build_lungmask
    from lungmask.resunet import UNet

    torch.manual_seed(0)
    theirs = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False).eval()
    network = build_lungmask(NetworkRules("lungmask-unet", 3), theirs.state_dict())
    slices = torch.randn(arguments.slices, 1, 256, 256)

    def apply(module: Callable[[torch.Tensor], torch.Tensor], batch: int, is_ours: bool) -> Side:
        def run() -> np.ndarray:
            with torch.inference_mode(), freed_memory_kept(is_ours and device.type == "cpu"):
                parts = [module(part.to(device)).argmax(1).to(torch.uint8).cpu() for part in slices.split(batch)]
            return torch.cat(parts).numpy()

        return run

    sides = {
        "AIDicomBridge float32": apply(network.to(device), 1, is_ours=True),
        "lungmask, batch 20": apply(theirs.to(device), 20, is_ours=False),
    }
    compare(f"lungmask's network on {arguments.slices} slices, {device}", sides, arguments.repeat)


def many_classes(folder: Path, classes: int, width: int) -> Path:
    """Write an nnU-Net result folder with random weights, windows of 96 voxels, and return it.

    ``width`` is the number of channels at full resolution; nnU-Net's own choice is 32.
    """
    features = [min(width * 2**stage, 320) for stage in range(5)]
    configuration = {
        "spacing": [1.0, 0.8, 0.8],
        "patch_size": [96, 96, 96],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "PlainConvUNet",
            "arch_kwargs": U_NET | {"features_per_stage": features, "conv_bias": True},
        },
    }
    properties = {"mean": 0.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}
    plans = {
        "dataset_name": "Dataset001_Many",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": properties},
        "configurations": {"3d_fullres": configuration},
    }
    names = {"background": 0} | {f"structure {number}": number for number in range(1, classes)}
    made = folder / "Dataset001_Many" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (made / "fold_0").mkdir(parents=True)
    (made / "plans.json").write_text(json.dumps(plans))
    (made / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": names}))
    weights = u_net(classes, features).state_dict()
    torch.save({"network_weights": weights}, made / "fold_0" / "checkpoint_final.pth")
    return made


def measure_memory(limit_gb: float, width: int, overlap: float) -> None:
    """Segment a CT of 512x512x300 into 118 classes in this process and print the peak of its memory beside the plan's.

    From the files of the series to labels on its slices: all that a person's run holds is counted.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        card = find_card(many_classes(folder, 118, width))
        assert card.windows is not None
        card = dataclasses.replace(card, windows=dataclasses.replace(card.windows, overlap=overlap))
        volume = read_volume(write_ct(folder / "series", 300))
        gc.collect()
        model = load_model(card, "cpu", precision="float32")
        start, limit = time.perf_counter(), int(limit_gb * 1e9)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        labels = model.segment(volume, memory_limit_bytes=limit, progress=_print_tenths())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    plan = labels.provenance.memory_plan if labels.provenance else ""
    print(f"118 classes, 512 x 512 x 300, width {width}, overlap {overlap:g}, at most {limit_gb:g} GB: {plan}")
    print(f"peak of the process {peak / 1e9:.2f} GB ({before / 1e9:.2f} GB with the volume read and the model loaded)")
    print(f"{time.perf_counter() - start:.0f} s, {len(np.unique(labels.labels))} different labels", flush=True)


def _print_tenths() -> Callable[[Progress], None]:
    seen: set[int] = set()

    def show(event: Progress) -> None:
        tenth = 10 * event.completed // (event.total or event.completed or 1)
        if event.total and tenth not in seen:
            seen.add(tenth)
            print(f"{event.completed} of {event.total} {event.unit}", file=sys.stderr, flush=True)

    return show


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.inference", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--size", type=int, default=132, help="voxels along each side (default 132)")
    parser.add_argument("--patch", type=int, default=96, help="of a window (default 96)")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--slices", type=int, default=20, help="for lungmask's network (default 20)")
    parser.add_argument("--repeat", type=int, default=3, help="passes; the least counts (default 3)")
    parts = ["monai", "nnunet", "lungmask", "memory"]
    parser.add_argument("--peers", nargs="+", choices=parts, default=parts, metavar="PEER", help=f"of {parts}")
    parser.add_argument("--memory", type=float, metavar="GB", help="only run 118 classes within that much memory")
    parser.add_argument("--width", type=int, default=8, help="for --memory: channels at full resolution (default 8)")
    parser.add_argument("--overlap", type=float, default=0.5, help="for --memory: of the windows (default 0.5)")
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.memory, arguments.width, arguments.overlap)
        return
    device = torch.device(arguments.device)
    compare_windows(arguments, device)
    if "lungmask" in arguments.peers:
        compare_lungmask(arguments, device)
    if device.type == "cpu" and "memory" in arguments.peers:
        print(flush=True)
        subprocess.run([sys.executable, "-m", "bench.inference", "--memory", "8"], check=True)
    print(f"\n{os.cpu_count()} cores, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
