"""Results as DICOM objects: segmentation, measurement report, secondary capture, and their checks."""
