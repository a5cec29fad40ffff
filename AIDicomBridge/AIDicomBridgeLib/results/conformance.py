"""Own checks of results, for what validators cannot see: references, identity, codes, units.

A validator looks at one object. It does not know the sources, so it passes references to instances that do not
exist, a wrong frame of reference, a volume in millimetres, and a dropped tracking UID or segment reference.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadDicomError
from ..series.dicom_file import is_uid
from ..series.source_series import SourceSeries
from .codes import read_code, why_no_code
from .content_tree import nested_items
from .labels import LabelVolume
from .measurements import SegmentMeasurements
from .parametric_map import PARAMETRIC_MAP_STORAGE
from .report_conformance import REPORT_CLASS_UIDS, check_report
from .segmentation import LABELMAP_STORAGE, SEGMENTATION_STORAGE
from .segmentation_conformance import (
    check_frames,
    check_references,
    check_segments,
    check_spacing,
    check_voxels,
    distinct_groups,
)

if TYPE_CHECKING:
    from pydicom import Dataset

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SAME_AS_SOURCE = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "IssuerOfPatientID",
    "AccessionNumber",
    "StudyInstanceUID",
    "StudyDate",
)
# What we write ourselves. Other sequences are copied from the source's patient and study (requests, procedure steps,
# diagnoses): they point to what no one has here, and their faults are the source's.
_OWN_SEQUENCES = {
    "ConceptNameCodeSequence",
    "ContentSequence",
    "CurrentRequestedProcedureEvidenceSequence",
    "DerivationCodeSequence",
    "ReferencedSeriesSequence",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "SourceImageSequence",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a result.

    Attributes
    ----------
    severity
        ``"error"``: the result must not be delivered; ``"warning"``: it may.
    path
        Where: attribute keywords with item numbers from 1, ``"SegmentSequence[2].TrackingUID"``.
    message
        What, as a sentence without patient data.
    """

    severity: str
    path: str
    message: str


@dataclass(frozen=True)
class _Known:
    """What a result may refer to."""

    source: "Dataset" = field(repr=False)
    classes: dict[str, str]  # SOP Class UID by SOP Instance UID
    series: frozenset[str]
    source_series: str
    segmentations: "dict[str, Dataset]" = field(repr=False)


_Report = Callable[[str, str], None]  # path, message


def check_conformance(
    dataset: "Dataset",
    sources: "SourceSeries | Iterable[Dataset]",
    *,
    related: "Iterable[Dataset]" = (),
    labels: LabelVolume | None = None,
    measurements: Sequence[SegmentMeasurements] = (),
) -> list[Finding]:
    """Return what is wrong with a segmentation, report, parametric map or secondary capture; empty if nothing is.

    Parameters
    ----------
    sources
        The series that it was computed from, or its headers.
    related
        Results of the same run that it may point to, such as the segmentation of a report; it may be among them.
    labels
        What a segmentation was made from, with its tracking UIDs: it is then read back and compared voxel for voxel.
        What a report says of its segments, their voxel count and volume too, is compared with them.
    measurements
        What :func:`~.measurements.measure` gave: all numbers of a report are then compared.
    """
    headers = list(sources.headers) if isinstance(sources, SourceSeries) else list(sources)
    if not headers:
        return [Finding("error", "", "There are no sources to check against.")]
    others = [item for item in related if item is not dataset]
    known = _Known(
        source=headers[0],
        classes={str(item.SOPInstanceUID): str(item.SOPClassUID) for item in (*headers, *others)},
        series=frozenset(str(item.SeriesInstanceUID) for item in (*headers, *others)),
        source_series=str(headers[0].SeriesInstanceUID),
        segmentations={str(item.SOPInstanceUID): item for item in others if "SegmentSequence" in item},
    )
    findings: list[Finding] = []

    def error(path: str, message: str) -> None:
        findings.append(Finding("error", path, message))

    def warning(path: str, message: str) -> None:
        findings.append(Finding("warning", path, message))

    _check_identity(dataset, known, error)
    _check_tree(dataset, known, error)
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class in (SEGMENTATION_STORAGE, LABELMAP_STORAGE):
        _check_frame_of_reference(dataset, known, error)
        check_segments(dataset, error)
        check_spacing(dataset, headers, error, warning)
        if "PerFrameFunctionalGroupsSequence" in dataset:
            check_references(dataset, _positions(sources, headers), error)
        if labels is not None:
            check_voxels(dataset, labels, error)
    elif sop_class in REPORT_CLASS_UIDS:
        check_report(
            dataset,
            source=known.source,
            series=known.series,
            segmentations=known.segmentations,
            labels=labels,
            measurements=measurements,
            error=error,
        )
    elif sop_class == PARAMETRIC_MAP_STORAGE:
        _check_frame_of_reference(dataset, known, error)
        _check_map(dataset, error)
    elif sop_class == SECONDARY_CAPTURE:
        _check_capture(dataset, error)
    else:
        warning("SOPClassUID", "This kind of result has no checks of its own.")
    return findings


def _positions(
    sources: "SourceSeries | Iterable[Dataset]", headers: "list[Dataset]"
) -> "dict[tuple[str, int | None], np.ndarray]":
    """Return where each slice of the sources lies, by instance and frame number, where that is known."""
    if isinstance(sources, SourceSeries):
        names = [(piece.sop_instance_uid, piece.frame_number) for piece in sources.slices]
        return dict(zip(names, sources.positions_mm, strict=True))
    return {
        (str(header.SOPInstanceUID), None): np.array(header.ImagePositionPatient, float)
        for header in headers
        if "ImagePositionPatient" in header
    }


def _check_identity(dataset: "Dataset", known: _Known, error: _Report) -> None:
    for name in _SAME_AS_SOURCE:
        # A source value that breaks its rules (StudyDate "2026.01.02") is emptied in the result; that is no change.
        ours, theirs = str(dataset.get(name) or ""), str(known.source.get(name) or "")
        if ours != theirs and not (name == "StudyDate" and not ours):
            error(name, f"{name} differs from the source.")
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not is_uid(str(dataset.get(name, ""))):
            error(name, f"{name} is no UID.")
    if str(dataset.get("SOPInstanceUID", "")) in known.classes:
        error("SOPInstanceUID", "The result has the SOP Instance UID of another object.")
    if str(dataset.get("SeriesInstanceUID", "")) == known.source_series:
        error("SeriesInstanceUID", "The result is in the series of its source.")


def _check_tree(dataset: "Dataset", known: _Known, error: _Report) -> None:
    """Check every code and every reference, wherever it stands."""
    from pydicom.datadict import keyword_for_tag

    for path, item in nested_items(dataset, within=_OWN_SEQUENCES):
        _check_item(path, item, known, error)
    if "PerFrameFunctionalGroupsSequence" in dataset:
        for frame, groups in distinct_groups(dataset):
            for tag, items in groups.items():
                for number, group in enumerate(items, start=1):
                    start = f"{frame}.{keyword_for_tag(tag)}[{number}]"
                    _check_item(start, group, known, error)
                    for path, item in nested_items(group, f"{start}."):
                        _check_item(path, item, known, error)


def _check_item(path: str, item: "Dataset", known: _Known, error: _Report) -> None:
    if path[: path.rindex("[")].endswith("CodeSequence"):
        _check_code(path, item, error)
    uid = str(item.get("ReferencedSOPInstanceUID", ""))
    if uid and uid not in known.classes:
        error(f"{path}.ReferencedSOPInstanceUID", f"It refers to {uid}, which is neither source nor result.")
    elif uid and known.classes[uid] != str(item.get("ReferencedSOPClassUID", "")):
        error(f"{path}.ReferencedSOPClassUID", f"It is not the SOP Class of {uid}.")
    if path.rpartition(".")[2].startswith("ReferencedSeriesSequence"):
        series = str(item.get("SeriesInstanceUID", ""))
        if series not in known.series:
            error(f"{path}.SeriesInstanceUID", f"It refers to the series {series}, which is not known.")


def _check_code(path: str, item: "Dataset", error: _Report) -> None:
    try:
        code = read_code(item)
    except BadDicomError:
        error(path, "The code lacks its value, scheme or meaning.")
        return
    if wrong := why_no_code(code):
        error(f"{path}.CodeValue", f"{wrong}.")
    if len(str(item.CodeMeaning)) > 64 or len(str(item.get("CodeValue") or "")) > 16:
        error(path, "The code's value or meaning is longer than DICOM allows.")


def _check_frame_of_reference(dataset: "Dataset", known: _Known, error: _Report) -> None:
    frame_of_reference = str(dataset.get("FrameOfReferenceUID", ""))
    if not frame_of_reference or frame_of_reference != str(known.source.get("FrameOfReferenceUID", "")):
        error("FrameOfReferenceUID", "The frame of reference is not the source's.")


def _check_map(dataset: "Dataset", error: _Report) -> None:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    mapping = (shared.get("RealWorldValueMappingSequence") or [{}])[0]
    if not mapping.get("MeasurementUnitsCodeSequence") or not mapping.get("QuantityDefinitionSequence"):
        error("SharedFunctionalGroupsSequence[1].RealWorldValueMappingSequence", "The map has no quantity or no unit.")
    if not dataset.get("FloatPixelData"):
        error("FloatPixelData", "The map has no values.")
    check_frames(dataset, None, error)


def _check_capture(dataset: "Dataset", error: _Report) -> None:
    for name in ("SourceImageSequence", "BurnedInAnnotation", "ConversionType", "DerivationDescription"):
        if not dataset.get(name):
            error(name, f"{name} is absent.")
    if list(dataset.get("ImageType") or [])[:2] != ["DERIVED", "SECONDARY"]:
        error("ImageType", "The picture does not say that it is derived.")
