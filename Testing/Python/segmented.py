"""A small segmented series for the tests of results."""

from pathlib import Path

import numpy as np
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Provenance, Segment
from AIDicomBridgeLib.series.source_series import SourceSeries
from synthetic import AXIAL, body_phantom, make_series, save_series

ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
BONE = Code("272673000", "SCT", "Bone")
CHEST = Code("51185008", "SCT", "Chest")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
PROVENANCE = Provenance("phantomnet", "2.1", weights_sha256="0123456789abcdef" * 4, precision="bfloat16")

SEGMENTS = (
    Segment(1, "Right lung", ANATOMY, LUNG, type_modifier=RIGHT, color_rgb=(197, 165, 145)),
    Segment(2, "Left lung", ANATOMY, LUNG, type_modifier=LEFT),
    Segment(3, "Bone", ANATOMY, BONE, region=CHEST, region_modifier=LEFT, tracking_uid="1.2.3.4"),
)


def make_source(folder: Path, voxels: np.ndarray | None = None, **series: object) -> SourceSeries:
    """Write a synthetic series and read it back; ``series`` goes to ``make_series``."""
    datasets = make_series(body_phantom() if voxels is None else voxels, **series)  # type: ignore[arg-type]
    return SourceSeries.from_files(save_series(datasets, folder))


def phantom_labels(shape: tuple[int, int, int] = (12, 64, 72)) -> np.ndarray:
    """Return the labels 1, 2, 3 of the phantom: unsymmetric in each axis, absent from the first and last slices."""
    voxels = body_phantom(shape)
    labels = np.zeros(shape, np.uint8)
    lungs = voxels == -850
    half = shape[2] // 2
    labels[:, :, :half][lungs[:, :, :half]] = 1
    labels[:, :, half:][lungs[:, :, half:]] = 2
    labels[voxels == 700] = 3
    labels[:2] = labels[-1:] = 0
    labels[5, :3, :4] = 3  # a corner that no flip keeps
    return labels


def make_labels(folder: Path, orientation: tuple[float, ...] = AXIAL, **series: object) -> LabelVolume:
    """Return the phantom's labels on a synthetic series written to ``folder``."""
    source = make_source(folder, orientation=orientation, **series)
    labels = phantom_labels(source.shape)
    return LabelVolume(labels, SEGMENTS, source=source, provenance=PROVENANCE)
