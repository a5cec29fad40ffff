"""What a vtkSegment says of itself: its colour, and the tags that it carries for us or that we share with Slicer."""

from typing import Any

import numpy as np

# Slicer's own: its DICOM Segmentation exporter reads the first two, its report loader writes the third.
ALGORITHM_TYPE = "DICOM.SegmentAlgorithmType"
ALGORITHM_NAME = "DICOM.SegmentAlgorithmName"
TRACKING_UID = "TrackingUniqueIdentifier"
# Ours.
FINGERPRINT = "AIDicomBridge.Fingerprint"
SOURCE = "AIDicomBridge.Source"  # digest of its source's slices: goes with a segment that is copied elsewhere
TERMINOLOGY_CHOSEN = "AIDicomBridge.TerminologyChosen"


def read_tag(target: Any, name: str) -> str:
    """Return a tag of a vtkSegment; an empty text if it has none."""
    import vtk

    value = vtk.reference("")
    return str(value) if target.GetTag(name, value) else ""


def color_of(target: Any) -> tuple[int, int, int]:
    """Return the colour of a vtkSegment, 0-255 each; of parts that are none, as a damaged scene has, the nearest."""
    red, green, blue = np.round(np.clip(np.nan_to_num(target.GetColor()), 0, 1) * 255).astype(int).tolist()
    return red, green, blue
