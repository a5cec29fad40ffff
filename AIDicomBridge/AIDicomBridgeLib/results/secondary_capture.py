"""Segments burnt into pictures: a Secondary Capture series for viewers that cannot show a segmentation."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.volume import ImageVolume
from ..series.window import stored_window
from .codes import SEGMENTATION_DERIVATION, SOURCE_IMAGE, coded_concept
from .equipment import (
    MANUFACTURER,
    MODEL_NAME,
    NOT_FOR_DIAGNOSTIC_USE,
    device_serial_number,
    fit,
    software_version,
)
from .labels import LabelVolume
from .overlay import PictureSize, draw_overlay, patient_orientation
from .result_series import ResultKind, complete_result, encoding_errors, fresh_uid, result_series_number
from .source_headers import normalised_headers

if TYPE_CHECKING:
    from pydicom import Dataset

# Body Part Examined (PS3.16 Annex L) of which a patient has one.
_UNPAIRED_BODY_PARTS = {
    *("ABDOMEN", "ABDOMENPELVIS", "AORTA", "BLADDER", "BRAIN", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "COCCYX"),
    *("COLON", "CSPINE", "ESOPHAGUS", "FACE", "HEAD", "HEADNECK", "HEART", "JAW", "LIVER", "LSPINE", "MAXILLA"),
    *("MEDIASTINUM", "NECK", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "PANCREAS", "PELVIS", "PROSTATE", "RECTUM"),
    *("SKULL", "SPINE", "SPLEEN", "SSPINE", "STOMACH", "THYMUS", "THYROID", "TSPINE", "UTERUS", "WHOLEBODY"),
}


def build_secondary_captures(
    labels: LabelVolume,
    volume: ImageVolume,
    *,
    segmentation: "Dataset | None" = None,
    slices: Iterable[int] | None = None,
    window: tuple[float, float] | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "list[Dataset]":
    """Return one RGB image per slice, all in one new series, in slice order.

    Parameters
    ----------
    volume
        The voxels of the labels' source.
    segmentation
        The DICOM Segmentation of the labels, to be referred to.
    slices
        Slice indices k; those with labels where not given. Labels without content then give an empty list.
    window
        Center and width in the unit of the voxels; the source's own where not given, else from the 1st to the 99th
        percentile.
    series_description, series_number, new_uid, now
        As for :func:`build_segmentation`.

    Raises
    ------
    GeometryError
        Labels and volume are not on the same grid, or a slice is outside it.
    EncodingError
        The window has no width, or the source's identity cannot be carried.
    """
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    source, provenance = labels.source, labels.provenance
    now = now or datetime.now()
    if labels.labels.shape != volume.voxels.shape or not np.allclose(labels.ijk_to_lps, volume.ijk_to_lps, atol=1e-3):
        raise GeometryError("labels and volume are not on the same grid", uid=source.series_uid)
    chosen = _chosen_slices(labels, slices)
    if not chosen:
        return []
    window = window or _window(volume, chosen)
    if not (np.isfinite(window).all() and window[1] > 0):
        raise EncodingError(f"the window {window} has no width")
    headers = normalised_headers(source)
    size = PictureSize.for_slice(*source.shape[1:], source.spacing_mm[1:])
    orientation = patient_orientation(source.ijk_to_lps)
    series_uid = new_uid()
    number = series_number or result_series_number(ResultKind.SECONDARY_CAPTURE, headers[0])
    captures: list[Dataset] = []
    for order, k in enumerate(chosen, start=1):
        header = headers[k]
        picture = draw_overlay(
            volume.voxels[k],
            labels.labels[k],
            labels.segments,
            size=size,
            window=window,
            remarks=_remarks(labels),
            orientation=orientation,
        )
        with encoding_errors("the secondary capture", source.series_uid):
            capture = SCImage(
                pixel_array=picture,
                photometric_interpretation="RGB",
                bits_allocated=8,
                coordinate_system="PATIENT",
                patient_orientation=(orientation[0][0], orientation[1][0]),  # it knows one letter each; set below
                study_instance_uid=header.StudyInstanceUID,
                series_instance_uid=series_uid,
                series_number=number,
                sop_instance_uid=new_uid(),
                instance_number=order,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=MODEL_NAME,
                software_versions=software_version(),
                device_serial_number=device_serial_number(provenance),
                transfer_syntax_uid=ExplicitVRLittleEndian,
                **_patient_and_study(header),
            )
            capture.copy_patient_and_study_information(header)
            complete_result(
                capture,
                header,
                ResultKind.SECONDARY_CAPTURE,
                provenance=provenance,
                series_description=series_description,
                now=now,
            )
            capture.PatientOrientation = list(orientation)
            _describe_image(capture, header, labels, segmentation, source.slices[k].frame_number)
            capture.NominalScannedPixelSpacing = [f"{size.pixel_mm:.8g}"] * 2
            capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
        captures.append(capture)
    return captures


def _chosen_slices(labels: LabelVolume, slices: Iterable[int] | None) -> list[int]:
    if slices is None:
        return [k for k, plane in enumerate(labels.labels) if plane.any()]
    chosen = sorted(set(slices))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < len(labels.labels):
        raise GeometryError(f"the slices {chosen} are not all within 0 to {len(labels.labels) - 1}")
    return chosen


def _window(volume: ImageVolume, chosen: list[int]) -> tuple[float, float]:
    """Return center and width: the source's first window, else the 1st to 99th percentile of the middle slice."""
    middle = chosen[len(chosen) // 2]
    stored = stored_window(volume.source.headers[middle])
    if stored is not None:
        return stored[1], stored[0]
    low, high = np.percentile(volume.voxels[middle], (1, 99))
    return float(low + high) / 2, max(float(high - low), 1.0)


def _remarks(labels: LabelVolume) -> list[str]:
    provenance = labels.provenance
    if provenance is None:
        return []
    lines = [f"{provenance.model} {provenance.version}"]
    return [*lines, NOT_FOR_DIAGNOSTIC_USE.capitalize()] if provenance.not_for_diagnostic_use else lines


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


def _describe_image(
    capture: "Dataset",
    header: "Dataset",
    labels: LabelVolume,
    segmentation: "Dataset | None",
    frame_number: int | None,
) -> None:
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.ConversionType = "WSD"
    # It asks for text that identifies patient and date (PS3.3 C.7.6.1): ours names segments and model, nothing more.
    capture.BurnedInAnnotation = "YES" if header.get("BurnedInAnnotation") == "YES" else "NO"
    capture.LossyImageCompression = "01" if header.get("LossyImageCompression") == "01" else "00"
    names = ", ".join(segment.name for segment in labels.segments)
    capture.DerivationDescription = fit(f"Outlines of segments burnt in: {names}", 1024)
    capture.DerivationCodeSequence = [coded_concept(SEGMENTATION_DERIVATION)]
    capture.SourceImageSequence = [_reference(header, frame_number)]
    if segmentation is not None:
        capture.SourceImageSequence.append(_reference(segmentation))
    if labels.provenance is not None and labels.provenance.not_for_diagnostic_use:
        capture.ImageComments = NOT_FOR_DIAGNOSTIC_USE.capitalize()
    # Laterality belongs to every body part but the unpaired ones, where it is forbidden; empty means unknown.
    if header.get("BodyPartExamined") not in _UNPAIRED_BODY_PARTS:
        capture.Laterality = header.get("Laterality") or None


def _reference(instance: "Dataset", frame_number: int | None = None) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    if frame_number is not None:
        item.ReferencedFrameNumber = frame_number
    item.PurposeOfReferenceCodeSequence = [coded_concept(SOURCE_IMAGE)]
    return item
