"""One picture as a Secondary Capture object, whatever it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from .codes import SEGMENTATION_DERIVATION, SOURCE_IMAGE, coded_concept
from .equipment import MANUFACTURER, MODEL_NAME, NOT_FOR_DIAGNOSTIC_USE, device_serial_number, fit, software_version
from .labels import Provenance
from .result_series import ResultKind, complete_result

if TYPE_CHECKING:
    from pydicom import Dataset

    from ..series.source_slice import SourceSlice

# Body Part Examined (PS3.16 Annex L) of which a patient has one.
_UNPAIRED_BODY_PARTS = {
    *("ABDOMEN", "ABDOMENPELVIS", "AORTA", "BLADDER", "BRAIN", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "COCCYX"),
    *("COLON", "CSPINE", "ESOPHAGUS", "FACE", "HEAD", "HEADNECK", "HEART", "JAW", "LIVER", "LSPINE", "MAXILLA"),
    *("MEDIASTINUM", "NECK", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "PANCREAS", "PELVIS", "PROSTATE", "RECTUM"),
    *("SKULL", "SPINE", "SPLEEN", "SSPINE", "STOMACH", "THYMUS", "THYROID", "TSPINE", "UTERUS", "WHOLEBODY"),
}


@dataclass(frozen=True)
class CaptureSeries:
    """What all captures of one series share.

    Attributes
    ----------
    series_uid, series_number, series_description
        Of the new series; the description is made from the provenance where it is None.
    derivation
        What was done, in words.
    """

    kind: ResultKind
    series_uid: str
    series_number: int
    series_description: str | None
    derivation: str
    provenance: Provenance | None
    now: datetime


def build_capture(
    picture: np.ndarray,
    header: "Dataset",
    series: CaptureSeries,
    *,
    sop_instance_uid: str,
    instance_number: int,
    sources: "Sequence[SourceSlice]",
    segmentation: "Dataset | None" = None,
    orientation: tuple[str, str] | None = None,
    pixel_mm: float | None = None,
    burned_in_annotation: bool | None = None,
) -> "Dataset":
    """Return the picture as an object, Explicit VR Little Endian.

    Parameters
    ----------
    picture
        (row, column, RGB) uint8.
    header
        A header of :func:`normalised_headers`: patient, study, body part.
    sources
        The slices that it shows.
    orientation
        Directions of its rows and columns; None where it is no slice.
    pixel_mm
        Size of its square pixels in the patient; None where it has no scale.
    burned_in_annotation
        Whether it shows text that identifies the patient; None for a drawing of ours on the source's pixels: then what
        the source says.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    letters = orientation or ("L", "P")
    capture = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=(letters[0][0], letters[1][0]),  # it knows one letter each; set below
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=series.series_uid,
        series_number=series.series_number,
        sop_instance_uid=sop_instance_uid,
        instance_number=instance_number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_version(),
        device_serial_number=device_serial_number(series.provenance),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_patient_and_study(header),
    )
    capture.copy_patient_and_study_information(header)
    complete_result(
        capture,
        header,
        series.kind,
        provenance=series.provenance,
        series_description=series.series_description,
        now=series.now,
    )
    if orientation is None:
        capture.PatientOrientation = None  # type: ignore[assignment]  # unknown, and so empty (type 2C)
    else:
        capture.PatientOrientation = list(orientation)
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.ConversionType = "WSD"
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    # It asks for text that identifies the patient and the date (PS3.3 C.7.6.1). What we draw names segments, model and
    # directions, nothing more, so a drawing has what its source has. A source that does not say is taken as one
    # without: CT, MR and PET images do not say as a rule, and "YES" would hide the capture from all who share it.
    if burned_in_annotation is None:
        burned_in_annotation = header.get("BurnedInAnnotation") == "YES"
    capture.BurnedInAnnotation = "YES" if burned_in_annotation else "NO"
    capture.LossyImageCompression = "01" if header.get("LossyImageCompression") == "01" else "00"
    capture.DerivationDescription = fit(series.derivation, 1024)
    if segmentation is not None:
        capture.DerivationCodeSequence = [coded_concept(SEGMENTATION_DERIVATION)]
    capture.SourceImageSequence = [_reference(piece.header, piece.frame_number) for piece in sources]
    if segmentation is not None:
        capture.SourceImageSequence.append(_reference(segmentation))
    if pixel_mm is not None:
        capture.NominalScannedPixelSpacing = [f"{pixel_mm:.8g}"] * 2
    if series.provenance is not None and series.provenance.not_for_diagnostic_use:
        capture.ImageComments = NOT_FOR_DIAGNOSTIC_USE.capitalize()
    # Laterality belongs to every body part but the unpaired ones, where it is forbidden; empty means unknown.
    if header.get("BodyPartExamined") not in _UNPAIRED_BODY_PARTS:
        capture.Laterality = header.get("Laterality", "")
    return capture


def _patient_and_study(header: "Dataset") -> dict[str, Any]:
    return {
        "patient_id": header.PatientID,
        "patient_name": header.PatientName,
        "patient_birth_date": header.PatientBirthDate,
        "patient_sex": header.PatientSex,
        "accession_number": header.AccessionNumber,
        "study_id": header.StudyID,
        "study_date": header.StudyDate,
        "study_time": header.StudyTime,
        "referring_physician_name": header.ReferringPhysicianName,
    }


def _reference(instance: "Dataset", frame_number: int | None = None) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    if frame_number is not None:
        item.ReferencedFrameNumber = frame_number
    item.PurposeOfReferenceCodeSequence = [coded_concept(SOURCE_IMAGE)]
    return item
