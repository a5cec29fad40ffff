"""DICOM Segmentation: :func:`build_segmentation` and its way back, :func:`read_segmentation`."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, BridgeError, ConflictError, EncodingError, GeometryError
from ..series.dicom_file import read_dicom
from ..series.source_series import SourceSeries
from .equipment import (
    CONTENT_CREATOR,
    MANUFACTURER,
    MODEL_NAME,
    NOT_FOR_DIAGNOSTIC_USE,
    device_serial_number,
    read_provenance,
    software_version,
)
from .labels import LabelVolume, Provenance
from .result_series import ResultKind, complete_result, encoding_errors, fresh_uid, result_series_number
from .segment_description import describe_segment, read_segment, with_tracking_uids
from .source_frames import restore_references, single_frame_stand_ins
from .source_headers import normalised_headers

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_ENCODINGS = ("BINARY", "LABELMAP")
_LARGEST_ELEMENT = 2**32 - 2  # bytes of native pixel data (PS3.5 7.1.1)
_POSITION_TOLERANCE = 0.1  # of a voxel: positions and directions are written with few decimals


def build_segmentation(
    labels: LabelVolume,
    *,
    encoding: str = "BINARY",
    compression: str | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
    content_creator: str = CONTENT_CREATOR,
) -> "Dataset":
    """Return the labels as one DICOM Segmentation in the study of their source.

    Frames without content are left out. Labels without any content give one empty frame per segment (one in all for
    LABELMAP) on the first slice: an object must have a frame, and readers then see every segment with no voxel.

    Parameters
    ----------
    encoding
        ``BINARY``: one bit per voxel, frames per segment; what every PACS takes. Its Segment Numbers must run 1, 2, 3
        without gaps, so they count the segments in label order. ``LABELMAP``: one frame per slice with the label
        values as Segment Numbers; older PACS refuse it over DIMSE.
    compression
        ``"RLE"`` for a LABELMAP (about 40 times smaller); None for Explicit VR Little Endian.
    series_description, series_number
        Made from the provenance and from the source's number where not given.
    new_uid
        Gives the new series, instance and tracking UIDs.
    now
        Date and time of the result; the present where not given.
    content_creator
        Content Creator's Name, as a DICOM person name.

    Raises
    ------
    EncodingError
        The encoding is not supported, the source has no frame of reference, its identity cannot be carried, or the
        pixel data would exceed 4 GiB.
    """
    from highdicom import PlanePositionSequence
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    if encoding not in _ENCODINGS or compression not in (None, "RLE") or (compression and encoding != "LABELMAP"):
        raise EncodingError(
            f"the encoding {encoding} {compression or 'uncompressed'} is not supported",
            advice="Supported are BINARY, LABELMAP, and LABELMAP with RLE compression.",
        )
    now = now or datetime.now()
    source, provenance = labels.source, labels.provenance
    if not source.frame_of_reference_uid:
        raise EncodingError(
            "the source has no Frame of Reference UID, which a segmentation needs", uid=source.series_uid
        )
    labels = with_tracking_uids(labels, new_uid)
    headers = normalised_headers(source)
    numbers = {
        segment.label: segment.label if encoding == "LABELMAP" else order
        for order, segment in enumerate(labels.segments, start=1)
    }
    pixels, positions = _renumbered(labels.labels, numbers), None
    if not labels.labels.any():
        pixels = pixels[:1]
        positions = [PlanePositionSequence("PATIENT", [float(v) for v in headers[0].ImagePositionPatient])]
    with encoding_errors("the segmentation", source.series_uid):
        segmentation = Segmentation(
            source_images=single_frame_stand_ins(source, headers),
            pixel_array=pixels,
            plane_positions=positions,
            segmentation_type=encoding,
            segment_descriptions=[
                describe_segment(segment, numbers[segment.label], provenance) for segment in labels.segments
            ],
            series_instance_uid=new_uid(),
            series_number=series_number or result_series_number(ResultKind.SEGMENTATION, headers[0]),
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_version(),
            device_serial_number=device_serial_number(provenance),
            content_description=_content_description(provenance),
            content_creator_name=content_creator,
            content_label="SEGMENTATION",
            transfer_syntax_uid=RLELossless if compression else ExplicitVRLittleEndian,
            omit_empty_frames=positions is None,
        )
        restore_references(segmentation, source)
        complete_result(
            segmentation,
            headers[0],
            ResultKind.SEGMENTATION,
            provenance=provenance,
            series_description=series_description,
            now=now,
        )
    if len(segmentation.PixelData) > _LARGEST_ELEMENT:
        raise EncodingError(
            f"the segmentation would hold {len(segmentation.PixelData)} bytes of pixel data, more than DICOM's 4 GiB",
            uid=source.series_uid,
            advice="Use LABELMAP with RLE compression.",
        )
    return segmentation


def read_segmentation(dataset_or_path: "Dataset | Path | str", source: SourceSeries) -> LabelVolume:
    """Return a BINARY or LABELMAP segmentation as labels on the grid of its source.

    The slice of each frame is found by its position, never by its order. Label values are the Segment Numbers.

    Raises
    ------
    BadDicomError
        The object is unreadable, no segmentation, or contradicts itself.
    ConflictError
        It belongs to another patient's study or to another frame of reference.
    GeometryError
        Its frames do not lie on the slices of ``source``.
    EncodingError
        It is FRACTIONAL, or its segments overlap, which one label array cannot hold.
    """
    dataset = read_dicom(dataset_or_path) if isinstance(dataset_or_path, Path | str) else dataset_or_path
    uid = str(dataset.get("SOPInstanceUID", ""))
    if dataset.get("SOPClassUID") not in (SEGMENTATION_STORAGE, LABELMAP_STORAGE):
        raise BadDicomError("the object is no DICOM Segmentation", uid=uid)
    if dataset.get("SegmentationType") not in _ENCODINGS:
        raise EncodingError("only BINARY and LABELMAP segmentations can be read", uid=uid)
    for name, expected in (
        ("StudyInstanceUID", source.study_uid),
        ("FrameOfReferenceUID", source.frame_of_reference_uid),
    ):
        if str(dataset.get(name, "")) != expected:
            raise ConflictError(f"the segmentation has another {name} than the series", uid=uid)
    try:
        segments = [read_segment(item) for item in dataset.SegmentSequence if int(item.SegmentNumber) != 0]
        array = _read_frames(dataset, source, np.dtype(np.uint8 if max(s.label for s in segments) < 256 else np.uint16))
        return LabelVolume(array, tuple(segments), source=source, provenance=_read_provenance(dataset))
    except BridgeError as error:
        raise type(error)(error.what, uid=error.uid or uid, advice=error.advice) from error
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise BadDicomError("the segmentation lacks what DICOM requires of it", uid=uid) from error


def _renumbered(array: np.ndarray, numbers: dict[int, int]) -> np.ndarray:
    """Return the labels as Segment Numbers: the same array where nothing changes, else a copy."""
    if all(label == number for label, number in numbers.items()):
        return array
    table = np.zeros(max(numbers) + 1, dtype=array.dtype)
    for label, number in numbers.items():
        table[label] = number
    return table[array]


def _content_description(provenance: Provenance | None) -> str:
    if provenance is None:
        return "Segmentation"
    remark = f", {NOT_FOR_DIAGNOSTIC_USE}" if provenance.not_for_diagnostic_use else ""
    return f"Segmentation by software{remark}"


def _read_provenance(dataset: "Dataset") -> Provenance | None:
    for item in dataset.SegmentSequence:
        if item.get("SegmentationAlgorithmIdentificationSequence"):
            return read_provenance(item.SegmentationAlgorithmIdentificationSequence[0])
    return None


def _read_frames(dataset: "Dataset", source: SourceSeries, dtype: np.dtype) -> np.ndarray:
    """Return the frames put together on the source's grid, (k, j, i)."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = dataset.PerFrameFunctionalGroupsSequence
    if (int(dataset.Rows), int(dataset.Columns)) != source.shape[1:]:
        raise GeometryError(f"the frames have another size than the slices of the series {source.shape[1:]}")
    if len(groups) != int(dataset.NumberOfFrames):
        raise BadDicomError("the number of frames contradicts the functional groups")
    lps_to_ijk = np.linalg.inv(source.ijk_to_lps)
    result = np.zeros(source.shape, dtype)
    for group, frame in zip(groups, _frames(dataset), strict=True):
        plane = result[_slice_of(group, shared, source, lps_to_ijk)]
        if dataset.SegmentationType == "BINARY":
            number = int(_group(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            inside = frame.astype(bool)
        else:
            number, inside = 0, frame != 0
        if plane[inside].any():
            raise EncodingError(
                "the segments overlap, which one label array cannot hold", advice="Read them one by one with dcmqi."
            )
        plane[inside] = number or frame[inside]
    return result


def _slice_of(group: "Dataset", shared: "Dataset", source: SourceSeries, lps_to_ijk: np.ndarray) -> int:
    """Return the slice k of the source on which a frame lies."""
    orientation = _group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
    spacing = _group(group, shared, "PixelMeasuresSequence").PixelSpacing
    row, column = np.asarray(orientation[:3], float) * spacing[1], np.asarray(orientation[3:], float) * spacing[0]
    position = np.append(np.asarray(_group(group, shared, "PlanePositionSequence").ImagePositionPatient, float), 1.0)
    i, j, k = (lps_to_ijk @ position)[:3]
    # A small difference of direction or spacing counts by how far it moves the last voxel of the frame.
    steps = lps_to_ijk[:3, :3] @ (np.stack([row, column], axis=1) - source.ijk_to_lps[:3, :2])
    drift = np.abs(steps).max() * max(source.shape[1:])
    off_grid = max(abs(i), abs(j), abs(k - round(k)), drift)
    if off_grid > _POSITION_TOLERANCE or not 0 <= round(k) < source.shape[0]:
        raise GeometryError(
            "a frame of the segmentation does not lie on a slice of the series",
            advice="The segmentation was made on another grid; resample it in Slicer.",
        )
    return round(k)


def _group(group: "Dataset", shared: "Dataset", name: str) -> "Dataset":
    return (group.get(name) or shared[name].value)[0]


def _frames(dataset: "Dataset") -> Iterator[np.ndarray]:
    """Yield the frames, each (j, i); one at a time, as unpacked bits take eight times their stored size."""
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.NumberOfFrames)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        from pydicom.pixels import iter_pixels

        yield from iter_pixels(dataset)
        return
    size, bits = rows * columns, int(dataset.BitsAllocated)
    data = np.frombuffer(dataset.PixelData, np.uint8)
    if bits not in (1, 8, 16) or data.size < (size * count * bits + 7) // 8:
        raise BadDicomError("the pixel data is shorter than its frames, or not of 1, 8 or 16 bits")
    for frame in range(count):
        start = frame * size
        if bits == 1:
            first = start // 8
            unpacked = np.unpackbits(data[first : (start + size + 7) // 8], bitorder="little")
            values = unpacked[start - first * 8 :][:size]
        else:
            values = data[start * bits // 8 : (start + size) * bits // 8].view(f"<u{bits // 8}")
        yield values.reshape(rows, columns)
