"""Own checks of reports: evidence, the templates' rows (TID 300, 1410, 1411, 1501), units, what groups refer to."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..series.dicom_file import is_uid
from .content_tree import children, concept, nested_items
from .labels import LabelVolume
from .measurements import SegmentMeasurements
from .quantities import PROBABILITY, fitting_units
from .report_agreement import check_agreement, expected_of
from .report_table import (
    FINDING,
    MEASUREMENT_GROUP,
    REFERENCED_SEGMENT,
    SERIES_UID,
    SOURCE_SERIES,
    STUDY_UID,
    TRACKING_IDENTIFIER,
    TRACKING_UID,
)

if TYPE_CHECKING:
    from pydicom import Dataset

REPORT_CLASS_UIDS = {
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced
}
# How an item hangs on its group, by concept, else by value type.
_RELATIONSHIPS = {
    TRACKING_IDENTIFIER: "HAS OBS CONTEXT",
    TRACKING_UID: "HAS OBS CONTEXT",
    SERIES_UID: "HAS OBS CONTEXT",
    STUDY_UID: "HAS OBS CONTEXT",
    REFERENCED_SEGMENT: "CONTAINS",
    SOURCE_SERIES: "CONTAINS",
    FINDING: "CONTAINS",
    "NUM": "CONTAINS",
    "SCOORD": "CONTAINS",
    "SCOORD3D": "CONTAINS",
    "IMAGE": "CONTAINS",
}
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")

_Error = Callable[[str, str], None]  # path, message


def check_report(
    dataset: "Dataset",
    *,
    source: "Dataset",
    series: Collection[str],
    segmentations: "Mapping[str, Dataset]",
    labels: LabelVolume | None = None,
    measurements: Sequence[SegmentMeasurements] = (),
    error: _Error,
) -> None:
    """Call ``error`` with path and message for everything that is wrong with a TID 1500 report.

    Parameters
    ----------
    source
        A header of the source.
    series
        Series Instance UIDs that it may name.
    segmentations
        Those that it may refer to, by SOP Instance UID; their segments' meanings must be the report's.
    labels, measurements
        What was measured, and the numbers: they must be the report's.
    """
    if dataset.get("CompletionFlag") not in ("COMPLETE", "PARTIAL"):
        error("CompletionFlag", "The report does not say whether it is complete.")
    if dataset.get("VerificationFlag") not in ("VERIFIED", "UNVERIFIED"):
        error("VerificationFlag", "The report does not say whether it is verified.")
    listed = {
        str(item.get("ReferencedSOPInstanceUID", ""))
        for path, item in nested_items(dataset)
        if path.startswith(_EVIDENCE)
    }
    tracking: list[str] = []
    expected = expected_of(segmentations.values(), labels, measurements, error)
    for path, item in nested_items(dataset):
        if not path.startswith("ContentSequence"):
            continue
        kind = item.get("ValueType")
        if kind in ("IMAGE", "COMPOSITE") and _referenced_uid(item) not in listed:
            error(path, f"{_referenced_uid(item) or 'What it refers to'} is not among the evidence.")
        elif kind == "NUM":
            _check_number(path, item, error)
        elif kind == "SCOORD3D":
            frame = str(item.get("ReferencedFrameOfReferenceUID", ""))
            if not frame or frame != str(source.get("FrameOfReferenceUID", "")):
                error(path, "The frame of reference is not the source's.")
        elif kind == "CONTAINER" and concept(item) == MEASUREMENT_GROUP:
            tracking.append(_check_group(path, item, source, series, segmentations, error))
            check_agreement(path, item, expected, error)
    if not tracking:
        error("ContentSequence", "The report has no measurement group.")
    elif len(set(tracking)) < len(tracking):
        error("ContentSequence", "Two measurement groups share a tracking UID.")


def _referenced_uid(item: "Dataset") -> str:
    references = item.get("ReferencedSOPSequence")
    return str(references[0].get("ReferencedSOPInstanceUID", "")) if references else ""


def _value_and_scheme(codes: "Sequence[Dataset] | None") -> tuple[str, str]:
    item: Any = codes[0] if codes else {}
    return str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))


def _check_number(path: str, item: "Dataset", error: _Error) -> None:
    measured = item.get("MeasuredValueSequence")
    unit = measured[0].get("MeasurementUnitsCodeSequence") if measured else None
    if not measured or measured[0].get("NumericValue") is None or not unit:
        error(f"{path}.MeasuredValueSequence", "The measurement has no value or no unit.")
        return
    fitting, quantity = fitting_units(), _value_and_scheme(item.get("ConceptNameCodeSequence"))
    if quantity not in fitting and quantity[0] in {value for value, _ in fitting}:
        error(f"{path}.ConceptNameCodeSequence", f"The quantity {quantity[0]} is not of the scheme {quantity[1]}.")
    if quantity in fitting and _value_and_scheme(unit) not in fitting[quantity]:
        named = " of ".join(_value_and_scheme(unit))
        error(f"{path}.MeasuredValueSequence", f"The unit {named} does not fit the quantity.")
    if concept(item) == PROBABILITY.value and not 0 <= float(measured[0].NumericValue) <= 1:
        error(f"{path}.MeasuredValueSequence", "The probability is not between 0 and 1.")


def _check_group(
    path: str,
    group: "Dataset",
    source: "Dataset",
    series: Collection[str],
    segmentations: "Mapping[str, Dataset]",
    error: _Error,
) -> str:
    """Check one group and return its tracking UID."""
    by_concept: dict[str, Dataset] = {}
    kinds: set[str] = set()
    for order, child in enumerate(children(group), start=1):
        name, kind = concept(child), str(child.get("ValueType", ""))
        by_concept.setdefault(name, child)
        kinds.add(kind)
        expected = _RELATIONSHIPS.get(name) or _RELATIONSHIPS.get(kind)
        if expected and child.get("RelationshipType") != expected:
            error(f"{path}.ContentSequence[{order}].RelationshipType", f"It must be {expected}.")
    for name, what in ((TRACKING_IDENTIFIER, "tracking identifier"), (TRACKING_UID, "tracking UID")):
        if name not in by_concept:
            error(path, f"The measurement group has no {what}.")
    about = {REFERENCED_SEGMENT, SERIES_UID, STUDY_UID} & set(by_concept)
    if not about and not kinds & {"SCOORD", "SCOORD3D", "IMAGE"}:
        error(path, "The measurement group has no referenced segment, region, image, series or study.")
    if (REFERENCED_SEGMENT in about or kinds & {"SCOORD", "SCOORD3D"}) and FINDING not in by_concept:
        error(path, "The measurement group has no finding.")
    if not kinds & {"NUM", "CODE"}:
        error(path, "The measurement group measures nothing and says nothing.")
    for name in (SOURCE_SERIES, SERIES_UID):
        if name in by_concept and str(by_concept[name].get("UID", "")) not in series:
            error(path, "The source series is not known.")
    if STUDY_UID in by_concept and by_concept[STUDY_UID].get("UID") != source.get("StudyInstanceUID"):
        error(path, "The study is not the source's.")
    uid = str(by_concept[TRACKING_UID].get("UID", "")) if TRACKING_UID in by_concept else path
    if TRACKING_UID in by_concept and not is_uid(uid):
        error(path, "The tracking UID is no UID.")
    if REFERENCED_SEGMENT in by_concept:
        _check_segment_reference(path, by_concept[REFERENCED_SEGMENT], uid, segmentations, error)
    return uid


def _check_segment_reference(
    path: str, item: "Dataset", tracking_uid: str, segmentations: "Mapping[str, Dataset]", error: _Error
) -> None:
    segmentation = segmentations.get(_referenced_uid(item))
    if segmentation is None:
        return  # reported as an unknown reference already
    tracking = {
        int(segment.SegmentNumber): str(segment.get("TrackingUID", "")) for segment in segmentation.SegmentSequence
    }
    number = item.ReferencedSOPSequence[0].get("ReferencedSegmentNumber")
    if number not in tracking:
        error(path, "The referenced segment is not in the segmentation.")
    elif tracking[number] != tracking_uid and is_uid(tracking_uid):
        error(path, "The tracking UID is not that of the referenced segment.")
