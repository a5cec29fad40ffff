"""A classifier's answers as a structured report: TID 1500 with one group (TID 1501) per classification."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import EncodingError
from ..series.source_series import SourceSeries
from .codes import coded_concept
from .equipment import fit
from .labels import Provenance
from .observations import Classification
from .report import algorithm_item, build_report, evaluation_items, finding_sites, number_items
from .result_series import ResultKind, encoding_errors, fresh_uid

if TYPE_CHECKING:
    from pydicom import Dataset


def build_classification_report(
    classifications: Sequence[Classification],
    source: SourceSeries,
    *,
    provenance: Provenance | None = None,
    sr_class: str = "COMPREHENSIVE_3D",
    observer_name: str | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "Dataset":
    """Return the classifications of a study, series or single images as a report.

    Each group holds what it is said of: the Study Instance UID, the Series Instance UID, or the images.

    Parameters
    ----------
    source
        The series that the classifier saw.
    provenance
        The model; None for a person's own judgement.
    sr_class, observer_name, series_description, series_number, new_uid, now
        As for :func:`build_measurement_report`.

    Raises
    ------
    EncodingError
        There is no classification, one names an image that is not of the source, or the source's identity cannot be
        carried.
    """
    if not classifications:
        raise EncodingError("there is no classification to report", uid=source.series_uid)
    known = set(source.sop_instance_uids)
    for classification in classifications:
        for uid in classification.sop_instance_uids:
            if uid not in known:
                raise EncodingError(f"the classification '{classification.name}' names an image of no source", uid=uid)
    with encoding_errors("the classification report", source.series_uid):
        groups = [classification_group(item, source, provenance, new_uid) for item in classifications]
    return build_report(
        groups,
        source,
        kind=ResultKind.CLASSIFICATION_REPORT,
        provenance=provenance,
        sr_class=sr_class,
        observer_name=observer_name,
        series_description=series_description,
        series_number=series_number,
        new_uid=new_uid,
        now=now,
    )


def classification_group(
    item: Classification, source: SourceSeries, provenance: Provenance | None, new_uid: Callable[[], str]
) -> Any:
    """Return the group (TID 1501) of one classification."""
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        RelationshipTypeValues,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
        UIDRefContentItem,
    )
    from pydicom.sr.codedict import codes

    classes = {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in source.headers}
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=item.tracking_uid or new_uid(), identifier=fit(item.name)),
        finding_type=coded_concept(item.finding) if item.finding else None,
        finding_sites=finding_sites(item.site, item.site_modifier),
        algorithm_id=algorithm_item(provenance),
        measurements=number_items(item.measurements, item.probability),
        qualitative_evaluations=evaluation_items(item.evaluations),
        source_images=[
            SourceImageForMeasurementGroup(
                classes[uid], uid, [number for image, number in item.frames if image == uid] or None
            )
            for uid in item.sop_instance_uids
        ]
        or None,
    )
    if item.level != "image":
        of_study = item.level == "study"
        group[0].ContentSequence.append(
            UIDRefContentItem(
                name=codes.DCM.StudyInstanceUID if of_study else codes.DCM.SeriesInstanceUID,
                value=source.study_uid if of_study else source.series_uid,
                relationship_type=RelationshipTypeValues.HAS_OBS_CONTEXT,
            )
        )
    return group
