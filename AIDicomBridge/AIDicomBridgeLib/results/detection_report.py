"""What a detector found as a report: TID 1500 with a planar (TID 1410) or volumetric (TID 1411) group each."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EncodingError
from ..series.source_series import SourceSeries
from .classification_report import classification_group
from .codes import ABSENT, PRESENCE, coded_concept
from .equipment import fit
from .labels import Code, Provenance
from .observations import Classification, Detection, Evaluation
from .regions import Region
from .report import algorithm_item, build_report, evaluation_items, finding_sites, number_items
from .result_series import ResultKind, encoding_errors, fresh_uid

if TYPE_CHECKING:
    from pydicom import Dataset

_EDGE_TOLERANCE = 1.0  # voxels: detectors round their boxes outwards


def build_detection_report(
    detections: Sequence[Detection],
    source: SourceSeries,
    *,
    looked_for: Code | None = None,
    provenance: Provenance | None = None,
    sr_class: str = "COMPREHENSIVE_3D",
    observer_name: str | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "Dataset":
    """Return the detections, none or more, as a report.

    In a Comprehensive 3D SR the regions are in the patient's space (SCOORD3D). The other classes cannot hold that:
    there a point or polygon is drawn on the slice that it lies on, and a box as a rectangle on each slice.

    Parameters
    ----------
    source
        The series that the detector saw.
    looked_for
        What the detector looks for. Without a detection the report says that it is absent.
    provenance
        The model; None for a person's own marks.
    sr_class, observer_name, series_description, series_number, new_uid, now
        As for :func:`build_measurement_report`.

    Raises
    ------
    EncodingError
        There is neither a detection nor ``looked_for``; a region lies outside the source's volume, or cannot be drawn
        in the class of report asked for; the source has no frame of reference, or its identity cannot be carried.
    """
    if not source.frame_of_reference_uid:
        raise EncodingError("the source has no Frame of Reference UID, which regions need", uid=source.series_uid)
    if not detections and looked_for is None:
        raise EncodingError(
            "there is no detection to report", uid=source.series_uid, advice="Say with looked_for what was not found."
        )
    for item in detections:
        _check_inside(item, source)
    with encoding_errors("the detection report", source.series_uid):
        groups = [_group(item, source, provenance, sr_class, new_uid) for item in detections]
        if looked_for is not None and not detections:
            absent = Evaluation(PRESENCE, ABSENT)
            nothing = Classification(looked_for.meaning, (absent,), finding=looked_for)
            groups = [classification_group(nothing, source, provenance, new_uid)]
    return build_report(
        groups,
        source,
        kind=ResultKind.DETECTION_REPORT,
        provenance=provenance,
        sr_class=sr_class,
        observer_name=observer_name,
        series_description=series_description,
        series_number=series_number,
        new_uid=new_uid,
        now=now,
    )


def _check_inside(item: Detection, source: SourceSeries) -> None:
    ijk = _voxels(item.region.array(), source)
    largest = np.array(source.shape[::-1]) - 0.5
    if (ijk < -0.5 - _EDGE_TOLERANCE).any() or (ijk > largest + _EDGE_TOLERANCE).any():
        raise EncodingError(
            f"the region of '{item.name}' lies outside the images",
            uid=source.series_uid,
            advice="Check whether its coordinates are LPS millimetres or voxel indices (i, j, k).",
        )


def _voxels(points_lps_mm: np.ndarray, source: SourceSeries) -> np.ndarray:
    """Return points as (i, j, k), between the slices where they are: also where slices are uneven or shifted."""
    row, column = source.ijk_to_lps[:3, 0], source.ijk_to_lps[:3, 1]
    normal = np.cross(row, column) / np.linalg.norm(np.cross(row, column))
    positions = source.positions_mm
    heights, number = positions @ normal, np.arange(len(positions))
    height = points_lps_mm @ normal
    beyond = height - np.clip(height, heights[0], heights[-1])
    k = np.interp(height, heights, number)
    below = np.stack([np.interp(k, number, positions[:, axis]) for axis in range(3)], axis=1)
    in_plane = (points_lps_mm - below) @ np.linalg.pinv(np.stack([row, column]))
    return np.column_stack([in_plane, k + beyond / (source.ijk_to_lps[:3, 2] @ normal)])


def _group(
    item: Detection,
    source: SourceSeries,
    provenance: Provenance | None,
    sr_class: str,
    new_uid: Callable[[], str],
) -> Any:
    from highdicom.sr import (
        PlanarROIMeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    where = _in_space(item.region, source) if sr_class == "COMPREHENSIVE_3D" else _on_slices(item, source)
    planar = "referenced_region" in where
    template = (
        PlanarROIMeasurementsAndQualitativeEvaluations if planar else VolumetricROIMeasurementsAndQualitativeEvaluations
    )
    return template(
        tracking_identifier=TrackingIdentifier(uid=item.tracking_uid or new_uid(), identifier=fit(item.name)),
        finding_type=coded_concept(item.finding),
        finding_category=coded_concept(item.category) if item.category else None,
        finding_sites=finding_sites(item.site, item.site_modifier),
        algorithm_id=algorithm_item(provenance),
        measurements=number_items(item.measurements, item.score),
        qualitative_evaluations=evaluation_items(item.evaluations),
        **where,
    )


def _in_space(region: Region, source: SourceSeries) -> dict[str, Any]:
    """Return the region as SCOORD3D, by the name of the template's argument."""
    from highdicom.sr import ImageRegion3D, SourceSeriesForSegmentation, VolumeSurface

    points, frame_of_reference = region.array(), source.frame_of_reference_uid
    if region.kind == "POINT":
        return {"referenced_region": ImageRegion3D("POINT", points, frame_of_reference)}
    if region.kind == "POLYGON":
        return {"referenced_region": ImageRegion3D("POLYGON", _closed(points), frame_of_reference)}
    faces = [_closed(points[:4]), _closed(points[4:])]
    kind, data = ("ELLIPSOID", points) if region.kind == "ELLIPSOID" else ("POLYGON", faces)
    series = SourceSeriesForSegmentation(source.series_uid)
    return {"referenced_volume_surface": VolumeSurface(kind, data, frame_of_reference, source_series=series)}


def _on_slices(item: Detection, source: SourceSeries) -> dict[str, Any]:
    """Return the region as SCOORD on the source's slices, by the name of the template's argument."""
    points = _voxels(item.region.array(), source)
    if item.region.kind == "BOX":
        low, high = (_slice_of(item, face) for face in (points[:4], points[4:]))
        step = 1 if high >= low else -1
        planes = [(k, "POLYLINE", _closed(points[:4])) for k in range(low, high + step, step)]
    elif item.region.kind == "POLYGON":
        planes = [(_slice_of(item, points), "POLYLINE", _closed(points))]
    elif item.region.kind == "POINT":
        planes = [(_slice_of(item, points), "POINT", points)]
    else:
        raise _not_drawable(item)
    regions = [_image_region(source, k, kind, ijk) for k, kind, ijk in planes]
    return {"referenced_region": regions[0]} if len(regions) == 1 else {"referenced_regions": regions}


def _image_region(source: SourceSeries, k: int, kind: str, ijk: np.ndarray) -> Any:
    from highdicom.sr import ImageRegion, SourceImageForRegion

    piece = source.slices[min(max(k, 0), len(source.slices) - 1)]
    image = SourceImageForRegion(
        referenced_sop_class_uid=str(piece.header.SOPClassUID),
        referenced_sop_instance_uid=piece.sop_instance_uid,
        referenced_frame_numbers=[piece.frame_number] if piece.frame_number is not None else None,
    )
    rows, columns = source.shape[1:]
    # Column and row from the upper left corner of the first pixel, whose centre is (0.5, 0.5) (PS3.3 C.18.6.1.1).
    return ImageRegion(kind, np.clip(ijk[:, :2] + 0.5, 0, (columns, rows)), image)


def _slice_of(item: Detection, ijk: np.ndarray) -> int:
    """Return the slice that points lie on."""
    if np.abs(ijk[:, 2] - ijk[0, 2]).max() > 0.5:
        raise _not_drawable(item)
    return round(float(ijk[:, 2].mean()))


def _not_drawable(item: Detection) -> EncodingError:
    return EncodingError(
        f"the region of '{item.name}' does not lie on slices and needs a Comprehensive 3D SR",
        advice="Ask for sr_class COMPREHENSIVE_3D.",
    )


def _closed(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners, corners[:1]])
