"""DICOM Segmentation: :func:`build_segmentation` and its way back, :func:`read_segmentation`."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError, BridgeError, ConflictError, EncodingError, GeometryError
from ..series.dicom_file import read_dicom
from ..series.source_series import SourceSeries
from .equipment import CONTENT_CREATOR, NOT_FOR_DIAGNOSTIC_USE
from .frame_places import frame_places
from .frame_plan import plan_frames
from .frame_reading import FrameData, read_fractions, read_label_layers
from .labels import LabelVolume, Provenance
from .profiles import COMPRESSIONS, ENCODINGS, LARGEST_ELEMENT
from .result_series import ResultKind, complete_result, encoding_errors, fresh_uid, result_series_number
from .segment_description import read_segment, with_tracking_uids
from .segmentation_skeleton import build_skeleton, fill_skeleton
from .source_headers import normalised_headers

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


def build_segmentation(
    labels: LabelVolume,
    *,
    encoding: str = "BINARY",
    compression: str | None = None,
    fractional_type: str | None = None,
    empty: str = "encode",
    largest_bytes: int = LARGEST_ELEMENT,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
    content_creator: str = CONTENT_CREATOR,
) -> "Dataset":
    """Return the labels as one DICOM Segmentation in the study of their source.

    Frames and segments without a voxel are left out. Labels without any voxel give one empty frame per segment (one in
    all for LABELMAP) on the first slice: an object must have a frame, and readers then see every segment with no voxel.

    Parameters
    ----------
    encoding
        ``BINARY``: one bit per voxel, frames per segment; what every PACS takes, and the one that holds segments which
        overlap. Its Segment Numbers must run 1, 2, 3 without gaps, so they count the segments in label order.
        ``LABELMAP``: one frame per slice with the label values as Segment Numbers; older PACS refuse it over DIMSE.
        ``FRACTIONAL``: the labels' probabilities in steps of 1/255, frames per segment; few viewers show it.
    compression
        For LABELMAP and FRACTIONAL: ``"RLE"`` (label maps about 40 times smaller) or ``"JPEG-LS"`` (smaller still, read
        by fewer); None for Explicit VR Little Endian. There is no Deflate: archives would have to inflate unseen data.
    fractional_type
        ``PROBABILITY`` or ``OCCUPANCY``, for FRACTIONAL; as the labels say where not given.
    empty
        ``refuse`` raises where there is no voxel, instead of ``encode``.
    largest_bytes
        Most bytes of uncompressed pixel data. A larger LABELMAP is compressed by RLE; the others are refused before
        anything is made (see :func:`~.frame_plan.split_labels`).
    series_description, series_number
        Made from the provenance and from the source's number where not given.
    new_uid
        Gives the new series, instance and tracking UIDs.
    now
        Date and time of the result; the present where not given.
    content_creator
        Content Creator's Name, as a DICOM person name.

    Returns
    -------
    pydicom.Dataset
        Like highdicom's Segmentation (``highdicom.seg.Segmentation.from_dataset`` takes it), with the functional groups
        still as bytes: pydicom decodes them when they are asked for.

    Raises
    ------
    EncodingError
        The encoding is not supported or does not fit the labels, the source has no frame of reference, its identity
        cannot be carried, or the pixel data would be too large.
    DependencyError
        JPEG-LS is wanted and no encoder is installed.
    """
    fractional_type = fractional_type or labels.fractional_type
    supported = encoding in ENCODINGS and compression in (None, *(() if encoding == "BINARY" else COMPRESSIONS))
    if not supported or fractional_type not in ("PROBABILITY", "OCCUPANCY") or empty not in ("encode", "refuse"):
        raise EncodingError(
            f"the encoding {encoding} {compression or 'uncompressed'} is not supported",
            advice="Supported are BINARY, and LABELMAP and FRACTIONAL with no, RLE or JPEG-LS compression.",
        )
    source = labels.source
    if not source.frame_of_reference_uid:
        raise EncodingError(
            "the source has no Frame of Reference UID, which a segmentation needs", uid=source.series_uid
        )
    labels = with_tracking_uids(labels, new_uid)
    plan = plan_frames(labels, encoding)
    if plan.is_empty and empty == "refuse":
        raise EncodingError("no segment has a voxel: there is nothing to encode", uid=source.series_uid)
    if plan.pixel_bytes > largest_bytes and compression is None:
        if encoding != "LABELMAP":
            raise EncodingError(
                f"the segmentation would hold {plan.pixel_bytes} bytes of pixel data, more than {largest_bytes}",
                uid=source.series_uid,
                advice="Split the labels with split_labels, or use LABELMAP with RLE compression.",
            )
        compression = "RLE"
    header = normalised_headers(source, first=1)[0]
    with encoding_errors("the segmentation", source.series_uid):
        segmentation = build_skeleton(
            source,
            header,
            plan,
            labels.provenance,
            fractional_type=fractional_type,
            compression=compression,
            series_instance_uid=new_uid(),
            series_number=series_number
            or result_series_number(ResultKind.SEGMENTATION, header, labels.provenance, variant=encoding),
            sop_instance_uid=new_uid(),
            content_description=_content_description(labels.provenance),
            content_creator_name=content_creator,
        )
        complete_result(
            segmentation,
            header,
            ResultKind.SEGMENTATION,
            provenance=labels.provenance,
            series_description=series_description,
            now=now or datetime.now(),
        )
        fill_skeleton(segmentation, labels, plan)
    return segmentation


def read_segmentation(dataset_or_path: "Dataset | Path | str", source: SourceSeries) -> LabelVolume:
    """Return a segmentation of any producer as labels on the grid of its source.

    The slice of each frame is found by its position, never by its order; a slice without a frame has no segment. Label
    values are the Segment Numbers. Segments that overlap come in further layers. FRACTIONAL gives the fractions as
    probabilities (float16), and as labels the segment with the largest fraction, from one half on.

    Raises
    ------
    BadDicomError
        The object is unreadable, no segmentation, or contradicts itself.
    ConflictError
        It belongs to another patient's study or to another frame of reference.
    GeometryError
        Its frames do not lie on the slices of ``source``.
    EncodingError
        It is larger than what can be held: more than 64 segments overlap, or fractions take more than 8 GiB.
    """
    dataset = read_dicom(dataset_or_path) if isinstance(dataset_or_path, Path | str) else dataset_or_path
    uid = ""
    try:
        uid = str(dataset.get("SOPInstanceUID", ""))
        return _read(dataset, source)
    except BridgeError as error:
        raise type(error)(error.what, uid=error.uid or uid, advice=error.advice) from error
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError("the segmentation is damaged, or lacks what DICOM requires of it", uid=uid) from error


def _read(dataset: "Dataset", source: SourceSeries) -> LabelVolume:
    if dataset.get("SOPClassUID") not in (SEGMENTATION_STORAGE, LABELMAP_STORAGE):
        raise BadDicomError("the object is no DICOM Segmentation")
    for name, expected in (
        ("StudyInstanceUID", source.study_uid),
        ("FrameOfReferenceUID", source.frame_of_reference_uid),
    ):
        if str(dataset.get(name, "")) != expected:
            raise ConflictError(f"the segmentation has another {name} than the series")
    kind = dataset.get("SegmentationType")
    if kind not in ENCODINGS:
        raise BadDicomError(f"the segmentation type {str(kind)[:16]!r} is unknown")
    if (int(dataset.Rows), int(dataset.Columns)) != source.shape[1:]:
        raise GeometryError(f"the frames have another size than the slices of the series {source.shape[1:]}")
    segments = tuple(read_segment(item) for item in dataset.SegmentSequence if int(item.SegmentNumber) != 0)
    ways = [segment.provenance for segment in segments if segment.provenance and segment.provenance.version]
    provenance = ways[0] if ways else None
    segments = tuple(
        replace(segment, provenance=None) if provenance in (None, segment.provenance) else segment
        for segment in segments
    )
    numbers = [segment.label for segment in segments]
    if not numbers or len(set(numbers)) < len(numbers) or not 1 <= min(numbers) <= max(numbers) <= 65535:
        raise BadDicomError("the segments are not numbered each by a number of its own")
    places = frame_places(dataset, source)
    unknown = {place.segment_number for place in places} - set(numbers)
    if kind != "LABELMAP" and unknown:
        raise BadDicomError(f"a frame belongs to the segment {min(unknown)}, which is not described")
    if kind == "LABELMAP" and int(dataset.get("PixelPaddingValue") or 0) != 0:
        raise BadDicomError("the background of the label map is not 0")
    data = FrameData.of(dataset, source.shape)
    dtype = np.dtype(np.uint16 if max(numbers) > 255 or data.bits == 16 else np.uint8)
    if kind == "FRACTIONAL":
        maximum = int(dataset.MaximumFractionalValue)
        if not 1 <= maximum <= 255 or data.bits != 8:
            raise BadDicomError("the maximum fractional value is not from 1 to 255")
        labels, fractions = read_fractions(data, places, numbers, maximum, dtype)
        return LabelVolume(
            labels,
            segments,
            source=source,
            probabilities=fractions,
            provenance=provenance,
            fractional_type="OCCUPANCY" if dataset.get("SegmentationFractionalType") == "OCCUPANCY" else "PROBABILITY",
        )
    first, *others = read_label_layers(data, places, dtype)
    return LabelVolume(first, segments, source=source, further_layers=tuple(others), provenance=provenance)


def _content_description(provenance: Provenance | None) -> str:
    if provenance is None:
        return "Segmentation"
    remark = f", {NOT_FOR_DIAGNOSTIC_USE}" if provenance.not_for_diagnostic_use else ""
    return f"Segmentation by software{remark}"
