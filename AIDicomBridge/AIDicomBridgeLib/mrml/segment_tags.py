"""The tags that a vtkSegment carries for us, and those of Slicer that we share."""

from typing import Any

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
