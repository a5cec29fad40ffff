"""A synthetic CT as DICOM files, made in code, to try the module without an archive or a patient."""

from datetime import date
from pathlib import Path

import numpy as np

SHAPE = (40, 128, 128)  # (k, j, i)
SPACING_MM = (5.0, 3.0, 3.0)
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def write_sample_series(folder: Path | str) -> list[Path]:
    """Write the series into an existing folder and return its files, one per slice.

    Every call makes another study of the same made-up patient.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    today = date.today().strftime("%Y%m%d")
    paths = []
    for k, plane in enumerate(sample_voxels()):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE_STORAGE, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame_of_reference, ""
        dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = today
        dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = "120000"
        dataset.PatientName, dataset.PatientID = "Sample^Synthetic", "AIDB-SAMPLE"
        dataset.PatientBirthDate, dataset.PatientSex = "", "O"
        dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "AIDB-SAMPLE", ""
        dataset.StudyDescription, dataset.SeriesDescription = "AIDicomBridge sample", "Synthetic body"
        dataset.Modality, dataset.Manufacturer, dataset.KVP = "CT", "AIDicomBridge", "120"
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.InstanceNumber = 1, 1, k + 1
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-192, -192, k * SPACING_MM[0]]
        dataset.PixelSpacing, dataset.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = plane.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        dataset.PixelData = plane.astype("<i2").tobytes()
        paths.append(Path(folder) / f"{k + 1:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def sample_voxels() -> np.ndarray:
    """Return (k, j, i) int16 Hounsfield units: a body of fat and muscle with two lungs and a spine."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in SHAPE), indexing="ij")
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[(x / 0.85) ** 2 + (y / 0.65) ** 2 < 1] = -100
    voxels[(x / 0.76) ** 2 + (y / 0.56) ** 2 < 1] = 50
    for side in (-1, 1):
        voxels[((x - 0.34 * side) / 0.24) ** 2 + ((y + 0.05) / 0.34) ** 2 + (z / 0.9) ** 2 < 1] = -850
    voxels[(x / 0.11) ** 2 + ((y - 0.36) / 0.11) ** 2 < 1] = 600
    return voxels
