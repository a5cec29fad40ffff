"""Measurements of segments. Each is declared with its DICOM codes where it is computed."""

from dataclasses import dataclass

import numpy as np

from ..errors import EncodingError, GeometryError, PixelError
from ..series.volume import ImageVolume
from .labels import Code, LabelVolume, Segment

MILLILITER = Code("ml", "UCUM", "milliliter")
NO_UNITS = Code("1", "UCUM", "no units")
VOLUME = Code("118565006", "SCT", "Volume")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474
# CID 7464
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")

# What a voxel value is and its unit, by Modality (CID 7469, CID 7181); for PET by Units (0054,1001).
_ATTENUATION = (Code("112031", "DCM", "Attenuation Coefficient"), Code("[hnsf'U]", "UCUM", "Hounsfield unit"))
_MR_SIGNAL = (Code("110852", "DCM", "MR signal intensity"), NO_UNITS)
_ACTIVITY = Code("110821", "DCM", "Nuclear Medicine Tomographic Activity")
_PET_UNITS = {
    "BQML": Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    "CNTS": Code("{counts}", "UCUM", "Counts"),
    "CPS": Code("{counts}/s", "UCUM", "Counts per second"),
    "PROPCNTS": Code("{propcounts}", "UCUM", "Proportional to counts"),
    "PROPCPS": Code("{propcounts}/s", "UCUM", "Proportional to counts per second"),
}


@dataclass(frozen=True)
class Measurement:
    """One number as a report holds it (TID 300): quantity, value, unit, how it was obtained."""

    quantity: Code
    value: float
    unit: Code
    method: Code | None = None
    derivation: Code | None = None


@dataclass(frozen=True)
class SegmentMeasurements:
    """The measurements of one segment.

    Attributes
    ----------
    voxel_count, volume_ml
        Size; the volume is the sum of the voxels' volumes.
    mean, standard_deviation, minimum, maximum
        Voxel values in ``intensity_unit``; None for a segment without voxels. The standard deviation is the sample's
        (divided by n - 1), None below two voxels.
    intensity, intensity_unit
        What the voxel values are: attenuation in Hounsfield units for CT, signal without unit for MR. None where the
        header does not tell; then mean and the like are None too, since a number without its unit misleads.
    """

    segment: Segment
    voxel_count: int
    volume_ml: float
    mean: float | None
    standard_deviation: float | None
    minimum: float | None
    maximum: float | None
    intensity: Code | None
    intensity_unit: Code | None

    def coded(self) -> list[Measurement]:
        """Return what was measured, each with its codes; values that do not exist are absent."""
        derived = (
            (MEAN, self.mean),
            (STANDARD_DEVIATION, self.standard_deviation),
            (MINIMUM, self.minimum),
            (MAXIMUM, self.maximum),
        )
        return [
            Measurement(VOLUME, self.volume_ml, MILLILITER, method=SUM_OF_VOXELS),
            *(
                Measurement(self.intensity, value, self.intensity_unit, derivation=derivation)
                for derivation, value in derived
                if value is not None and self.intensity is not None and self.intensity_unit is not None
            ),
        ]


def measure(labels: LabelVolume, volume: ImageVolume) -> list[SegmentMeasurements]:
    """Return the measurements of every segment, in label order.

    Works slice by slice: no second copy of the volume is made.

    Raises
    ------
    GeometryError
        Labels and volume are not on the same grid.
    EncodingError
        The volume is another series than the labels' source.
    PixelError
        A voxel in a segment is not a finite number.
    """
    if labels.labels.shape != volume.voxels.shape or not np.allclose(labels.ijk_to_lps, volume.ijk_to_lps, atol=1e-3):
        raise GeometryError("labels and volume are not on the same grid", uid=volume.source.series_uid)
    if labels.source.series_uid != volume.source.series_uid:
        raise EncodingError(
            "the labels were not made from this volume", uid=volume.source.series_uid, advice="Read the labels' source."
        )
    intensity, unit = _intensity(volume) or (None, None)
    voxel_ml = abs(float(np.linalg.det(labels.ijk_to_lps[:3, :3]))) / 1000  # also right for sheared and oblique axes
    sums = _LabelSums(max(segment.label for segment in labels.segments))
    for label_plane, voxel_plane in zip(labels.labels, volume.voxels, strict=True):
        sums.add(label_plane.ravel(), voxel_plane.ravel())
    if not np.isfinite(sums.mean).all():
        raise PixelError("voxels inside a segment are not finite numbers", uid=volume.source.series_uid)
    found = []
    for segment in labels.segments:
        label = segment.label
        count = int(sums.count[label])
        found.append(
            SegmentMeasurements(
                segment=segment,
                voxel_count=count,
                volume_ml=count * voxel_ml,
                mean=float(sums.mean[label]) if count and unit else None,
                standard_deviation=float(np.sqrt(sums.squares[label] / (count - 1))) if count > 1 and unit else None,
                minimum=float(sums.minimum[label]) if count and unit else None,
                maximum=float(sums.maximum[label]) if count and unit else None,
                intensity=intensity,
                intensity_unit=unit,
            )
        )
    return found


def _intensity(volume: ImageVolume) -> tuple[Code, Code] | None:
    """Return what the voxel values are and their unit; None where the header does not tell."""
    header = volume.source.headers[0]
    if volume.modality == "CT" and header.get("RescaleType", "HU") in ("HU", "", None):
        return _ATTENUATION
    if volume.modality == "MR":
        return _MR_SIGNAL
    if volume.modality == "PT" and header.get("Units") in _PET_UNITS:
        return _ACTIVITY, _PET_UNITS[header.Units]
    return None


class _LabelSums:
    """Count, mean, sum of squared deviations, minimum and maximum by label, merged from slice to slice.

    Means and deviations are merged (Chan, Golub, LeVeque 1979) rather than sums of squares, which lose digits when
    the values are large against their spread (PET in Bq/ml).
    """

    def __init__(self, largest_label: int) -> None:
        self.count = np.zeros(largest_label + 1, np.int64)
        self.mean = np.zeros(largest_label + 1)
        self.squares = np.zeros(largest_label + 1)
        self.minimum = np.full(largest_label + 1, np.inf)
        self.maximum = np.full(largest_label + 1, -np.inf)

    def add(self, labels: np.ndarray, voxels: np.ndarray) -> None:
        """Add one slice: 1-D labels and voxels."""
        inside = np.flatnonzero(labels)
        if not inside.size:
            return
        found = labels[inside]
        order = np.argsort(found, kind="stable")  # a radix sort for 8 and 16 bits
        values = voxels[inside[order]].astype(np.float64)
        present, starts, counts = np.unique(found[order], return_index=True, return_counts=True)
        mean = np.add.reduceat(values, starts) / counts
        squares = np.add.reduceat((values - np.repeat(mean, counts)) ** 2, starts)
        before = self.count[present]
        together, apart = before + counts, mean - self.mean[present]
        self.squares[present] += squares + apart**2 * before * counts / together
        self.mean[present] += apart * counts / together
        self.count[present] = together
        self.minimum[present] = np.minimum(self.minimum[present], np.minimum.reduceat(values, starts))
        self.maximum[present] = np.maximum(self.maximum[present], np.maximum.reduceat(values, starts))
