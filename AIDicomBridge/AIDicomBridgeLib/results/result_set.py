"""The objects of one result, made, checked and written together: SEG, report, secondary captures, maps."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConflictError, ConformanceError, DiskSpaceError, EncodingError, FolderError
from ..series.source_series import SourceSeries
from ..series.volume import ImageVolume
from .conformance import Finding, check_conformance
from .frame_plan import has_content, split_labels
from .labels import LabelVolume
from .measurement_report import build_measurement_report
from .measurements import SegmentMeasurements
from .parametric_map import build_parametric_map
from .profiles import OUTPUTS, DestinationProfile, find_profile
from .result_series import ResultKind, default_description, fresh_uid, result_series_number
from .secondary_capture import build_secondary_captures, build_summary_capture
from .segment_description import with_tracking_uids
from .segmentation import build_segmentation

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class ResultObject:
    """One DICOM object of a result.

    Attributes
    ----------
    kind
        ``seg``, ``sr``, ``sc`` or ``pm``.
    dataset
        The object, with file meta information.
    path
        Where it was written; None while it was not.
    """

    kind: str
    dataset: "Dataset" = field(repr=False)
    path: Path | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return kind, UIDs and path as plain values for ``--json``."""
        return {
            "kind": self.kind,
            "sop_instance_uid": str(self.dataset.SOPInstanceUID),
            "series_uid": str(self.dataset.SeriesInstanceUID),
            "path": str(self.path) if self.path else None,
        }


def encode_results(
    labels: LabelVolume,
    volume: ImageVolume,
    measurements: Sequence[SegmentMeasurements],
    *,
    profile: DestinationProfile | str | None = None,
    outputs: Sequence[str] | None = None,
    encodings: Sequence[str] | None = None,
    series_description: str | None = None,
) -> list[ResultObject]:
    """Make the objects asked for.

    Parameters
    ----------
    profile
        How the destination wants them, or the name of such a profile; ``AUTO`` counts as BINARY here.
    outputs
        Any of ``seg``, ``sr``, ``sc``, ``pm`` (a map of each segment's probabilities); the profile's where not given. A
        report needs the segmentation that it refers to: ``sr`` makes a SEG too. Labels without a voxel become what the
        profile's rule for empty results says.
    encodings
        One SEG is made for each; report and captures refer to the first. The profile's where not given. A SEG larger
        than the profile allows comes in parts by segments, each with a report of its own.
    series_description
        For the segmentation's series; the others' add what they are. Made from the model's name where not given.

    Raises
    ------
    EncodingError
        An object cannot be made from these labels or headers.
    """
    profile = find_profile(profile)
    outputs = profile.outputs if outputs is None else outputs
    if encodings is None:
        encodings = ("BINARY" if profile.encoding == "AUTO" else profile.encoding,)
    if set(outputs) - set(OUTPUTS) or not outputs:
        raise ValueError(f"outputs must be some of {', '.join(OUTPUTS)}, not {tuple(outputs)!r}")
    labels = with_tracking_uids(labels, fresh_uid)  # once: all objects of one result track the same things
    nothing = not any(has_content(labels, encoding) for encoding in set(encodings))
    if nothing and profile.empty == "refuse":
        raise EncodingError("no segment has a voxel: there is nothing to send", uid=labels.source.series_uid)
    segmentations: list[_Segmentation] = []
    if {"seg", "sr"} & set(outputs) and not (nothing and profile.empty == "report"):
        segmentations = _segmentations(labels, encodings, profile, series_description)
    first = segmentations[0].dataset if segmentations else None
    results = [ResultObject("seg", segmentation.dataset) for segmentation in segmentations]
    if "sr" in outputs or (nothing and profile.empty == "report"):
        reported = [made for made in segmentations if made.nth == 0] or [_Segmentation(0, labels, None)]
        for order, made in enumerate(reported):
            labels_inside = {segment.label for segment in made.labels.segments}
            report = build_measurement_report(
                made.labels,
                [measured for measured in measurements if measured.segment.label in labels_inside],
                segmentation=made.dataset,
                sr_class=profile.report_class,
                series_description=_described(series_description, ResultKind.MEASUREMENT_REPORT),
                series_number=result_series_number(
                    ResultKind.MEASUREMENT_REPORT, labels.source.headers[0], labels.provenance, nth=order
                ),
            )
            results.append(ResultObject("sr", report))
    if "sc" in outputs:
        captures = build_secondary_captures(
            labels,
            volume,
            segmentation=first,
            series_description=_described(series_description, ResultKind.SECONDARY_CAPTURE),
        )
        results += [ResultObject("sc", capture) for capture in captures]
        if profile.summary_page:
            page = build_summary_capture(
                labels,
                volume,
                measurements,
                segmentation=first,
                series_description=_described(series_description, ResultKind.SUMMARY),
            )
            results.append(ResultObject("sc", page))
    if "pm" in outputs:
        results += [ResultObject("pm", made) for made in _probability_maps(labels, series_description)]
    return results


def _probability_maps(labels: LabelVolume, series_description: str | None) -> "list[Dataset]":
    """Return a parametric map for each segment."""
    if labels.probabilities is None:
        raise EncodingError(
            "the labels have no probabilities, which maps are made of",
            uid=labels.source.series_uid,
            advice="Use a model that gives probabilities.",
        )
    kind, made = ResultKind.PARAMETRIC_MAP, []
    for number, (segment, shares) in enumerate(zip(labels.segments, labels.probabilities, strict=True)):
        text = series_description or default_description(kind, labels.provenance)
        dataset = build_parametric_map(
            shares,
            labels.source,
            description=f"{segment.name} probability",
            provenance=labels.provenance,
            series_description=f"{text} {segment.name}",
            series_number=result_series_number(kind, labels.source.headers[0], labels.provenance, nth=number),
        )
        made.append(dataset)
    return made


def _described(text: str | None, kind: ResultKind) -> str | None:
    return f"{text} {kind.value[1]}" if text else None


@dataclass(frozen=True)
class _Segmentation:
    """A segmentation of all labels or, where it would be too large, of some; ``nth`` counts the encodings."""

    nth: int
    labels: LabelVolume
    dataset: Any = field(repr=False)


def _segmentations(
    labels: LabelVolume, encodings: Sequence[str], profile: DestinationProfile, series_description: str | None
) -> list[_Segmentation]:
    """Return a segmentation per encoding, or several parts; number and description tell their series apart.

    Segments that overlap are written as BINARY where a label map is asked for, which cannot hold them.
    """
    kind, header = ResultKind.SEGMENTATION, labels.source.headers[0]
    made: list[_Segmentation] = []
    for nth, wanted in enumerate(encodings):
        encoding = "BINARY" if wanted == "LABELMAP" and labels.further_layers else wanted
        parts = split_labels(labels, encoding, profile.largest_bytes)
        for number, part in enumerate(parts, start=1):
            remarks = [encoding.lower()] * bool(nth or encoding == "FRACTIONAL")
            remarks += [f"part {number} of {len(parts)}"] * (len(parts) > 1)
            description = series_description
            if remarks:
                description = " ".join([series_description or default_description(kind, labels.provenance), *remarks])
            dataset = build_segmentation(
                part,
                encoding=encoding,
                compression=None if encoding == "BINARY" else profile.compression,
                largest_bytes=profile.largest_bytes,
                series_description=description,
                series_number=result_series_number(
                    kind, header, labels.provenance, variant=encodings[0], nth=len(made)
                ),
            )
            made.append(_Segmentation(nth, part, dataset))
    return made


def check_results(
    results: Sequence[ResultObject],
    source: SourceSeries,
    labels: LabelVolume | None = None,
    measurements: Sequence[SegmentMeasurements] = (),
) -> list[Finding]:
    """Return the warnings of the results' own checks.

    Parameters
    ----------
    labels
        With the tracking UIDs of the results: segmentations are then read back and compared with them.
    measurements
        Of the labels: the numbers of reports are then compared with them, else voxel count and volume with the labels.

    Raises
    ------
    ConformanceError
        A check found an error: such a result must not leave the house.
    """
    return [finding for findings in check_each(results, source, labels, measurements) for finding in findings]


def check_each(
    results: Sequence[ResultObject],
    source: SourceSeries,
    labels: LabelVolume | None = None,
    measurements: Sequence[SegmentMeasurements] = (),
) -> list[list[Finding]]:
    """Return the warnings of each result; as :func:`check_results`."""
    related = [result.dataset for result in results if result.kind == "seg"]  # what reports and captures refer to
    each = [
        check_conformance(result.dataset, source, related=related, labels=labels, measurements=measurements)
        for result in results
    ]
    for finding in (finding for findings in each for finding in findings):
        if finding.severity == "error":
            raise ConformanceError(
                f"a result failed its own checks and was not sent: {finding.message}",
                uid=source.series_uid,
                advice="Please report this as a fault of AIDicomBridge.",
            )
    return each


def refuse_taken_folder(folder: Path, source: SourceSeries | None = None) -> None:
    """Refuse a folder that no result can go to: asked before the work, not after it.

    Parameters
    ----------
    source
        What is worked on, once it is known: results are not put among its files.

    Raises
    ------
    ConflictError
        It holds a result already (two results, perhaps of two patients, must not mix) or the source's own files.
    FolderError
        It, or what it would lie in, is a file or cannot be written.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise FolderError(f"{there} is a file, not a folder", advice="Choose another folder for the results.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FolderError(f"the folder {there} cannot be written", advice="Choose another folder for the results.")
    if source is not None and folder.resolve() in {path.resolve().parent for path in source.paths}:
        raise ConflictError(
            f"the folder {folder} holds the images themselves", advice="Choose another folder for the results."
        )
    for kind in OUTPUTS:
        taken = next(iter(sorted(folder.glob(f"{kind}-*.dcm"))), None)
        if taken is not None:
            raise ConflictError(f"the folder {folder} already holds {taken.name}", advice="Choose an empty folder.")


def write_results(results: Sequence[ResultObject], folder: Path) -> list[ResultObject]:
    """Write every result as a file, ``seg-001.dcm``, ``sr-001.dcm``, ``sc-001.dcm`` ...; all of them or none.

    Raises
    ------
    ConflictError, FolderError
        As :func:`refuse_taken_folder`.
    DiskSpaceError
        The folder cannot be written; no file is left.
    """
    refuse_taken_folder(folder)
    counts: dict[str, int] = {}
    placed: list[ResultObject] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written whole in a folder of their own (0700), then moved: a full disk shows before the first move.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as private:
            for result in results:
                counts[result.kind] = counts.get(result.kind, 0) + 1
                path = folder / f"{result.kind}-{counts[result.kind]:03d}.dcm"
                with (Path(private) / path.name).open("wb") as file:
                    result.dataset.save_as(file, enforce_file_format=True)
                    file.flush()
                    os.fsync(file.fileno())
                placed.append(replace(result, path=path))
            for result in placed:
                if result.path is not None:
                    (Path(private) / result.path.name).replace(result.path)
    except OSError as error:
        for result in placed:
            if result.path is not None:
                result.path.unlink(missing_ok=True)
        raise DiskSpaceError(
            f"the results cannot be written to {folder}: {error.strerror}",
            advice="Free some space or choose another folder.",
        ) from error
    return placed
