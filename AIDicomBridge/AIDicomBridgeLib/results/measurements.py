"""Measurements of segments: size, shape, and the image's values inside; :mod:`quantities` declares their codes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EncodingError, PixelError
from ..series.source_series import SourceSeries
from ..series.volume import ImageVolume
from .labels import Code, LabelVolume, Segment
from .quantities import QUANTITIES, SUV_BODY_WEIGHT, voxel_values
from .shape import LabelShape, label_shapes

_CHUNK = 1_000_000  # values in float64 at once


@dataclass(frozen=True)
class Measurement:
    """One number as a report holds it (TID 300): quantity, value, unit, how it was obtained."""

    quantity: Code
    value: float
    unit: Code
    method: Code | None = None
    derivation: Code | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentMeasurements:
    """The measurements of one segment. A segment without voxels has a volume of 0 and no other values.

    Attributes
    ----------
    voxel_count, volume_ml
        Size; the volume is the sum of the voxels' volumes.
    surface_area_mm2, longest_diameter_mm, centroid_lps_mm
        Shape, as :class:`LabelShape` says; None without voxels.
    mean, standard_deviation, minimum, percentile_10, median, percentile_90, maximum
        Voxel values in ``intensity_unit``; None without voxels. The standard deviation is the sample's (divided by
        n - 1), None below two voxels. Percentiles are interpolated linearly.
    intensity, intensity_unit
        What the voxel values are: attenuation in Hounsfield units for CT, signal without unit for MR. None where the
        header does not tell; then mean and the like are None too, since a number without its unit misleads.
    """

    segment: Segment
    voxel_count: int
    volume_ml: float
    surface_area_mm2: float | None = None
    longest_diameter_mm: float | None = None
    centroid_lps_mm: tuple[float, float, float] | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    percentile_10: float | None = None
    median: float | None = None
    percentile_90: float | None = None
    maximum: float | None = None
    intensity: Code | None = None
    intensity_unit: Code | None = None

    def coded(self) -> list[Measurement]:
        """Return what was measured, each with its codes; values that do not exist are absent."""
        numbers = []
        for quantity in QUANTITIES:
            value = getattr(self, quantity.name)
            code, unit = quantity.code or self.intensity, quantity.unit or self.intensity_unit
            if quantity.in_reports and value is not None and code is not None and unit is not None:
                numbers.append(Measurement(code, value, unit, method=quantity.method, derivation=quantity.derivation))
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """Return the segment's name and every value, by the names of :data:`QUANTITIES`, as plain values for JSON."""
        values = {quantity.name: getattr(self, quantity.name) for quantity in QUANTITIES}
        unit = self.intensity_unit.value if self.intensity_unit else None
        return {"segment": self.segment.name, "label": self.segment.label, **values, "intensity_unit": unit}


def measure(labels: LabelVolume, volume: ImageVolume) -> list[SegmentMeasurements]:
    """Return the measurements of every segment, in label order.

    Works slice by slice and segment by segment: beside the volume there are the values of one segment at a time.

    Raises
    ------
    GeometryError
        Labels and volume are not on the same grid.
    EncodingError
        The volume is another series than the labels' source.
    PixelError
        A voxel in a segment is not a finite number.
    """
    labels.refuse_other_grid(volume)
    if labels.source.series_uid != volume.source.series_uid:
        raise EncodingError(
            "the labels were not made from this volume", uid=volume.source.series_uid, advice="Read the labels' source."
        )
    known = SUV_BODY_WEIGHT if volume.suv else voxel_values(volume.modality, volume.source.headers[0])
    intensity, unit = known or (None, None)
    voxels_ml = voxel_volumes_ml(volume.source)
    even = volume.source.is_evenly_spaced
    shapes: dict[int, LabelShape] = {}
    layers: dict[int, np.ndarray] = {}
    for layer in labels.layers:
        found = label_shapes(layer, labels.ijk_to_lps)
        shapes |= found
        layers |= dict.fromkeys(found, layer)
    measured = []
    for segment in labels.segments:
        shape = shapes.get(segment.label)
        if shape is None:
            measured.append(SegmentMeasurements(segment=segment, voxel_count=0, volume_ml=0.0))
            continue
        statistics = _statistics(_values_inside(layers[segment.label], segment.label, shape, volume.voxels))
        if statistics is None:
            raise PixelError("voxels inside a segment are not finite numbers", uid=volume.source.series_uid)
        measured.append(
            SegmentMeasurements(
                segment=segment,
                voxel_count=shape.voxel_count,
                volume_ml=_volume_ml(layers[segment.label], segment.label, shape, voxels_ml),
                surface_area_mm2=shape.surface_area_mm2 if even else None,
                longest_diameter_mm=shape.longest_diameter_mm if even else None,
                centroid_lps_mm=shape.centroid_lps_mm if even else None,
                intensity=intensity,
                intensity_unit=unit,
                **(statistics if unit else {}),
            )
        )
    return measured


def voxel_volumes_ml(source: SourceSeries) -> np.ndarray:
    """Return the volume that a voxel of each slice stands for, (n,): whatever tells a volume sums these.

    Uneven slices stand for different extents, as :attr:`~..series.source_series.SourceSeries.slice_extents_mm` says.
    """
    axes = source.ijk_to_lps[:3, :3]
    if source.is_evenly_spaced:  # also right for sheared and oblique axes
        return np.full(len(source.slices), abs(float(np.linalg.det(axes))) / 1000)
    return source.slice_extents_mm * float(np.linalg.norm(np.cross(axes[:, 0], axes[:, 1]))) / 1000


def _volume_ml(layer: np.ndarray, label: int, shape: LabelShape, voxels_ml: np.ndarray) -> float:
    if (voxels_ml == voxels_ml[0]).all():
        return shape.voxel_count * float(voxels_ml[0])
    return float(np.count_nonzero(layer[shape.box] == label, axis=(1, 2)) @ voxels_ml[shape.box[0]])


def _values_inside(labels: np.ndarray, label: int, shape: LabelShape, voxels: np.ndarray) -> np.ndarray:
    slices, rows, columns = shape.box
    return np.concatenate(
        [voxels[k, rows, columns][labels[k, rows, columns] == label] for k in range(slices.start, slices.stop)]
    )


def _statistics(values: np.ndarray) -> dict[str, float | None] | None:
    """Return the statistics of one or more values; None where a value is not finite.

    The deviations are those from the mean, not a difference of large sums, which loses digits where the values are
    large against their spread (PET in Bq/ml).
    """
    mean = float(values.mean(dtype=np.float64))
    if not np.isfinite(mean):
        return None
    squares = sum(
        float(((values[start : start + _CHUNK].astype(np.float64) - mean) ** 2).sum())
        for start in range(0, values.size, _CHUNK)
    )
    low, median, high = np.percentile(values, (10, 50, 90)).tolist()
    return {
        "mean": mean,
        "standard_deviation": float(np.sqrt(squares / (values.size - 1))) if values.size > 1 else None,
        "minimum": float(values.min()),
        "percentile_10": low,
        "median": median,
        "percentile_90": high,
        "maximum": float(values.max()),
    }
