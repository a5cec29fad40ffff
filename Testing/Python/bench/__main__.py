"""``make bench``: how long the loop takes without its network, beside the ordinary Python stack, in one run.

Each stage runs first on one side, then on the other, against the same archive, so that the machine's other load falls
on both. The best of several passes counts. What the two sides made is compared: a quick wrong result is no result.
"""

import argparse
import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from AIDicomBridgeLib import BridgeError, LabelVolume, SourceSeries, connect, read_segmentation
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core, open_core_scene

from . import archives, bridge, ordinary, study

STAGES = {
    "retrieve": "retrieve (C-GET)",
    "volume": "files -> volume",
    "tensor": "volume -> tensor",
    "nodes": "volume, labels -> nodes",
    "segmentation": "labels -> SEG on disk",
    "send": "send SEG (ours: and prove)",
}
Times = dict[tuple[str, str], tuple[float, float]]  # (stage, side): wall and CPU seconds


def import_packages(with_nodes: bool) -> None:
    """Import what the stages import inside functions, so that no side pays for what both use."""
    for name in ("torch", "pynetdicom", "highdicom.seg", "highdicom.sr", *(["slicer", "vtk"] if with_nodes else [])):
        import_module(name)


def measure(action: Callable[[], None]) -> tuple[float, float]:
    """Return the wall and the CPU seconds (all threads of this process) of one call."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def run_pass(loops: list[tuple[str, Any]], stages: list[str], best: Times) -> None:
    """Run all stages once, side after side within each, and keep what was quicker than before."""
    for stage in stages:
        for side, loop in loops:
            seconds = measure(getattr(loop, stage))
            best[stage, side] = min(best.get((stage, side), seconds), seconds)


def compare(ours: bridge.Loop, theirs: ordinary.Loop, labels: LabelVolume, with_nodes: bool) -> dict[str, bool]:
    """Return what both sides must agree on, and if they do."""
    segmentations = {loop: read_segmentation(loop.path, labels.source) for loop in (ours, theirs)}
    checks = {
        "voxels": np.array_equal(ours.voxels, theirs.voxels),
        "tensors": bool((ours.tensor_ncdhw == theirs.tensor_ncdhw).all()),
        "labels read back from each SEG": all(
            np.array_equal(found.labels, labels.labels) for found in segmentations.values()
        ),
    }
    if with_nodes:
        checks["voxels of every segment in the nodes"] = ours.segment_voxels() == theirs.segment_voxels()
    return checks


def print_table(best: Times, stages: list[str]) -> None:
    """Print wall and CPU seconds of both sides and their ratios."""
    print(f"{'':<28}{'ordinary':>18}{'AIDicomBridge':>18}{'ratio':>16}")
    print(f"{'stage':<28}{'wall s':>10}{'CPU s':>8}{'wall s':>10}{'CPU s':>8}{'wall':>8}{'CPU':>8}")
    rows = {STAGES[stage]: [best[stage, side] for side in (ordinary.NAME, bridge.NAME)] for stage in stages}
    rows["sum"] = [
        (sum(best[stage, side][0] for stage in stages), sum(best[stage, side][1] for stage in stages))
        for side in (ordinary.NAME, bridge.NAME)
    ]
    for title, ((wall, cpu), (our_wall, our_cpu)) in rows.items():
        ratios = f"{wall / our_wall:8.1f}{cpu / max(our_cpu, 1e-3):8.1f}"
        print(f"{title:<28}{wall:10.2f}{cpu:8.2f}{our_wall:10.2f}{our_cpu:8.2f}{ratios}")


def print_circumstances(kind: str, arguments: argparse.Namespace, load_before: str) -> None:
    """Print what the numbers depend on."""
    packages = ("pynetdicom", "pydicom", "highdicom", "numpy", "torch")
    print(f"\n{arguments.slices} slices of 512 x 512, 60 segments; best of {arguments.repeat}; archive: {kind}")
    print(f"{os.cpu_count()} cores, {platform.machine()}; load average {load_before} before, {load_average()} after")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages))


def load_average() -> str:
    """Return the three load averages, or a dash where the system has none."""
    return " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "-"


def parse_arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--repeat", type=int, default=2, help="passes; the best of each stage counts (default 2)")
    parser.add_argument("--slices", type=int, default=300, help="slices of the CT (default 300)")
    parser.add_argument("--archive", choices=("orthanc", "built-in"), help="default: orthanc if it is installed")
    parser.add_argument("--folder", type=Path, help="where temporary files go, e.g. a RAM disk")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; the status is 1 when the sides disagree."""
    arguments = parse_arguments()
    kind = arguments.archive or ("orthanc" if which("Orthanc") else "built-in")
    stages = [stage for stage in STAGES if stage != "nodes" or has_slicer_core()]
    import_packages("nodes" in stages)
    load_before = load_average()
    best: Times = {}
    checks: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="aidicombridge-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        print(f"Making a CT of {arguments.slices} slices and storing it in the archive ({kind})", flush=True)
        source = SourceSeries.from_files(study.write_ct(folder / "ct", arguments.slices))
        labels = study.make_labels(source)
        with archives.running(kind, folder / "archive") as endpoint:
            with connect(endpoint) as client:
                if not client.store(source.paths).complete:
                    raise BridgeError("the archive did not take the CT")
            for number in range(arguments.repeat):
                print(f"Pass {number + 1} of {arguments.repeat}", flush=True)
                core = open_core_scene() if "nodes" in stages else None
                sides = [ordinary, bridge] if number % 2 == 0 else [bridge, ordinary]
                loops = [
                    (side.NAME, side.Loop(endpoint, labels, folder / f"{side.NAME}-{number}", core)) for side in sides
                ]
                run_pass(loops, stages, best)
                by_name: dict[str, Any] = dict(loops)
                if number == arguments.repeat - 1:
                    checks = compare(by_name[bridge.NAME], by_name[ordinary.NAME], labels, "nodes" in stages)
                del loops, by_name
                if core is not None:
                    core.close()
    print()
    print_table(best, stages)
    print_circumstances(kind, arguments, load_before)
    if "nodes" not in stages:
        print("Left out: nodes (slicer-core is not installed)")
    for what, equal in checks.items():
        print(f"{'equal' if equal else 'DIFFERENT'}: {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
