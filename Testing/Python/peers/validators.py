"""Independent programs that judge or read a result: dciodvfy, and dcmqi's readers. Both come from PyPI."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from . import require_program

_DEADLINE_S = 60


def program(name: str) -> Path:
    """Return the program installed beside this Python; skip the test, by name, where it is missing.

    Only there: Debian's dciodvfy does not know LABELMAP, and other packages install programs of the same names.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"{name} is not installed beside {Path(sys.executable).name}")
    return path


def dciodvfy_errors(dataset: Dataset, folder: Path) -> list[str]:
    """Return the errors that dciodvfy finds; its exit status is 0 with errors too, so its text is read."""
    path = save(dataset, folder)
    done = _run(program("dciodvfy"), "-new", str(path))
    assert done.stderr.strip(), "dciodvfy names at least the object's kind"
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def read_labels_with_dcmqi(
    dataset: Dataset, folder: Path, *, merge: bool = False
) -> tuple[list[sitk.Image], list[dict]]:
    """Return the images that segimage2itkimage makes and the segment descriptions beside them.

    ``merge``: as few images as segments that overlap allow, as Slicer asks for them.
    """
    path, out = save(dataset, folder), folder / f"dcmqi-{dataset.SOPInstanceUID}"
    out.mkdir()
    options = ["--outputType", "nrrd", *(["--mergeSegments"] if merge else [])]
    done = _run(program("segimage2itkimage"), "--inputDICOM", str(path), "--outputDirectory", str(out), *options)
    assert done.returncode == 0, done.stderr
    files = sorted(out.glob("*.nrrd"), key=lambda file: int(file.stem))
    meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    return [sitk.ReadImage(str(file)) for file in files], [
        item for group in meta["segmentAttributes"] for item in group
    ]


def read_report_with_dcmqi(dataset: Dataset, folder: Path) -> dict:
    """Return what tid1500reader understands; its exit status is 0 for any object, so its file is what counts."""
    path, out = save(dataset, folder), folder / f"report-{dataset.SOPInstanceUID}.json"
    done = _run(program("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out))
    assert out.exists(), done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


def read_map_with_dcmqi(dataset: Dataset, folder: Path) -> tuple[sitk.Image, dict]:
    """Return the image that paramap2itkimage makes and the description beside it."""
    path, out = save(dataset, folder), folder / f"map-{dataset.SOPInstanceUID}"
    out.mkdir()
    done = _run(
        program("paramap2itkimage"), "--inputDICOM", str(path), "--outputDirectory", str(out), "--outputType", "nrrd"
    )
    assert done.returncode == 0, done.stderr
    (image,) = out.glob("*.nrrd")
    return sitk.ReadImage(str(image)), json.loads((out / "meta.json").read_text(encoding="utf-8"))


def import_segmentation_as_slicer(dataset: Dataset, folder: Path) -> list[tuple[sitk.Image, list[dict]]]:
    """Return label images with their segments, as Slicer's importer asks dcmqi for them: merged where possible."""
    path, out = save(dataset, folder), folder / f"slicer-{dataset.SOPInstanceUID}"
    out.mkdir()
    done = _run(program("segimage2itkimage"), "--inputDICOM", path, "--outputDirectory", out, "--mergeSegments")
    assert done.returncode == 0, done.stderr
    groups = json.loads((out / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    images = [sitk.ReadImage(str(file)) for file in sorted(out.glob("*.nrrd"), key=lambda file: int(file.stem))]
    return list(zip(images, groups, strict=True))


def dcmtk_complaints(dataset: Dataset, folder: Path) -> list[str]:
    """Return what DCMTK's dcmdump, and for reports dsrdump, complain about."""
    path = save(dataset, folder)
    programs = ["dcmdump", *(["dsrdump"] if dataset.Modality == "SR" else [])]
    done = [_run(require_program(name), "--quiet" if name == "dsrdump" else "+fo", path) for name in programs]
    return [f"{name}: {run.stderr}" for name, run in zip(programs, done, strict=True) if run.returncode or run.stderr]


def save(dataset: Dataset, folder: Path) -> Path:
    """Write the object under its SOP Instance UID and return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def on_grid(image: sitk.Image, shape: tuple[int, int, int], ijk_to_lps: np.ndarray) -> np.ndarray:
    """Return an image's values at the voxel centres of another grid, (k, j, i); 0 outside the image.

    Fails where a voxel centre of the grid does not meet one of the image: nothing is interpolated.
    """
    own = np.eye(4)
    own[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    own[:3, 3] = image.GetOrigin()
    k, j, i = np.indices(shape).reshape(3, -1)
    index = (np.linalg.inv(own) @ ijk_to_lps @ np.stack([i, j, k, np.ones_like(i)]))[:3]
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 0.02, "the grids do not share their voxel centres"
    inside = ((nearest >= 0) & (nearest < np.array(image.GetSize())[:, None])).all(axis=0)
    voxels = sitk.GetArrayViewFromImage(image)
    values = np.zeros(inside.size, voxels.dtype if voxels.dtype.kind == "f" else np.int64)
    values[inside] = voxels[tuple(nearest[::-1, inside])]
    return values.reshape(shape)


def run_program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program installed beside this Python and return what it wrote."""
    return _run(program(name), *arguments)


def _run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=_DEADLINE_S, check=False
    )
