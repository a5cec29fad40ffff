"""``python -m bench.segmentation``: DICOM segmentations written and read, beside highdicom called plainly and dcmqi.

The three run in turn, several times; the best of each counts. dcmqi is a program: its times are those of the whole
process, for writing with the reading of the CT. Every segmentation is read back and compared with the labels.
"""

import argparse
import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from AIDicomBridgeLib import LabelVolume, SourceSeries, build_segmentation, read_segmentation

from . import ordinary, study

GRIDS = {1: (1, 1, 1), 6: (1, 2, 3), 60: (4, 3, 5)}
_PROGRAMS = Path(sys.executable).parent
Best = dict[tuple[str, str], tuple[float, float]]  # (row, side): wall and CPU seconds


class Plain:
    """Segmentations as they are usually made and read with highdicom, from a label map."""

    def __init__(self, labels: LabelVolume) -> None:
        from pydicom import dcmread

        self.labels = labels
        self.images = [dcmread(path) for path in labels.source.paths]

    def write(self, path: Path, encoding: str) -> None:
        from pydicom.uid import ExplicitVRLittleEndian, RLELossless

        syntax = ExplicitVRLittleEndian if encoding == "BINARY" else RLELossless
        ordinary.make_segmentation(self.images, self.labels, encoding, syntax).save_as(path)

    def read(self, path: Path) -> np.ndarray:
        from highdicom.seg import segread

        array: np.ndarray = segread(path).get_volume(combine_segments=True).array
        return array


class Dcmqi:
    """The same by dcmqi's programs, from and to NRRD files."""

    def __init__(self, labels: LabelVolume, folder: Path) -> None:
        import SimpleITK as sitk

        self.folder, self.ct = folder, labels.source.paths[0].parent
        affine = labels.ijk_to_lps
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image = sitk.GetImageFromArray(labels.labels)
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        sitk.WriteImage(image, str(folder / "labels.nrrd"))
        code = {"CodeValue": "113343008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Organ"}
        attributes = [
            {
                "labelID": segment.label,
                "SegmentLabel": segment.name,
                "SegmentAlgorithmType": "AUTOMATIC",
                "SegmentAlgorithmName": "Benchmark",
                "SegmentedPropertyCategoryCodeSequence": code,
                "SegmentedPropertyTypeCodeSequence": code,
            }
            for segment in labels.segments
        ]
        description = {"SeriesNumber": "100", "InstanceNumber": "1", "segmentAttributes": [attributes]}
        (folder / "labels.json").write_text(dumps(description))

    def write(self, path: Path, encoding: str) -> None:
        _run(
            "itkimage2segimage",
            *("--inputImageList", self.folder / "labels.nrrd", "--inputMetadata", self.folder / "labels.json"),
            *("--inputDICOMDirectory", self.ct, "--outputDICOM", path, "--segmentationType", encoding.lower()),
            *("--skip", "1"),
        )

    def read(self, path: Path) -> None:
        out = self.folder / "read"
        out.mkdir(exist_ok=True)
        _run(
            "segimage2itkimage",
            *("--inputDICOM", path, "--outputDirectory", out, "--outputType", "nrrd", "--mergeSegments"),
        )


def _run(name: str, *arguments: object) -> None:
    subprocess.run([str(_PROGRAMS / name), *map(str, arguments)], check=True, capture_output=True)


def measure(action: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall and CPU seconds of a call, its child processes included."""
    gc.collect()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    action()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_bytes(action: Callable[[], Any]) -> int | None:
    """Return by how much a call raises the memory of this process at its peak; None where Linux does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _memory("VmRSS")
    action()
    return _memory("VmHWM") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def compare(labels: LabelVolume, folder: Path, repeat: int) -> bool:
    """Measure one label volume, print its rows, and return whether all that was read equals it."""
    sides = {"highdicom": Plain(labels), "dcmqi": Dcmqi(labels, folder)}
    equal = True
    print(f"\n{'segments: ' + str(len(labels.segments)):<24}{'wall s':>30}{'CPU s':>30}{'times as fast':>20}")
    print(f"{'':<24}" + f"{'highdicom':>10}{'dcmqi':>10}{'ours':>10}" * 2 + f"{'highdicom':>10}{'dcmqi':>10}")
    for encoding, compression in (("BINARY", None), ("LABELMAP", "RLE")):
        row = encoding.lower() + (f", {compression}" if compression else "")
        path = {side: folder / f"{side}-{encoding}.dcm" for side in ("ours", *sides)}

        def write(to: Path = path["ours"], kind: str = encoding, how: str | None = compression) -> None:
            build_segmentation(labels, encoding=kind, compression=how).save_as(to, enforce_file_format=True)

        best: Best = {}
        for _ in range(repeat):
            for side, other in sides.items():
                _keep(best, "write", side, measure(lambda o=other, p=path[side], e=encoding: o.write(p, e)))
            _keep(best, "write", "ours", measure(write))
            for side, other in sides.items():
                _keep(best, "read", side, measure(lambda o=other, p=path["ours"]: o.read(p)))
            _keep(best, "read", "ours", measure(lambda p=path["ours"]: read_segmentation(p, labels.source)))
        for step in ("write", "read"):
            _print_row(f"{step} {row}", [best[step, side] for side in ("highdicom", "dcmqi", "ours")])
        peak = peak_bytes(write)
        sizes = {side: file.stat().st_size / 1e6 for side, file in path.items()}
        memory = "" if peak is None else f"; peak memory of writing {peak / 1e6:.0f} MB beside the labels"
        print(f"  {', '.join(f'{side} {size:.2f} MB' for side, size in sizes.items())}{memory}")
        for side, file in path.items():
            same = np.array_equal(read_segmentation(file, labels.source).labels, labels.labels)
            print("" if same else f"  DIFFERENT: the labels read from what {side} wrote\n", end="")
            equal = equal and same
        equal = equal and _same_as_highdicom_reads(sides["highdicom"], path["ours"], labels)
    return equal


def _keep(best: Best, row: str, side: str, seconds: tuple[float, float]) -> None:
    best[row, side] = min(best.get((row, side), seconds), seconds)


def _print_row(name: str, times: Sequence[tuple[float, float]]) -> None:
    walls, cpus = [wall for wall, _ in times], [cpu for _, cpu in times]
    cells = "".join(f"{value:10.2f}" for value in (*walls, *cpus))
    print(f"  {name:<22}{cells}{cpus[0] / cpus[2]:10.1f}{cpus[1] / cpus[2]:10.1f}")


def _same_as_highdicom_reads(plain: Any, path: Path, labels: LabelVolume) -> bool:
    """Compare with highdicom's reading, whose volume may run the other way and leaves out empty slices."""
    found = plain.read(path)
    values, counts = np.unique(found, return_counts=True)
    expected, numbers = np.unique(labels.labels, return_counts=True)
    same = np.array_equal(values, expected) and np.array_equal(counts[values > 0], numbers[expected > 0])
    print("" if same else "  DIFFERENT: what highdicom reads from ours\n", end="")
    return bool(same)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the status is 1 where something read differs from the labels."""
    parser = argparse.ArgumentParser(prog="python -m bench.segmentation", description=__doc__)
    parser.add_argument("--segments", type=int, nargs="+", choices=GRIDS, default=[1, 6, 60])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts (default 3)")
    parser.add_argument("--folder", type=Path, help="where temporary files go, e.g. a RAM disk")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="aidicombridge-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        print(f"Making a CT of {chosen.slices} slices of 512 x 512", flush=True)
        source = SourceSeries.from_files(study.write_ct(folder / "ct", chosen.slices))
        equal = True
        for count in chosen.segments:
            work = folder / str(count)
            work.mkdir()
            equal = compare(study.make_labels(source, GRIDS[count]), work, chosen.repeat) and equal
    print("\nequal: all labels read back" if equal else "\nDIFFERENT: see above")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
