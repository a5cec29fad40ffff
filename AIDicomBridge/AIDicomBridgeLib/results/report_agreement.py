"""Whether a report says of each segment what the segmentation, the labels and the measurements say of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError
from ..series.dicom_file import is_uid
from .codes import same_concept
from .labels import Code, LabelVolume, Segment
from .measurement_report import finding_site
from .measurements import Measurement, SegmentMeasurements, voxel_volumes_ml
from .quantities import MILLILITER, VOLUME, VOXEL_UNIT, VOXELS
from .report_table import ReportGroup, read_group
from .segment_description import read_segment

if TYPE_CHECKING:
    from pydicom import Dataset

_TOLERANCE = 1e-6  # relative: a decimal string has 16 characters
_IN_MILLILITERS = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 1e-3, "dm3": 1e3, "l": 1e3, "L": 1e3}

_Error = Callable[[str, str], None]  # path, message


@dataclass(frozen=True)
class Expected:
    """What is known of the segments of a report, by tracking UID.

    Attributes
    ----------
    segments
        What each is: of the labels where they are given, else of the segmentations.
    numbers
        Its measurements; where only labels are given, its voxels and their volume. They must be in the report.
    """

    segments: Mapping[str, Segment]
    numbers: Mapping[str, Sequence[Measurement]]


def expected_of(
    segmentations: "Iterable[Dataset]",
    labels: LabelVolume | None,
    measurements: Sequence[SegmentMeasurements],
    error: _Error,
) -> Expected:
    """Return what a report must say; ``error`` is called for a segment whose description is damaged."""
    segments: dict[str, Segment] = {}
    for dataset in segmentations:
        for order, item in enumerate(dataset.get("SegmentSequence") or [], start=1):
            uid = str(item.get("TrackingUID", ""))
            if not is_uid(uid) or item.get("SegmentNumber") == 0:
                continue
            try:
                segments[uid] = _read_segment(item)
            except BadDicomError as damage:
                error("ContentSequence", f"The segment {order} of a segmentation cannot be read: {damage.what}.")
    uids = {} if labels is None else {item.label: item.tracking_uid for item in labels.segments if item.tracking_uid}
    if labels is not None:
        segments |= {uids[item.label]: item for item in labels.segments if item.label in uids}
    numbers: dict[str, Sequence[Measurement]] = {}
    if labels is not None and not measurements:
        sizes = _sizes(labels)
        numbers = {uid: sizes[label] for label, uid in uids.items()}
    for measured in measurements:  # perhaps made before the labels had tracking UIDs
        uid = measured.segment.tracking_uid or uids.get(measured.segment.label) or ""
        numbers[uid] = measured.coded()
    return Expected(segments, numbers)


def _read_segment(item: "Dataset") -> Segment:
    try:
        return read_segment(item)
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError("it is damaged, or lacks what DICOM requires of it") from error


def _sizes(labels: LabelVolume) -> dict[int, list[Measurement]]:
    """Return voxel count and volume of every label value, counted anew."""
    voxels_ml = voxel_volumes_ml(labels.source)
    values = max(segment.label for segment in labels.segments) + 1
    counts, milliliters = np.zeros(values, np.int64), np.zeros(values)
    for layer in labels.layers:
        for plane, voxel_ml in zip(layer, voxels_ml, strict=True):
            found = np.bincount(plane.ravel(), minlength=values)
            counts += found
            milliliters += found * voxel_ml
    return {
        label: [
            Measurement(VOXELS, float(counts[label]), VOXEL_UNIT),
            Measurement(VOLUME, float(milliliters[label]), MILLILITER),
        ]
        for label in range(values)
    }


def check_agreement(path: str, item: "Dataset", expected: Expected, error: _Error) -> None:
    """Call ``error`` with path and message for what a measurement group says otherwise than is expected."""
    try:
        group = read_group(item)
    except BadDicomError as damage:
        error(path, f"The measurement group cannot be read: {damage.what}.")
        return
    segment = expected.segments.get(group.tracking_uid)
    if segment is not None:
        _check_meaning(path, group, segment, error)
    found = {_key(number): number for number in group.measurements}
    for number in expected.numbers.get(group.tracking_uid, ()):
        twin, what = found.get(_key(number)), (number.derivation or number.quantity).meaning
        if twin is None:
            error(path, f"The measurement group lacks the {what} of its segment.")
        elif not _equal(twin, number):
            error(path, f"The {what} is not that of the segment.")


def _check_meaning(path: str, group: ReportGroup, segment: Segment, error: _Error) -> None:
    site, modifiers = finding_site(segment)
    pairs: dict[str, tuple[Code | None, Code | None]] = {
        "finding": (group.finding, segment.type),
        "finding site": (group.site, site),
        "side or part of the finding site": (group.site_modifier, modifiers[0] if modifiers else None),
    }
    if group.category is not None:
        pairs["finding category"] = (group.category, segment.category)
    for what, (said, ours) in pairs.items():
        if said != ours and not same_concept(said, ours):
            error(path, f"The {what} is not that of the segment.")


def _key(number: Measurement) -> tuple[str, ...]:
    codes = [number.quantity, *([number.derivation] if number.derivation else [])]
    return tuple(part for code in codes for part in (code.value, code.scheme))


def _equal(said: Measurement, ours: Measurement) -> bool:
    factor = 1.0
    if same_concept(ours.quantity, VOLUME) and said.unit.scheme == MILLILITER.scheme:
        factor = _IN_MILLILITERS.get(said.unit.value, float("nan"))
    elif not same_concept(said.unit, ours.unit):
        return False
    return bool(np.isclose(said.value * factor, ours.value, rtol=_TOLERANCE, atol=1e-9))
