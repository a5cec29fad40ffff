"""Results as pictures, for viewers that cannot show a segmentation or report: outlines, a summary page, any picture."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.source_series import SourceSeries
from ..series.volume import ImageVolume
from ..series.window import window_of
from .capture import CaptureSeries, build_capture
from .equipment import NOT_FOR_DIAGNOSTIC_USE
from .labels import LabelVolume, Provenance
from .measurements import SegmentMeasurements
from .overlay import PictureSize, draw_overlay, patient_orientation
from .result_series import ResultKind, encoding_errors, fresh_uid, result_series_number
from .source_headers import normalised_headers
from .summary_page import draw_summary

if TYPE_CHECKING:
    from pydicom import Dataset

_KEY_SLICES = 3


def build_secondary_captures(
    labels: LabelVolume,
    volume: ImageVolume,
    *,
    segmentation: "Dataset | None" = None,
    slices: Iterable[int] | None = None,
    window: tuple[float, float] | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "list[Dataset]":
    """Return one RGB image per slice, all in one new series, in slice order.

    Parameters
    ----------
    volume
        The voxels of the labels' source.
    segmentation
        The DICOM Segmentation of the labels, to be referred to.
    slices
        Slice indices k; those with labels where not given. Labels without content then give an empty list.
    window
        Center and width in the unit of the voxels; the source's own where not given, else from the 1st to the 99th
        percentile.
    series_description, series_number, new_uid, now
        As for :func:`build_segmentation`.

    Raises
    ------
    GeometryError
        Labels and volume are not on the same grid, or a slice is outside it.
    EncodingError
        The window has no width, or the source's identity cannot be carried.
    """
    labels.refuse_other_grid(volume)
    chosen = _chosen_slices(labels, slices)
    if not chosen:
        return []
    window = _window(volume, chosen, window)
    source, headers = labels.source, normalised_headers(labels.source)
    size = PictureSize.for_slice(*source.shape[1:], source.spacing_mm[1:])
    names = ", ".join(segment.name for segment in labels.segments)
    kind = ResultKind.SECONDARY_CAPTURE
    series = CaptureSeries(
        kind,
        new_uid(),
        series_number or result_series_number(kind, headers[0], labels.provenance),
        series_description,
        f"Outlines of segments burnt in: {names}",
        labels.provenance,
        now or datetime.now(),
    )
    captures = []
    for order, k in enumerate(chosen, start=1):
        picture = _overlay(labels, volume, k, size, window, _remarks(labels.provenance))
        with encoding_errors("the secondary capture", source.series_uid):
            captures.append(
                build_capture(
                    picture,
                    headers[k],
                    series,
                    sop_instance_uid=new_uid(),
                    instance_number=order,
                    sources=[source.slices[k]],
                    segmentation=segmentation,
                    orientation=patient_orientation(source.ijk_to_lps),
                    pixel_mm=size.pixel_mm,
                )
            )
    return captures


def build_summary_capture(
    labels: LabelVolume,
    volume: ImageVolume,
    measurements: Sequence[SegmentMeasurements],
    *,
    segmentation: "Dataset | None" = None,
    window: tuple[float, float] | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "Dataset":
    """Return one page in a series of its own: what was segmented, the measurements as a table, and key slices.

    Parameters
    ----------
    measurements
        What :func:`measure` gave for ``labels``.
    volume, segmentation, window, series_description, series_number, new_uid, now
        As for :func:`build_secondary_captures`.

    Raises
    ------
    GeometryError
        Labels and volume are not on the same grid.
    EncodingError
        The measurements belong to other labels, the window has no width, or the source's identity cannot be carried.
    """
    labels.refuse_other_grid(volume)
    source, headers = labels.source, normalised_headers(labels.source)
    if [item.segment.label for item in measurements] != [segment.label for segment in labels.segments]:
        raise EncodingError("the measurements are not those of the labels' segments", uid=source.series_uid)
    chosen = _key_slices(labels)
    window = _window(volume, chosen, window)
    size = PictureSize.for_slice(*source.shape[1:], source.spacing_mm[1:])
    pictures = [_overlay(labels, volume, k, size, window, [f"Slice {k + 1} of {source.shape[0]}"]) for k in chosen]
    remarks = _remarks(labels.provenance)
    page = draw_summary(remarks[0] if remarks else "Manual segmentation", remarks[1:], measurements, pictures)
    kind = ResultKind.SUMMARY
    series = CaptureSeries(
        kind,
        new_uid(),
        series_number or result_series_number(kind, headers[0], labels.provenance),
        series_description,
        "Table of measurements, and slices with outlines of segments burnt in",
        labels.provenance,
        now or datetime.now(),
    )
    with encoding_errors("the summary page", source.series_uid):
        return build_capture(
            page,
            headers[0],
            series,
            sop_instance_uid=new_uid(),
            instance_number=1,
            sources=[source.slices[k] for k in chosen],
            segmentation=segmentation,
        )


def build_picture_captures(
    pictures: np.ndarray,
    source: SourceSeries,
    *,
    description: str,
    slices: Sequence[int] | None = None,
    burned_in_annotation: bool = True,
    provenance: Provenance | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
) -> "list[Dataset]":
    """Return any pictures as images of one new series in the study of their source.

    Parameters
    ----------
    pictures
        (row, column, RGB) for one, or (picture, row, column, RGB); uint8.
    description
        What they show and how they were made; becomes Derivation Description.
    slices
        The slice k that each picture shows: it then refers to that slice and has its orientation. Without, each refers
        to all images of the source.
    burned_in_annotation
        False says that no text in them identifies the patient: only who made them knows.
    provenance
        The model that drew them.
    series_description, series_number, new_uid, now
        As for :func:`build_segmentation`.

    Raises
    ------
    EncodingError
        The pictures have another shape or type, their number is not that of the slices, or the source's identity
        cannot be carried.
    GeometryError
        A slice is outside the source.
    """
    pictures = pictures[None] if pictures.ndim == 3 else pictures
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or 0 in pictures.shape:
        raise EncodingError(
            f"pictures must be uint8 of the shape (picture, row, column, 3), not {pictures.dtype} {pictures.shape}"
        )
    if slices is not None and len(slices) != len(pictures):
        raise EncodingError(f"{len(pictures)} pictures cannot show {len(slices)} slices")
    if slices is not None and not all(0 <= k < source.shape[0] for k in slices):
        raise GeometryError(f"the slices {list(slices)} are not all within 0 to {source.shape[0] - 1}")
    headers = normalised_headers(source)
    kind = ResultKind.PICTURE
    series = CaptureSeries(
        kind,
        new_uid(),
        series_number or result_series_number(kind, headers[0], provenance, variant=description),
        series_description,
        description,
        provenance,
        now or datetime.now(),
    )
    captures = []
    for order, picture in enumerate(pictures):
        k = slices[order] if slices is not None else None
        with encoding_errors("the secondary capture", source.series_uid):
            captures.append(
                build_capture(
                    picture,
                    headers[k or 0],
                    series,
                    sop_instance_uid=new_uid(),
                    instance_number=order + 1,
                    sources=source.slices if k is None else [source.slices[k]],
                    orientation=None if k is None else patient_orientation(source.ijk_to_lps),
                    burned_in_annotation=burned_in_annotation,
                )
            )
    return captures


def _chosen_slices(labels: LabelVolume, slices: Iterable[int] | None) -> list[int]:
    if slices is None:
        return [k for k in range(len(labels.labels)) if labels.plane(k).any()]
    chosen = sorted(set(slices))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < len(labels.labels):
        raise GeometryError(f"the slices {chosen} are not all within 0 to {len(labels.labels) - 1}")
    return chosen


def _key_slices(labels: LabelVolume) -> list[int]:
    """Return slices spread over the labelled part, by its voxels: a quarter, half and three quarters lie below."""
    counts = np.array([np.count_nonzero(labels.plane(k)) for k in range(len(labels.labels))])
    if not counts.any():
        return [len(counts) // 2]
    shares = (np.arange(_KEY_SLICES) + 1) / (_KEY_SLICES + 1) * counts.sum()
    return sorted({int(k) for k in np.searchsorted(counts.cumsum(), shares)})


def _window(volume: ImageVolume, chosen: list[int], window: tuple[float, float] | None) -> tuple[float, float]:
    """Return center and width: as asked, else the source's first, else the 1st to 99th percentile of the middle."""
    if window is not None:
        if not (np.isfinite(window).all() and window[1] > 0):
            raise EncodingError(f"the window {window} has no width")
        return window
    middle = chosen[len(chosen) // 2]
    stored = window_of(volume, middle)
    if stored is not None:
        return stored[1], stored[0]
    low, high = np.percentile(volume.voxels[middle], (1, 99))
    return float(low + high) / 2, max(float(high - low), 1.0)


def _overlay(
    labels: LabelVolume,
    volume: ImageVolume,
    k: int,
    size: PictureSize,
    window: tuple[float, float],
    remarks: Sequence[str],
) -> np.ndarray:
    return draw_overlay(
        volume.voxels[k],
        labels.plane(k),
        labels.segments,
        size=size,
        window=window,
        remarks=remarks,
        orientation=patient_orientation(labels.source.ijk_to_lps),
        low_is_white=volume.source.headers[k].get("PhotometricInterpretation") == "MONOCHROME1",
    )


def _remarks(provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return []
    lines = [f"{provenance.model} {provenance.version}"]
    return [*lines, NOT_FOR_DIAGNOSTIC_USE.capitalize()] if provenance.not_for_diagnostic_use else lines
