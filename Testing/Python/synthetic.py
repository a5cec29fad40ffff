"""Small DICOM series made in code: valid by dciodvfy, with every geometry that a test may ask for."""

from io import BytesIO
from pathlib import Path

import numpy as np
from AIDicomBridgeLib.series.part10 import parse_part10_header
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.9396926, 0.3420201, 0.0, -0.2961981, 0.8137977, 0.5)  # 20 degrees about z, then 30 about the row


def make_series(
    voxels: np.ndarray,
    *,
    modality: str = "CT",
    orientation: tuple[float, ...] = AXIAL,
    spacing_mm: tuple[float, float, float] = (3.0, 0.8, 0.6),
    origin: tuple[float, float, float] = (-31.0, 17.5, 103.25),
    patient_id: str = "SYN-1",
    patient_name: str = "Synthetic^Sample",
    accession_number: str = "SYN0001",
    study_uid: str | None = None,
    series_uid: str | None = None,
    frame_of_reference_uid: str | None = None,
    series_number: int = 1,
    reverse: bool = False,
) -> list[Dataset]:
    """Return one data set per slice, slice k at ``origin + k * spacing * normal``.

    Parameters
    ----------
    voxels
        (k, j, i) int16, in the modality's unit (rescale 1, intercept 0).
    spacing_mm
        (k, j, i): between slices, rows, columns.
    reverse
        Return the slices last first (Instance Numbers follow the returned order).
    """
    study_uid, series_uid = study_uid or generate_uid(), series_uid or generate_uid()
    frame_of_reference_uid = frame_of_reference_uid or generate_uid()
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    datasets = []
    for k in range(len(voxels)):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY", "M", "SE"]
        ds.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        ds.SOPInstanceUID = generate_uid()
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260102"
        ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112"
        ds.AccessionNumber = accession_number
        ds.Modality = modality
        ds.Manufacturer = "Synthetic"
        ds.ReferringPhysicianName = ""
        ds.StudyDescription = "Synthetic study"
        ds.SeriesDescription = "Synthetic series"
        ds.PatientName, ds.PatientID = patient_name, patient_id
        ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
        ds.BodyPartExamined = "ABDOMEN"
        ds.SliceThickness = f"{spacing_mm[0]:.6g}"
        if modality == "CT":
            ds.KVP = "120"
        else:
            ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", "NONE", ""
            ds.MRAcquisitionType, ds.EchoTime, ds.EchoTrainLength = "3D", "3", "1"
            ds.RepetitionTime, ds.FlipAngle = "10", "20"
        ds.PatientPosition = "HFS"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
        ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", series_number, 1
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame_of_reference_uid, ""
        position = np.array(origin) + k * spacing_mm[0] * normal
        ds.ImagePositionPatient = [f"{value:.8g}" for value in position]
        ds.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
        ds.PixelSpacing = [f"{spacing_mm[1]:.6g}", f"{spacing_mm[2]:.6g}"]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = voxels.shape[1:]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        if modality == "CT":
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
        ds.WindowCenter, ds.WindowWidth = "40", "400"
        ds.PixelData = np.ascontiguousarray(voxels[k], dtype="<i2").tobytes()
        datasets.append(ds)
    if reverse:
        datasets.reverse()
    for number, ds in enumerate(datasets, start=1):
        ds.InstanceNumber = number
    return datasets


def make_enhanced(datasets: list[Dataset]) -> Dataset:
    """Return a series of :func:`make_series` as one Enhanced multi-frame instance, its frames in the given order.

    Orientation, spacing and frame type are shared, position, content and value transformation per frame.
    """
    first = datasets[0]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kept = (
        *(
            "SpecificCharacterSet",
            "StudyDate",
            "ContentDate",
            "StudyTime",
            "ContentTime",
            "AccessionNumber",
            "Modality",
        ),
        *(
            "SeriesDate",
            "SeriesTime",
            "Manufacturer",
            "ReferringPhysicianName",
            "StudyDescription",
            "SeriesDescription",
        ),
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "BodyPartExamined", "PatientPosition"),
        *("StudyInstanceUID", "SeriesInstanceUID", "StudyID", "SeriesNumber", "FrameOfReferenceUID"),
        *("PositionReferenceIndicator", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    )
    for keyword in kept:
        ds[keyword] = first[keyword]
    classes = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage, "PT": EnhancedPETImageStorage}
    ds.SOPClassUID, ds.SOPInstanceUID, ds.InstanceNumber = classes[first.Modality], generate_uid(), 1
    frame_type = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.ImageType, ds.NumberOfFrames = frame_type, len(datasets)
    ds.BurnedInAnnotation, ds.LossyImageCompression, ds.PresentationLUTShape = "NO", "00", "IDENTITY"
    ds.ContentQualification, ds.PixelPresentation, ds.VolumetricProperties = "RESEARCH", "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique, ds.AcquisitionDateTime, ds.AcquisitionDuration = "NONE", "20260102101112", 1.0
    dimension = Dataset()
    dimension.DimensionOrganizationUID = generate_uid()
    index = Dataset()
    index.DimensionOrganizationUID = dimension.DimensionOrganizationUID
    index.DimensionIndexPointer, index.FunctionalGroupPointer = 0x00209057, 0x00209111  # in-stack position number
    ds.DimensionOrganizationSequence, ds.DimensionIndexSequence = [dimension], [index]

    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = [_item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=first.ImageOrientationPatient)]
    name = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence", "PT": "PETFrameTypeSequence"}
    setattr(shared, name[first.Modality], [_item(FrameType=frame_type)])
    for number, source in enumerate(datasets, start=1):
        frame = Dataset()
        frame.FrameContentSequence = [
            _item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number], FrameAcquisitionNumber=1)
        ]
        frame.PlanePositionSequence = [_item(ImagePositionPatient=source.ImagePositionPatient)]
        values = {keyword: source.get(keyword, default) for keyword, default in _RESCALE.items()}
        frame.PixelValueTransformationSequence = [_item(**values)]
        frame.FrameVOILUTSequence = [_item(WindowCenter=source.WindowCenter, WindowWidth=source.WindowWidth)]
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    ds.PixelData = b"".join(source.PixelData for source in datasets)
    return ds


def make_two_echoes(voxels: np.ndarray) -> Dataset:
    """Return one Enhanced MR instance: the slices of a first echo, then those of a second one, 100 brighter."""
    echoes = [make_series(voxels + np.int16(100 * number), modality="MR") for number in range(2)]
    enhanced = make_enhanced(echoes[0] + echoes[1])
    for number, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].StackID = str(1 + number // len(voxels))
    return enhanced


_RESCALE = {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US"}


def make_pet(voxels: np.ndarray) -> list[Dataset]:
    """Return a PET series in Bq/ml with all that SUV needs: 70 kg, 370 MBq of F-18 an hour before the scan."""
    datasets = make_series(voxels)
    for ds in datasets:
        ds.Modality, ds.SOPClassUID = "PT", PositronEmissionTomographyImageStorage
        del ds.RescaleType
        ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
        ds.PatientWeight = "70"
        ds.RadiopharmaceuticalInformationSequence = [
            _item(
                RadionuclideTotalDose="370000000",
                RadionuclideHalfLife="6586.2",
                RadiopharmaceuticalStartDateTime="20260102091112",
            )
        ]
    return datasets


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def save_series(datasets: list[Dataset], folder: Path) -> list[Path]:
    """Write the data sets as ``0001.dcm`` ... into a new or existing folder and return the paths in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.dcm" for number in range(1, len(datasets) + 1)]
    for ds, path in zip(datasets, paths, strict=True):
        ds.save_as(path, enforce_file_format=True)
    return paths


def part10(dataset: Dataset) -> bytes:
    """Return the data set as the bytes of a DICOM file."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def encoded(dataset: Dataset) -> tuple[bytes, dict[str, str]]:
    """Return a data set's bytes without file meta information, and what a C-STORE command says of it."""
    data = part10(dataset)
    uids = {"sop_class_uid": str(dataset.SOPClassUID), "sop_instance_uid": str(dataset.SOPInstanceUID)}
    return (
        data[parse_part10_header(data).dataset_offset :],
        {**uids, "transfer_syntax_uid": str(dataset.file_meta.TransferSyntaxUID)},
    )


def body_phantom(shape: tuple[int, int, int] = (12, 64, 72)) -> np.ndarray:
    """Return an (k, j, i) int16 CT phantom: air, an ellipse of fat around muscle, two lungs, a bone; not symmetric."""
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    y, x = (j - shape[1] / 2) / (shape[1] / 2), (i - shape[2] / 2) / (shape[2] / 2)
    z = (k - shape[0] / 2) / (shape[0] / 2)
    voxels = np.full(shape, -1000, np.int16)
    everywhere = np.ones(shape, bool)
    voxels[(x**2 + (y * 1.2) ** 2 < 0.8) & everywhere] = -100
    voxels[(x**2 + (y * 1.2) ** 2 < 0.55) & everywhere] = 50
    voxels[((x - 0.3) ** 2 + (y + 0.1) ** 2 + 0.2 * z**2 < 0.06) & everywhere] = -850
    voxels[((x + 0.35) ** 2 + (y + 0.1) ** 2 + 0.2 * z**2 < 0.04) & everywhere] = -850
    voxels[((x - 0.02) ** 2 + (y - 0.45) ** 2 < 0.015) & everywhere] = 700
    return voxels
