"""Four pictures of a result: axial, coronal and sagittal slices with the outline, and the surface in 3D."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..results.labels import LabelVolume
from ..results.segment_description import display_color
from ..series.regular_grid import labels_between_slices, regular_volume
from ..series.volume import ImageVolume
from ..series.window import window_of
from .picture_views import VIEW_NAMES, PictureSubject, SegmentStyle
from .plain_pictures import render_plain

SLICER = "Slicer displayable managers"
PILLOW = "Pillow"
# Takes 4 s for a head, 16 s for a 512x512x200 CT with large segments on 2 cores; a hanging driver is given up.
_DEADLINE_S = 180


@dataclass(frozen=True)
class Pictures:
    """Where the pictures are (PNG, square), and what drew them.

    Attributes
    ----------
    axial, coronal, sagittal, three_d
        Files.
    renderer
        ``"Slicer displayable managers"`` or ``"Pillow"``.
    remark
        Why Slicer did not draw them; empty where it did.
    """

    axial: Path
    coronal: Path
    sagittal: Path
    three_d: Path
    renderer: str
    remark: str = ""


def render_pictures(volume: ImageVolume, labels: LabelVolume, folder: Path, *, size: int = 640) -> Pictures:
    """Draw the result on its source and write axial.png, coronal.png, sagittal.png and three_d.png.

    Slicer draws, in a process of its own; where it cannot, numpy and Pillow do. Slices go through the result's centre
    of mass, in the patient's own directions also for oblique series, with the patient's right on the left. Uneven or
    tilted slices are drawn as a network sees them, on a regular grid.

    Parameters
    ----------
    folder
        Made if it does not exist.
    size
        Edge of the pictures, pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subject = _subject(volume, labels, size)
    remark = _missing_for_slicer() or _render_in_child(subject, folder)
    if remark:
        render_plain(subject, folder)
    axial, coronal, sagittal, three_d = (folder / f"{name}.png" for name in VIEW_NAMES)
    return Pictures(axial, coronal, sagittal, three_d, PILLOW if remark else SLICER, remark)


def _subject(volume: ImageVolume, labels: LabelVolume, size: int) -> PictureSubject:
    segments = tuple(SegmentStyle(segment.label, segment.name, display_color(segment)) for segment in labels.segments)
    window, level = _window(volume)
    shown = regular_volume(volume)
    shown_labels = labels_between_slices(labels.labels, volume.source)
    return PictureSubject(shown.voxels, shown_labels, shown.ijk_to_lps, segments, window, level, size)


def _window(volume: ImageVolume) -> tuple[float, float]:
    """Return (window, level): a CT's own; for other modalities, whose values have no unit, from the voxels."""
    if volume.modality == "CT":
        return window_of(volume) or (400.0, 40.0)
    sample = volume.voxels[:: max(1, len(volume.voxels) // 64), ::2, ::2]
    foreground = sample[sample > sample.min()]
    low, high = np.percentile(foreground, (1, 99.5)) if foreground.size else (0.0, 1.0)
    low = min(float(low), 0.0) if sample.min() >= 0 else float(low)
    return max(float(high) - low, 1e-3), (low + float(high)) / 2


def _missing_for_slicer() -> str:
    if find_spec("slicer_core") is None:  # inside Slicer it is not there either, and no child of it could draw
        return "slicer-core is not installed"
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libEGL.so.1")
        except OSError:
            return "libEGL.so.1 is not installed (Debian: apt-get install libegl1 libgl1-mesa-dri)"
    return ""


def _render_in_child(subject: PictureSubject, folder: Path) -> str:
    """Draw with Slicer in a child process; return "" if it did, else what went wrong."""
    library = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search_path}
    if sys.platform == "linux":
        environment["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
    with tempfile.TemporaryDirectory(prefix="aidicombridge-", ignore_cleanup_errors=True) as name:
        private = Path(name)
        command = [sys.executable, "-m", "AIDicomBridgeLib.mrml.picture_process", name]
        try:
            subject.save(private)
            child = subprocess.run(  # noqa: PLW1510 - the status is looked at below
                command, env=environment, capture_output=True, text=True, timeout=_DEADLINE_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return f"drawing with Slicer took longer than {_DEADLINE_S} s"
        except OSError as error:
            return f"the process that draws with Slicer cannot be started: {error.strerror}"
        drawn = [private / f"{view}.png" for view in VIEW_NAMES]
        if child.returncode != 0 or not all(path.is_file() for path in drawn):
            last_line = (child.stderr.strip().splitlines() or ["no message"])[-1]
            return f"drawing with Slicer ended with status {child.returncode}: {last_line[:200]}"
        for path in drawn:
            shutil.copyfile(path, folder / path.name)
    return ""
