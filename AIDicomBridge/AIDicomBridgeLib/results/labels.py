"""What a segmentation is before it becomes a DICOM object or a node: :class:`LabelVolume` on the source grid."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.dicom_file import is_uid
from ..series.geometry import spacing_mm
from ..series.source_series import SourceSeries, grid_in_words

if TYPE_CHECKING:
    from ..series.volume import ImageVolume


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not (self.value and self.scheme and self.meaning):
            raise EncodingError(f"a code needs value, scheme and meaning, not {self}")
        for what, text, longest in (("scheme", self.scheme, 16), ("meaning", self.meaning, 64)):
            if len(text) > longest or text != text.strip() or any(ord(c) < 32 or c == "\\" for c in text):
                raise EncodingError(
                    f"the {what} {text[:80]!r} of the code {self.value[:64]} is no text of {longest} characters",
                    advice="Shorten it; DICOM has no room for more.",
                )


@dataclass(frozen=True)
class Provenance:
    """How a result came about; written into every object (Contributing Equipment, algorithm identification).

    Attributes
    ----------
    model, version
        Name and version of the model, as on its card.
    learned
        True for a trained network (CID 7162: Artificial Intelligence), False for rules.
    weights_sha256
        SHA-256 of the weights file; empty for a model without weights.
    card_sha256
        SHA-256 of the card file, or of what makes the folder's model: how the weights were run, and what they mean.
    device, precision
        Where and how it ran: ``"cpu"``, ``"bfloat16"``.
    not_for_diagnostic_use
        True where the card says so.
    memory_plan
        How it was fitted into the memory, as :meth:`..inference.memory_plan.MemoryPlan.describe` says it.
    manufacturer
        Who made the algorithm; empty where it is not known.
    further_series
        Series Instance UIDs of what a model of several input channels saw beside the source.
    suv
        How PET values became SUV, as :meth:`..series.suv.SuvFactors.describe` says it; empty where they did not.
    """

    model: str
    version: str
    learned: bool = True
    weights_sha256: str = ""
    card_sha256: str = ""
    device: str = "cpu"
    precision: str = "float32"
    not_for_diagnostic_use: bool = True
    memory_plan: str = ""
    manufacturer: str = ""
    further_series: tuple[str, ...] = ()
    suv: str = ""


@dataclass(frozen=True)
class Segment:
    """What one label value stands for (PS3.3 C.8.20.4).

    Attributes
    ----------
    label
        Value in the label array, 1 or more; it becomes the Segment Number.
    name
        Segment Label, shown to people.
    category, type, type_modifier, region, region_modifier
        Segmented Property Category and Type with the type's modifier (laterality), Anatomic Region with its modifier.
    color_rgb
        Recommended display colour, 0-255 each.
    tracking_uid
        Tracking Unique Identifier, shared by SEG and SR; one is made on encoding where it is None.
    tracking_id
        Tracking Identifier; made of name and label where it is None.
    algorithm_type
        ``AUTOMATIC``, ``SEMIAUTOMATIC`` or ``MANUAL``.
    algorithm_name
        Name of the algorithm; needed unless MANUAL.
    provenance
        How this segment came about, where that is another way than the labels'.
    fingerprint
        Of the voxels as the algorithm left them, see :func:`.edited_segments.mark_edited`; None where it was not taken.
    """

    label: int
    name: str
    category: Code
    type: Code
    _: KW_ONLY
    type_modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None
    color_rgb: tuple[int, int, int] | None = None
    tracking_uid: str | None = None
    tracking_id: str | None = None
    algorithm_type: str = "AUTOMATIC"
    algorithm_name: str | None = None
    provenance: Provenance | None = None
    fingerprint: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not "".join(filter(str.isprintable, self.name or "")).strip():
            raise EncodingError(f"the segment with the label {self.label} has no name", advice="Give it one.")
        if not isinstance(self.category, Code) or not isinstance(self.type, Code):
            raise EncodingError(
                f"the segment {self.name!r} has no code that says what it is",
                advice="Give it a category and a type: from SNOMED CT, or a private one with a scheme such as 99LOCAL.",
            )
        if self.region_modifier is not None and self.region is None:
            raise EncodingError(
                f"the segment {self.name!r} has a region_modifier without a region",
                advice="Name the region, or give the side of the type itself as its type_modifier.",
            )
        if self.tracking_uid is not None and not is_uid(self.tracking_uid):
            raise EncodingError(f"the tracking_uid {self.tracking_uid[:80]!r} of the segment {self.name!r} is no UID")
        if self.color_rgb is not None and not (
            len(self.color_rgb) == 3 and all(0 <= value <= 255 for value in self.color_rgb)
        ):
            raise EncodingError(f"the colour {self.color_rgb} of the segment {self.name!r} is not three of 0 to 255")


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """Segments as label arrays on the grid of their source: one array, or several where segments overlap.

    Attributes
    ----------
    labels
        (k, j, i), uint8 or uint16; 0 is background, every other value has a segment. Held, not copied.
    segments
        One per label value, in label order; a segment without voxels is allowed.
    source
        The series that it was computed from; its slices are the label array's slices.
    ijk_to_lps
        4x4 affine; the source's where not given.
    probabilities
        (segment, k, j, i) in 0..1, in the order of ``segments``, where the model gives them. Held, not copied.
    provenance
        How the labels came about; None for hand-made ones.
    fractional_type
        What the probabilities are: ``PROBABILITY``, or ``OCCUPANCY`` (the part of the voxel that is filled).
    further_layers
        More arrays like ``labels``, for segments that share voxels with those of ``labels``. A label value belongs to
        one array only: what is made of the labels refuses others; to look takes 0.1 s an array for 512x512x300.
    """

    labels: np.ndarray
    segments: tuple[Segment, ...]
    source: SourceSeries = field(kw_only=True)
    ijk_to_lps: np.ndarray = field(kw_only=True, default=None)  # type: ignore[arg-type]
    probabilities: np.ndarray | None = field(kw_only=True, default=None)
    provenance: Provenance | None = field(kw_only=True, default=None)
    fractional_type: str = field(kw_only=True, default="PROBABILITY")
    further_layers: tuple[np.ndarray, ...] = field(kw_only=True, default=())

    def __post_init__(self) -> None:
        segments = tuple(sorted(self.segments, key=lambda segment: segment.label))
        object.__setattr__(self, "segments", segments)
        if self.ijk_to_lps is None:
            object.__setattr__(self, "ijk_to_lps", self.source.ijk_to_lps)
        for layer in self.layers:
            if layer.dtype not in (np.uint8, np.uint16):
                raise EncodingError(f"labels must be uint8 or uint16, not {layer.dtype}")
        shapes = {layer.shape for layer in self.layers}
        if shapes != {self.source.shape} or not _same_grid(self.ijk_to_lps, self.source.ijk_to_lps, self.source.shape):
            raise EncodingError(
                f"the labels {self.labels.shape} are not on the grid of their source {self.source.shape}",
                uid=self.source.series_uid,
            )
        if self.probabilities is not None and self.probabilities.shape != (len(segments), *self.source.shape):
            raise EncodingError(
                f"the probabilities {self.probabilities.shape} are not one volume for each of {len(segments)} segments",
                uid=self.source.series_uid,
            )
        values = [segment.label for segment in segments]
        if not values or len(set(values)) < len(values) or min(values) < 1:
            raise EncodingError("segments need distinct label values from 1 on")
        for layer in self.layers:
            if not _holds_only(layer, values):
                unknown = set(label_values(layer)) - set(values) - {0}
                raise EncodingError(f"the label values {sorted(unknown)} have no segment")

    def __repr__(self) -> str:
        """Return model, grid and number of segments: one line that names no patient."""
        model = f"{self.provenance.model} {self.provenance.version}, " if self.provenance else ""
        count = f"{len(self.segments)} segment{'s' * (len(self.segments) != 1)}"
        return f"<LabelVolume {model}{grid_in_words(self.labels.shape, spacing_mm(self.ijk_to_lps))}, {count}>"

    @property
    def layers(self) -> tuple[np.ndarray, ...]:
        """All label arrays: ``labels``, then the further ones. Most results have one."""
        return (self.labels, *self.further_layers)

    @property
    def is_empty(self) -> bool:
        """True if no segment has a voxel."""
        return not any(layer.any() for layer in self.layers)

    def refuse_other_grid(self, volume: "ImageVolume") -> None:
        """Raise :class:`GeometryError` if a volume's planes are not the slices of the labels."""
        on_grid = self.labels.shape == volume.voxels.shape and _same_grid(
            self.ijk_to_lps, volume.ijk_to_lps, volume.voxels.shape
        )
        if volume.resampled or not on_grid:
            raise GeometryError(
                "labels and volume are not on the same grid",
                uid=volume.source.series_uid,
                advice="Take the volume as it is read, on the slices as they are.",
            )

    def plane(self, k: int) -> np.ndarray:
        """Return the labels (j, i) to show of slice k: where segments overlap, those of the last array.

        A view where there is one array, else a copy.
        """
        shown: np.ndarray = self.labels[k]
        for layer in self.further_layers:
            shown = np.where(layer[k], layer[k], shown)
        return shown

    def mask(self, segment: Segment) -> np.ndarray:
        """Return where a segment is, (k, j, i) bool; a copy."""
        found: np.ndarray = self.labels == segment.label
        for layer in self.further_layers:
            found |= layer == segment.label
        return found

    def segment(self, name: str) -> Segment:
        """Return the segment with that name; KeyError if there is none."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)


def _same_grid(ijk_to_lps: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Return True if no corner of a (k, j, i) array lies more than a tenth of a voxel elsewhere by one affine."""
    corners = np.array([(*corner, 1) for corner in product(*((-0.5, length - 0.5) for length in reversed(shape)))]).T
    moved = np.linalg.solve(other, ijk_to_lps) @ corners - corners
    return bool((np.abs(moved[:3]) <= 0.1).all())


def _holds_only(labels: np.ndarray, values: Sequence[int]) -> bool:
    """Return True if a label array (uint8 or uint16) holds no other values than these and 0.

    Of the usual labels 1 to n only the largest is looked for: 512x512x300 takes 10 ms, other ones 100 ms.
    """
    largest = int(labels.max(initial=0))
    if largest <= len(set(values)) and set(values) >= set(range(1, largest + 1)):
        return True
    known = np.zeros(int(np.iinfo(labels.dtype).max) + 1, bool)
    known[[0, *(value for value in values if value < len(known))]] = True
    return all(bool(known.take(plane).all()) for plane in labels)


def count_voxels(labels: np.ndarray) -> np.ndarray:
    """Return the number of voxels of every label value, indexed by value.

    Slice by slice: ``np.bincount`` works on int64, which would be eight copies of a uint8 volume at once.
    """
    counts = np.zeros(int(np.iinfo(labels.dtype).max) + 1, dtype=np.int64)
    for plane in labels:
        found = np.bincount(plane.ravel())
        counts[: len(found)] += found
    return counts


def label_values(labels: np.ndarray) -> list[int]:
    """Return the label values that occur, sorted, background included."""
    return [int(value) for value in np.flatnonzero(count_voxels(labels))]
