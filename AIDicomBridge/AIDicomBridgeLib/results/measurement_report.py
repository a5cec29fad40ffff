"""Measurements as a structured report: TID 1500 with one volumetric group per segment."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import EncodingError
from .classification_report import classification_group
from .codes import ABSENT, PRESENCE, coded_concept, is_side
from .labels import Code, LabelVolume, Segment
from .measurements import SegmentMeasurements
from .observations import Classification, Evaluation
from .report import algorithm_item, build_report, finding_sites, number_items
from .result_series import ResultKind, encoding_errors, fresh_uid
from .segment_description import segment_items, tracking_identifier

if TYPE_CHECKING:
    from pydicom import Dataset


def build_measurement_report(
    labels: LabelVolume,
    measurements: Sequence[SegmentMeasurements],
    *,
    segmentation: "Dataset | None",
    sr_class: str = "COMPREHENSIVE_3D",
    observer_name: str | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "Dataset":
    """Return the measurements as a report that points to the segments they were made on.

    The report says COMPLETE (all that was to be measured is in it), PRELIMINARY and UNVERIFIED (no person has taken
    responsibility for it): a person's sign-off makes a new report.

    Parameters
    ----------
    measurements
        What :func:`measure` gave for ``labels``.
    segmentation
        The DICOM Segmentation of ``labels``; its tracking UIDs go into the report. None for labels without a voxel,
        where nothing was encoded: the report then says of each segment that it is absent.
    sr_class
        ``COMPREHENSIVE_3D``, or ``COMPREHENSIVE`` or ``ENHANCED`` for a PACS that does not take the first.
    observer_name
        Person who looked at the result, as a DICOM person name; the device is always an observer.
    series_description, series_number, new_uid, now
        As for :func:`build_segmentation`.

    Raises
    ------
    EncodingError
        The segmentation or the measurements belong to other labels, or the source's identity cannot be carried.
    """
    source = labels.source
    if [item.segment.label for item in measurements] != [segment.label for segment in labels.segments]:
        raise EncodingError("the measurements are not those of the labels' segments", uid=source.series_uid)
    items = segment_items(segmentation, labels) if segmentation is not None else {}
    if any(measured.voxel_count and measured.segment.label not in items for measured in measurements):
        raise EncodingError("there is no segmentation that holds what was measured", uid=source.series_uid)
    with encoding_errors("the measurement report", source.series_uid):
        groups = [
            _group(measured, labels, segmentation, items[measured.segment.label])
            if segmentation is not None and measured.segment.label in items
            else _absent(measured, labels, new_uid)
            for measured in measurements
        ]
    return build_report(
        groups,
        source,
        kind=ResultKind.MEASUREMENT_REPORT,
        provenance=labels.provenance,
        evidence=[] if segmentation is None else [segmentation],
        sr_class=sr_class,
        observer_name=observer_name,
        series_description=series_description,
        series_number=series_number,
        new_uid=new_uid,
        now=now,
    )


def _group(measured: SegmentMeasurements, labels: LabelVolume, segmentation: "Dataset", item: "Dataset") -> Any:
    from highdicom.sr import (
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    segment = measured.segment
    site, modifiers = finding_site(segment)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=str(item.TrackingUID), identifier=tracking_identifier(segment)),
        # highdicom's from_segmentation fails on LABELMAP. The series stands for its images: naming 300 slices in each
        # of 60 groups would make 18000 content items.
        referenced_segment=ReferencedSegment(
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            segment_number=int(item.SegmentNumber),
            source_series=SourceSeriesForSegmentation(labels.source.series_uid),
        ),
        finding_category=coded_concept(segment.category),
        finding_type=coded_concept(segment.type),
        finding_sites=finding_sites(site, *modifiers),
        algorithm_id=algorithm_item(labels.provenance),
        measurements=number_items(measured.coded()),
    )


def _absent(measured: SegmentMeasurements, labels: LabelVolume, new_uid: Callable[[], str]) -> Any:
    """Return the group of a segment that was looked for, has no voxel, and so is in no segmentation."""
    segment = measured.segment
    site, modifiers = finding_site(segment)
    classification = Classification(
        tracking_identifier(segment),
        (Evaluation(PRESENCE, ABSENT),),
        finding=segment.type,
        site=site,
        site_modifier=modifiers[0] if modifiers else None,
        measurements=tuple(measured.coded()),
        tracking_uid=segment.tracking_uid,
    )
    return classification_group(classification, labels.source, labels.provenance, new_uid)


def finding_site(segment: Segment) -> tuple[Code | None, tuple[Code, ...]]:
    """Return where the segment is: its region, else the structure itself where that has a side; a side comes first.

    A left mass in the lung lies in the left lung: the side of the type is that of the region.
    """
    modifiers = tuple(code for code in (segment.region_modifier, segment.type_modifier) if code is not None)
    if segment.region is None:
        return (segment.type, modifiers) if modifiers else (None, ())
    sides = tuple(code for code in modifiers if is_side(code))[:1]
    parts = (segment.region_modifier,) if segment.region_modifier and not is_side(segment.region_modifier) else ()
    return segment.region, (*sides, *parts)
