"""Reading measurement reports (TID 1500) of any producer into a table: :func:`read_measurement_report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError
from ..series.dicom_file import read_dicom
from .codes import is_complete_code, read_code
from .content_tree import children, concept
from .labels import Code
from .measurements import Measurement
from .observations import Evaluation

if TYPE_CHECKING:
    from pydicom import Dataset

# Code Values of the concepts in a measurement group; SNOMED CT, and its older form SNOMED RT where there is one.
IMAGING_MEASUREMENTS = "126010"
MEASUREMENT_GROUP = "125007"
TRACKING_IDENTIFIER = "112039"
TRACKING_UID = "112040"
FINDING = "121071"
REFERENCED_SEGMENT = "121191"
REFERENCED_SEGMENTATION_FRAME = "121214"
SOURCE_SERIES = "121232"
SERIES_UID, STUDY_UID = "112002", "110180"
_CATEGORIES = ("276214006", "G-D0F0")
_SITES = ("363698007", "G-C0E3")
_SITE_MODIFIERS = ("272741003", "G-C171", "106233006", "G-A1F8")  # laterality, topographical modifier
_METHODS = ("370129005", "G-C036")
_DERIVATION = "121401"
_NOT_EVALUATIONS = {FINDING, *_CATEGORIES, *_SITES, *_METHODS}


@dataclass(frozen=True)
class ReportRegion:
    """One region of a group.

    Attributes
    ----------
    graphic_type
        ``POINT``, ``POLYGON``, ``ELLIPSOID``, ... in space; ``POINT``, ``POLYLINE``, ... on an image.
    points
        (x, y, z) in LPS mm; on an image (column, row) from the upper left corner of its first pixel.
    image_uid
        The image, for a region that is drawn on one.
    """

    graphic_type: str
    points: tuple[tuple[float, ...], ...]
    image_uid: str = ""


@dataclass(frozen=True)
class ReportGroup:
    """One measurement group of a report: a row of the table. What the report does not say is None or empty.

    Attributes
    ----------
    name, tracking_uid
        Tracking identifier and UID.
    finding, category, site, site_modifier
        What it is and where; the modifier is a side or a part.
    measurements, evaluations
        Numbers and coded answers, in the report's order.
    segmentation_uid, segment_number
        The segment that was measured.
    regions
        Where it is; several make up one volume.
    series_uid, study_uid
        The series or study that it is said of.
    image_uids
        The images that it refers to beside those of its regions.
    """

    name: str = ""
    tracking_uid: str = ""
    finding: Code | None = None
    category: Code | None = None
    site: Code | None = None
    site_modifier: Code | None = None
    measurements: tuple[Measurement, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    segmentation_uid: str = ""
    segment_number: int | None = None
    regions: tuple[ReportRegion, ...] = ()
    series_uid: str = ""
    study_uid: str = ""
    image_uids: tuple[str, ...] = ()

    def value(self, quantity: str, derivation: str | None = None) -> float:
        """Return the number with that meaning, such as ``"Volume"``, or ``"Mean"`` as derivation; else KeyError."""
        for number in self.measurements:
            derived = number.derivation.meaning if number.derivation else None
            if (number.quantity.meaning, derived) == (quantity, derivation):
                return number.value
        raise KeyError(quantity if derivation is None else f"{quantity}, {derivation}")


def read_measurement_report(dataset_or_path: "Dataset | Path | str") -> list[ReportGroup]:
    """Return the measurement groups of a TID 1500 report, one per row, in the report's order.

    Reports of measurements, classifications and detections can be read, ours, highdicom's and dcmqi's. A number
    without a value, and a coded item whose code is incomplete, are left out.

    Raises
    ------
    BadDicomError
        The object is unreadable or no such report.
    """
    dataset = read_dicom(dataset_or_path) if isinstance(dataset_or_path, Path | str) else dataset_or_path
    uid = ""
    try:
        uid = str(dataset.get("SOPInstanceUID", ""))
        containers = [item for item in children(dataset) if concept(item) == IMAGING_MEASUREMENTS]
        found = [item for container in containers for item in children(container) if concept(item) == MEASUREMENT_GROUP]
        groups = [_group(item) for item in found]
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError("the report is damaged, or lacks what DICOM requires of it", uid=uid) from error
    if not containers:
        raise BadDicomError("the object is no measurement report (TID 1500)", uid=uid)
    return groups


def read_group(item: "Dataset") -> ReportGroup:
    """Return one measurement group, a CONTAINER of a report's content.

    Raises
    ------
    BadDicomError
        It is damaged.
    """
    try:
        return _group(item)
    except Exception as error:  # as above
        raise BadDicomError("a measurement group is damaged, or lacks what DICOM requires of it") from error


def _group(group: "Dataset") -> ReportGroup:
    items: dict[str, list[Dataset]] = {}
    for item in children(group):
        items.setdefault(str(item.get("ValueType", "")), []).append(item)
    coded, images = items.get("CODE", []), [*items.get("IMAGE", []), *items.get("COMPOSITE", [])]
    uids = {concept(item): str(item.UID) for item in items.get("UIDREF", [])}
    names = [str(item.TextValue) for item in items.get("TEXT", []) if concept(item) == TRACKING_IDENTIFIER]
    site = _first(coded, _SITES)
    segment = _first(images, (REFERENCED_SEGMENT, REFERENCED_SEGMENTATION_FRAME))
    return ReportGroup(
        name=names[0] if names else "",
        tracking_uid=uids.get(TRACKING_UID, ""),
        finding=_code(_first(coded, (FINDING,))),
        category=_code(_first(coded, _CATEGORIES)),
        site=_code(site),
        site_modifier=_code(_first(children(site), _SITE_MODIFIERS)) if site is not None else None,
        measurements=tuple(number for item in items.get("NUM", []) for number in _read_number(item)),
        evaluations=tuple(answer for item in coded for answer in _read_evaluation(item)),
        segmentation_uid=_referenced_uid(segment) if segment is not None else "",
        segment_number=_segment_number(segment),
        regions=tuple(_read_region(item) for item in (*items.get("SCOORD3D", []), *items.get("SCOORD", []))),
        series_uid=uids.get(SERIES_UID, uids.get(SOURCE_SERIES, "")),
        study_uid=uids.get(STUDY_UID, ""),
        image_uids=tuple(_referenced_uid(item) for item in images if item is not segment),
    )


def _first(items: "list[Dataset]", concepts: tuple[str, ...]) -> "Dataset | None":
    return next((item for item in items if concept(item) in concepts), None)


def _referenced_uid(item: "Dataset") -> str:
    return str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def _segment_number(item: "Dataset | None") -> int | None:
    number = item.ReferencedSOPSequence[0].get("ReferencedSegmentNumber") if item is not None else None
    if number is None:
        return None
    return int(number) if isinstance(number, int | str) else int(number[0])


def _read_region(item: "Dataset") -> ReportRegion:
    width = 3 if item.ValueType == "SCOORD3D" else 2
    points = np.reshape([float(value) for value in item.GraphicData], (-1, width)).tolist()
    images = [child for child in children(item) if child.get("ValueType") == "IMAGE"]
    return ReportRegion(
        str(item.GraphicType), tuple(tuple(point) for point in points), _referenced_uid(images[0]) if images else ""
    )


def _read_evaluation(item: "Dataset") -> list[Evaluation]:
    answer = _code(item)
    if answer is None or concept(item) in _NOT_EVALUATIONS or not is_complete_code(_name(item)):
        return []
    return [Evaluation(read_code(_name(item)), answer)]


def _read_number(item: "Dataset") -> list[Measurement]:
    measured = item.get("MeasuredValueSequence")
    unit = measured[0].get("MeasurementUnitsCodeSequence") if measured else None
    if not unit or not is_complete_code(unit[0]) or not is_complete_code(_name(item)):
        return []
    about = {concept(child): _code(child) for child in children(item) if child.get("ValueType") == "CODE"}
    method = next((about[name] for name in _METHODS if name in about), None)
    exact = measured[0].get("FloatingPointValue")
    value = float(measured[0].NumericValue if exact is None else exact)
    return [Measurement(read_code(_name(item)), value, read_code(unit[0]), method, about.get(_DERIVATION))]


def _name(item: "Dataset") -> "Dataset":
    return item.ConceptNameCodeSequence[0]


def _code(item: "Dataset | None") -> Code | None:
    codes = item.get("ConceptCodeSequence") if item is not None else None
    return read_code(codes[0]) if codes and is_complete_code(codes[0]) else None
