"""One segment between :class:`Segment` and an item of the Segment Sequence (PS3.3 C.8.20.4)."""

from collections.abc import Callable
from colorsys import hsv_to_rgb
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import BadDicomError, EncodingError
from ..series.dicom_file import is_uid
from .codes import LATERALITIES, coded_concept, read_code, same_concept
from .equipment import algorithm_identification, fit, read_provenance
from .frame_plan import present_segments
from .labels import Code, LabelVolume, Provenance, Segment

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset

_ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")


def describe_segment(segment: Segment, number: int, provenance: Provenance | None) -> "SegmentDescription":
    """Return the Segment Sequence item of ``segment``, which has a tracking UID, with that Segment Number.

    Raises
    ------
    EncodingError
        The algorithm type is none of DICOM's, or an algorithm has no name.
    """
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    if segment.algorithm_type not in _ALGORITHM_TYPES:
        raise EncodingError(
            f"{segment.algorithm_type!r} is no algorithm type; DICOM knows {', '.join(_ALGORITHM_TYPES)}"
        )
    manual = segment.algorithm_type == "MANUAL"
    provenance = segment.provenance or provenance
    algorithm_name = segment.algorithm_name or (provenance.model if provenance else None)
    if not manual and not algorithm_name:
        raise EncodingError(
            f"segment {segment.label} is {segment.algorithm_type} but names no algorithm",
            advice="Give the segment an algorithm_name or the labels a provenance.",
        )
    # Without provenance the algorithm's family and version are not known: the name alone is written below.
    identification = None
    if not manual and provenance is not None and provenance.version:
        identification = algorithm_identification(algorithm_name or "", provenance)
    description = SegmentDescription(
        segment_number=number,
        segment_label=fit(segment.name),
        segmented_property_category=coded_concept(segment.category),
        segmented_property_type=coded_concept(segment.type),
        algorithm_type=segment.algorithm_type if identification else "MANUAL",
        algorithm_identification=identification,
        tracking_uid=segment.tracking_uid,
        tracking_id=tracking_identifier(segment),
        anatomic_regions=[coded_concept(segment.region)] if segment.region else None,
        display_color=CIELabColor.from_rgb(*display_color(segment)),
    )
    description.SegmentAlgorithmType = segment.algorithm_type
    if not manual:
        description.SegmentAlgorithmName = fit(algorithm_name or "")
    # highdicom has no argument for modifiers; without them left and right are lost.
    if segment.type_modifier:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded_concept(segment.type_modifier)]
    if segment.region_modifier:
        region = description.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [coded_concept(segment.region_modifier)]
    return description


def display_color(segment: Segment) -> tuple[int, int, int]:
    """Return the colour of a segment in every result, node and picture: its own, else one by its label (0-255)."""
    if segment.color_rgb:
        return segment.color_rgb
    # Steps of the golden angle never come back to a hue; they start at a green that shows on grey and on bone.
    red, green, blue = hsv_to_rgb((0.38 + (segment.label - 1) * 0.618034) % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def with_tracking_uids(labels: LabelVolume, new_uid: Callable[[], str]) -> LabelVolume:
    """Return the labels with a tracking UID in every segment; the array is shared.

    Several segmentations of one result (BINARY and LABELMAP) are to be built from these, so that they agree.
    """
    segments = tuple(
        segment if segment.tracking_uid else replace(segment, tracking_uid=new_uid()) for segment in labels.segments
    )
    return replace(labels, segments=segments)


def tracking_identifier(segment: Segment) -> str:
    """Return the Tracking ID of a segment, the same in SEG and SR."""
    return fit(segment.tracking_id or f"{segment.name} ({segment.label})")


def read_segment(item: "Dataset") -> Segment:
    """Return the segment of one item of the Segment Sequence; its label is the Segment Number.

    Codes that a segment can do without are left out where they are incomplete. Of several modifiers the side is kept.
    """
    from highdicom.color import CIELabColor

    type_item = item.SegmentedPropertyTypeCodeSequence[0]
    region_item = _first(item, "AnatomicRegionSequence")
    color, tracking_uid = item.get("RecommendedDisplayCIELabValue"), str(item.get("TrackingUID", ""))
    region = _code(region_item)
    return Segment(
        label=int(item.SegmentNumber),
        name=str(item.SegmentLabel) or f"Segment {item.SegmentNumber}",
        category=read_code(item.SegmentedPropertyCategoryCodeSequence[0]),
        type=read_code(type_item),
        type_modifier=_modifier(type_item, "SegmentedPropertyTypeModifierCodeSequence"),
        region=region,
        region_modifier=_modifier(region_item, "AnatomicRegionModifierSequence") if region else None,
        color_rgb=CIELabColor.from_dicom_value(color).to_rgb(clip=True) if color else None,
        tracking_uid=tracking_uid if is_uid(tracking_uid) else None,
        algorithm_type=str(item.get("SegmentAlgorithmType") or "MANUAL"),
        tracking_id=str(item.TrackingID) if item.get("TrackingID") else None,
        algorithm_name=str(item.SegmentAlgorithmName) if item.get("SegmentAlgorithmName") else None,
        provenance=_read_provenance(item),
    )


def segment_items(segmentation: "Dataset", labels: LabelVolume) -> "dict[int, Dataset]":
    """Return the Segment Sequence item of every label value that the segmentation describes: those with voxels.

    Raises
    ------
    EncodingError
        The segmentation describes other segments than these labels have.
    """
    items = [item for item in segmentation.get("SegmentSequence", []) if int(item.SegmentNumber) != 0]
    segments = {segment.tracking_uid: segment for segment in labels.segments}
    if None not in segments:
        pairs = [(segments.get(str(item.get("TrackingUID", ""))), item) for item in items]
    else:  # built without tracking UIDs of the labels' own: by name and order
        expected = labels.segments if len(items) == len(labels.segments) else present_segments(labels)
        named = [
            segment if fit(segment.name) == str(item.SegmentLabel) else None
            for segment, item in zip(expected, items, strict=False)
        ]
        pairs = list(zip(named, items, strict=False)) if len(expected) == len(items) else [(None, segmentation)]
    found = {segment.label: item for segment, item in pairs if segment is not None}
    if len(found) < len(pairs) or not found:
        raise EncodingError(
            "the segmentation does not describe the segments of these labels",
            uid=str(segmentation.SOPInstanceUID),
            advice="Pass the segmentation that was built from them.",
        )
    return found


def _first(item: Any, name: str) -> Any:
    sequence = item.get(name) if item is not None else None
    return sequence[0] if sequence else None


def _code(item: Any) -> Code | None:
    try:
        return read_code(item) if item is not None else None
    except BadDicomError:  # one that says nothing: the rest of the segmentation is not worth less
        return None


def _modifier(item: "Dataset", name: str) -> Code | None:
    codes = [code for code in map(_code, item.get(name) or []) if code is not None]
    sides = [code for code in codes if any(same_concept(code, side) for side in LATERALITIES)]
    return next(iter(sides or codes), None)


def _read_provenance(item: "Dataset") -> Provenance | None:
    identification = _first(item, "SegmentationAlgorithmIdentificationSequence")
    if identification is not None:
        family = _first(identification, "AlgorithmFamilyCodeSequence")
        if family is not None and _code(family) is None:
            identification = deepcopy(identification)
            del identification.AlgorithmFamilyCodeSequence
        return read_provenance(identification)
    name = item.get("SegmentAlgorithmName")
    return Provenance(str(name), "") if name else None
