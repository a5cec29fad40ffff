"""Results of any program, in files, as DICOM objects: :func:`encode_files`, one call for every kind of result."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EncodingError
from ..series.source_series import SourceSeries
from ..series.volume import read_volume
from .classification_report import build_classification_report
from .detection_report import build_detection_report
from .frame_plan import LEAST_FRACTION
from .grid_file import read_grid, read_labels, read_pictures
from .labels import LabelVolume
from .measurements import measure
from .parametric_map import build_parametric_map
from .profiles import DestinationProfile, find_profile
from .quantities import NO_UNITS, PROBABILITY
from .result_description import SUFFIXES, ResultDescription, read_description
from .result_series import fresh_uid
from .result_set import ResultObject, encode_results
from .secondary_capture import build_picture_captures, build_summary_capture
from .segment_description import with_tracking_uids

if TYPE_CHECKING:
    from pydicom import Dataset

KINDS = ("seg", "sr", "fractional", "classification", "detection", "sc", "summary", "pm")


def encode_files(
    source: SourceSeries,
    kind: str,
    files: Sequence[Path],
    *,
    profile: DestinationProfile | str | None = None,
    suv: bool = False,
) -> tuple[list[ResultObject], LabelVolume | None]:
    """Return the objects that the files describe, and the labels that they were made from, where there are any.

    Pass both to :func:`check_results`: segmentations are then read back and compared with the labels.

    Parameters
    ----------
    kind
        ``seg`` (labels), ``sr`` (their measurements, with the segmentation), ``fractional`` (probabilities),
        ``classification``, ``detection``, ``sc`` (outlines of labels, or any pictures),
        ``summary`` (a page with the measurements of labels), ``pm`` (a float volume).
    files
        One description (``.toml`` or ``.json``; a map does without) and, but for classification and detection, the
        data: ``.npy``, or an image on the grid of the source. Labels are one volume of label values, or one mask per
        segment (masks may overlap). Pictures may be several files.
    profile
        How the destination wants them.
    suv
        Measure a PET series as SUV by body weight; an algorithm's provenance then keeps the factors.

    Raises
    ------
    PixelError
        SUV cannot be computed from the header.
    EncodingError
        A file cannot be read or does not fit the kind of result; the text names file, table and key.
    GeometryError
        Data is on another grid than the source.
    """
    if kind not in KINDS:
        raise EncodingError(f"{kind!r} is no kind of result", advice=f"Choose from {', '.join(KINDS)}.")
    profile = find_profile(profile)
    described = [path for path in files if path.suffix.lower() in SUFFIXES]
    data = [path for path in files if path not in described]
    if len(described) > 1 or (not described and kind != "pm"):
        raise EncodingError(f"{kind} needs one description, a .toml or .json file, not {len(described)}")
    description = read_description(described[0], kind, source) if described else ResultDescription()
    if kind in ("classification", "detection"):
        _expect(data, 0, kind)
        return [ResultObject("sr", _report(source, kind, description, profile))], None
    if kind == "pm":
        _expect(data, 1, kind)
        return [ResultObject("pm", _map(source, data[0], description))], None
    if kind == "sc" and not description.segments:
        return _pictures(source, data, description), None
    _expect(data, 1, kind)
    labels = (_fractions if kind == "fractional" else _labels)(source, data[0], description)
    labels = with_tracking_uids(labels, fresh_uid)
    volume = read_volume(source, suv=suv)
    if volume.suv is not None and labels.provenance is not None:
        labels = replace(labels, provenance=replace(labels.provenance, suv=volume.suv.describe()))
    measured = [] if kind == "fractional" else measure(labels, volume)
    if kind == "summary":
        page = build_summary_capture(labels, volume, measured, series_description=description.series_description)
        return [ResultObject("sc", page)], labels
    results = encode_results(
        labels,
        volume,
        measured,
        profile=profile,
        outputs=("seg",) if kind == "fractional" else (kind,),
        encodings=("FRACTIONAL",) if kind == "fractional" else None,
        series_description=description.series_description,
    )
    return results, labels


def _expect(data: Sequence[Path], count: int, kind: str) -> None:
    if len(data) != count:
        names = f": {', '.join(path.name for path in data)}" if data else ""
        raise EncodingError(f"{kind} needs {count} data file{'s' * (count != 1)}, not {len(data)}{names}")


def _report(source: SourceSeries, kind: str, said: ResultDescription, profile: DestinationProfile) -> "Dataset":
    options: dict[str, Any] = {
        "provenance": said.provenance,
        "sr_class": profile.report_class,
        "observer_name": said.observer_name,
        "series_description": said.series_description,
    }
    if kind == "classification":
        return build_classification_report(said.classifications, source, **options)
    return build_detection_report(said.detections, source, looked_for=said.looked_for, **options)


def _map(source: SourceSeries, path: Path, said: ResultDescription) -> "Dataset":
    values = read_grid(path, source)
    if values.ndim != 3:
        raise EncodingError(f"the file {path.name} holds {values.shape[0]} channels; a map is one volume")
    return build_parametric_map(
        values,
        source,
        quantity=said.quantity or PROBABILITY,
        unit=said.unit or NO_UNITS,
        description=said.description,
        window=said.window,
        provenance=said.provenance,
        series_description=said.series_description,
    )


def _pictures(source: SourceSeries, data: Sequence[Path], said: ResultDescription) -> list[ResultObject]:
    if not data:
        raise EncodingError("sc needs a picture, or labels with a description of their segments")
    pictures = [read_pictures(path) for path in data]
    if len({picture.shape[1:] for picture in pictures}) > 1:
        raise EncodingError("pictures of one series must have one size")
    captures = build_picture_captures(
        np.concatenate(pictures),
        source,
        description=said.description,
        slices=said.slices,
        burned_in_annotation=said.burned_in_annotation,
        provenance=said.provenance,
        series_description=said.series_description,
    )
    return [ResultObject("sc", capture) for capture in captures]


def _labels(source: SourceSeries, path: Path, said: ResultDescription) -> LabelVolume:
    """Return the labels of one volume, or of one mask per segment; where masks overlap, in several arrays."""
    values = read_labels(path, source)
    if values.ndim == 3:
        return LabelVolume(values, said.segments, source=source, provenance=said.provenance)
    if len(values) != len(said.segments):
        raise EncodingError(f"the file {path.name} holds {len(values)} masks for {len(said.segments)} [[segments]]")
    layers = [np.zeros(source.shape, np.uint16)]
    for segment, mask in zip(said.segments, values, strict=True):
        inside = mask != 0
        if all(layer[inside].any() for layer in layers):
            layers.append(np.zeros(source.shape, np.uint16))
        next(layer for layer in layers if not layer[inside].any())[inside] = segment.label
    first, *others = layers
    return LabelVolume(first, said.segments, source=source, further_layers=tuple(others), provenance=said.provenance)


def _fractions(source: SourceSeries, path: Path, said: ResultDescription) -> LabelVolume:
    values = read_grid(path, source)
    probabilities = values[None] if values.ndim == 3 else values
    segments = tuple(sorted(said.segments, key=lambda segment: segment.label))
    if len(probabilities) != len(segments):
        raise EncodingError(f"the file {path.name} holds {len(probabilities)} volumes for {len(segments)} [[segments]]")
    # Where no segment is likely enough, there is background.
    numbers = np.array([0, *(segment.label for segment in segments)], np.uint16)
    best = np.where(probabilities.max(axis=0) >= LEAST_FRACTION, probabilities.argmax(axis=0) + 1, 0)
    return LabelVolume(
        numbers[best],
        segments,
        source=source,
        probabilities=probabilities,
        fractional_type=said.fractional_type,
        provenance=said.provenance,
    )
