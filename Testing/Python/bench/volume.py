"""``python -m bench.volume``: a series of 512 x 512 slices read beside SimpleITK's reader, and its nodes made.

Both sides take turns; the least of several passes counts, in wall and CPU seconds. What they give is compared: a quick
wrong volume is no volume. The peak memory of reading is taken in a process of its own. The status is 1 where something
differs, or takes more than its target by over three tenths: so much is left to the machine's other load.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import SimpleITK as sitk
from AIDicomBridgeLib import SourceSeries, read_volume
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core, open_core_scene
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from synthetic import body_phantom, make_series, save_series

from .study import make_labels

TARGETS = {"uncompressed": 0.5, "JPEG-LS": 0.5, "RLE": 0.1, "JPEG 2000": 0.75}  # of SimpleITK's time
PEAK_TARGET = 1.3  # of the volume's size
NODE_TARGETS_MS = {"60 segments -> node": 100.0, "node -> labels": 20.0}
LEEWAY = 1.3


def _voxels(slices: int) -> np.ndarray:
    voxels = body_phantom((slices, 512, 512))
    voxels += np.random.default_rng(1).integers(-20, 20, voxels.shape, dtype=np.int16)  # no two slices are alike
    return voxels


def _compress(images: list[Dataset], kind: str) -> None:
    """Compress images, where it can be with an encoder that is not our decoder's."""
    for image in images:
        if kind == "JPEG-LS":
            plane = np.frombuffer(image.PixelData, "<u2").reshape(512, 512)
            image.file_meta.TransferSyntaxUID = JPEGLSLossless
            image.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(plane))])
            image["PixelData"].VR = "OB"
        else:
            image.compress(RLELossless if kind == "RLE" else JPEG2000Lossless)  # pydicom's, OpenJPEG's


def _ours(folder: Path) -> np.ndarray:
    return read_volume(sorted(folder.iterdir())).voxels


def _simpleitk(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def _least(actions: dict[str, Callable[[], object]], repeat: int) -> dict[str, tuple[float, float]]:
    """Return wall and CPU seconds of every action, the least of some passes in which they take turns."""
    best: dict[str, tuple[float, float]] = {}
    for number in range(repeat):
        for name in list(actions) if number % 2 == 0 else reversed(list(actions)):
            wall, cpu = time.perf_counter(), time.process_time()
            actions[name]()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = min(best.get(name, taken), taken)
    return best


def _peak_of_reading(folder: Path, answer: "multiprocessing.Queue[tuple[float, float]]") -> None:
    """Put how much memory reading takes at most beyond what is in use before, and the size of the volume, bytes."""
    paths = sorted(folder.iterdir())
    read_volume(paths[:2])  # so that all is imported
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _memory("VmRSS")
    voxels = read_volume(paths).voxels
    answer.put((_memory("VmHWM") - before, voxels.nbytes))


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def measure_reading(folder: Path, slices: int, repeat: int) -> dict[str, bool]:
    """Print how long each kind of series takes to read; return what was asked for and if it holds."""
    checks = {}
    print("files -> volume  SimpleITK s    CPU   ours s    CPU   wall    CPU  target    peak")
    voxels = _voxels(slices)
    for kind, target in TARGETS.items():
        images = make_series(voxels, spacing_mm=(1.0, 0.8, 0.8))
        if kind != "uncompressed":
            _compress(images, kind)
        place = folder / kind.replace(" ", "-")
        save_series(images, place)
        del images
        checks[f"{kind}: equal voxels"] = bool(np.array_equal(_ours(place), voxels))
        remark = "" if np.array_equal(_simpleitk(place), voxels) else "  (SimpleITK's voxels are wrong)"
        best = _least({"SimpleITK": lambda: _simpleitk(place), "ours": lambda: _ours(place)}, repeat)  # noqa: B023
        context = multiprocessing.get_context("spawn")
        answer: multiprocessing.Queue[tuple[float, float]] = context.Queue()
        child = context.Process(target=_peak_of_reading, args=(place, answer))
        child.start()
        peak, size = answer.get()
        child.join()
        (wall, cpu), (our_wall, our_cpu) = best["SimpleITK"], best["ours"]
        checks[f"{kind}: at most {target} of SimpleITK's time"] = our_wall <= target * LEEWAY * wall
        checks[f"{kind}: at most {PEAK_TARGET} of the volume's size"] = peak <= PEAK_TARGET * size
        print(
            f"{kind:<16}{wall:12.2f}{cpu:7.2f}{our_wall:9.2f}{our_cpu:7.2f}{our_wall / wall:7.2f}{our_cpu / cpu:7.2f}"
            f"{target:8.2f}{peak / size:7.2f}x{remark}",
            flush=True,
        )
    return checks


def measure_nodes(folder: Path, repeat: int) -> dict[str, bool]:
    """Print how long nodes take with 60 segments; return what was asked for and if it holds."""
    import torch
    from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
    from AIDicomBridgeLib.mrml.volume_node import image_volume_from, volume_node_from

    volume = read_volume(SourceSeries.from_files(folder.iterdir()))
    labels = make_labels(volume.source)
    core = open_core_scene()
    volume_node = volume_node_from(volume, core.scene)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node)
    actions: dict[str, Callable[[], object]] = {
        "volume -> node": lambda: volume_node_from(volume, core.scene),
        "node -> volume -> torch": lambda: torch.from_numpy(image_volume_from(volume_node, volume.source).voxels),
        "60 segments -> node": lambda: segmentation_node_from(labels, core.scene, volume_node=volume_node),
        "node -> labels": lambda: label_volume_from(node, volume.source),
    }
    best = _least(actions, max(repeat, 5))
    for name, (wall, cpu) in best.items():
        print(f"{name:<26}{wall * 1000:8.1f} ms wall{cpu * 1000:8.1f} ms CPU")
    tensor = torch.from_numpy(image_volume_from(volume_node, volume.source).voxels)
    back = label_volume_from(node, volume.source)
    shared = tensor.data_ptr() == volume.voxels.ctypes.data and np.shares_memory(back.labels, labels.labels)
    core.close()
    return {
        "nodes: equal labels, shared without a copy": bool(shared and np.array_equal(back.labels, labels.labels)),
        **{
            f"{name}: at most {target:.0f} ms": best[name][0] * 1000 <= target * LEEWAY
            for name, target in NODE_TARGETS_MS.items()
        },
    }


def main() -> int:
    """Run the benchmark; the status is 1 when the sides disagree or a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.volume", description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where temporary files go, e.g. a RAM disk")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aidicombridge-bench-", dir=arguments.folder) as name:
        checks = measure_reading(Path(name), arguments.slices, arguments.repeat)
        if has_slicer_core():
            checks |= measure_nodes(Path(name, "uncompressed"), arguments.repeat)
        else:
            print("Left out: nodes (slicer-core is not installed)")
    for what, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
