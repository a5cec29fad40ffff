"""A series as the later steps may rely on it: one patient, one study, one grid, slices in order."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..errors import BadDicomError, ConflictError, GeometryError, NotFoundError
from .dicom_file import META_BYTES, element_as_read, file_state, raw_text, whole_number
from .frame_ranges import frame_ranges, slices_within
from .geometry import position_tolerance_mm, spacing_mm
from .part10 import parse_part10_header
from .patient_identity import folded_name, told_sex
from .pixels import read_voxels
from .slice_geometry import slice_position
from .source_slice import VOLUME_SOP_CLASS_NAMES, VOLUME_SOP_CLASSES, SourceSlice, read_image_header, slices_of
from .stack_attributes import StackAttributes
from .stacks import choose_stack, find_stacks

if TYPE_CHECKING:
    from pydicom import Dataset

_SAME_IN_A_SERIES = (
    *("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Modality", "SOPClassUID"),
)
_NOT_CONTRADICTED = ("IssuerOfPatientID", "PatientSex", "AccessionNumber")  # where two of the files have one
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_CHUNK_BYTES = 1 << 20
_Found = tuple[Path, "Dataset", int]  # a file, its header, and where its pixel data begin


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The slices of one series in order, with their checked grid.

    Attributes
    ----------
    slices
        Where each slice is stored, in slice order (k): instances of their own, or frames of Enhanced instances.
    ijk_to_lps
        4x4 affine of the grid, (i, j, k, 1) to LPS millimetres; of an irregular stack see
        :class:`~.geometry.SliceStack`.
    ignored_paths
        Files of the same series that hold no slice of the volume (other stacks, presentation states, ...).
    irregularity
        What keeps the slices from being a regular grid; empty unless they were accepted so with ``resample``.
    """

    slices: tuple[SourceSlice, ...]
    ijk_to_lps: np.ndarray
    ignored_paths: tuple[Path, ...] = ()
    irregularity: str = ""

    def __repr__(self) -> str:
        """Return modality and grid: one line that names no patient, in notebooks and tracebacks too."""
        return f"<SourceSeries {self.modality} {grid_in_words(self.shape, self.spacing_mm)}>"

    @classmethod
    def from_files(
        cls, paths: Iterable[Path | str], *, stack: int | None = None, resample: bool = False, frames: str = ""
    ) -> "SourceSeries":
        """Read, filter, sort and check the files of one series.

        Parameters
        ----------
        paths
            The files; a second, equal copy of an instance is passed over.
        stack
            Which stack to take of a series that holds several (orientations, acquisitions, phases), from 1 on.
        resample
            Accept a stack with missing slices, uneven spacing or gantry tilt. Networks then see it resampled to a
            regular grid; voxels, labels and results stay on the slices as they are.
        frames
            Take only these frames of multi-frame instances, as :attr:`frames` names them: one stack again.

        Raises
        ------
        BadDicomError
            A file is unreadable, or an image lacks its position, orientation, spacing or size.
        ConflictError
            The files mix patients, studies, series or frames of reference, or two that differ share a SOP Instance
            UID.
        GeometryError
            The slices do not form a regular grid, or form several; the text lists them. They cannot be resampled: see
            :func:`~.regular_grid.enclosing_grid`. Or ``frames`` are not there.
        NotFoundError
            No file is a slice of a volume.
        """
        files = tuple(dict.fromkeys(Path(path) for path in paths))
        slices = read_slices(files)
        try:
            slices = slices_within(slices, frames) if frames else slices
            chosen = choose_stack(find_stacks(slices), stack)
            ordered = chosen.ordered(allow_irregular=resample)
        except GeometryError as error:
            raise GeometryError(error.what, uid=str(slices[0].header.SeriesInstanceUID), advice=error.advice) from error
        used = {piece.path for piece in chosen.slices}
        return cls(
            tuple(chosen.slices[index] for index in ordered.order),
            ordered.ijk_to_lps,
            tuple(path for path in files if path not in used),
            ordered.irregularity,
        )

    @property
    def headers(self) -> "tuple[Dataset, ...]":
        """The slices' headers, in slice order."""
        return tuple(piece.header for piece in self.slices)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, each once, in the order of their first slices."""
        return tuple(dict.fromkeys(piece.path for piece in self.slices))

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs, each once, in the order of their first slices."""
        return tuple(dict.fromkeys(piece.sop_instance_uid for piece in self.slices))

    @property
    def frames(self) -> str:
        """Which frames of which multi-frame instances the slices are, in slice order; empty for single-frame ones."""
        return frame_ranges(self.slices)

    @property
    def has_changed_on_disk(self) -> bool:
        """True if a file is not the one any more whose header was read."""
        states = {piece.path: piece.file_state for piece in self.slices}
        return any(state not in (None, file_state(path)) for path, state in states.items())

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.slices[0].header.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.slices[0].header.SeriesInstanceUID)

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID; empty where the source has none."""
        return str(self.slices[0].header.get("FrameOfReferenceUID", "") or "")

    @property
    def modality(self) -> str:
        """Modality, e.g. ``CT``."""
        return str(self.slices[0].header.get("Modality", "") or "")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Grid size (k, j, i) = (slices, rows, columns)."""
        first = self.slices[0].header
        return len(self.slices), whole_number(first, "Rows"), whole_number(first, "Columns")

    @property
    def positions_mm(self) -> np.ndarray:
        """Position of each slice's first voxel, (n, 3) in LPS millimetres, also where the grid is irregular."""
        return np.stack([slice_position(piece.header) for piece in self.slices])

    @property
    def slice_extents_mm(self) -> np.ndarray:
        """How far along the normal each slice stands for, (n,): half the way to either neighbour."""
        if len(self.slices) == 1:
            return np.array([self.spacing_mm[0]])
        normal = np.cross(self.ijk_to_lps[:3, 0], self.ijk_to_lps[:3, 1])
        gaps = np.diff(self.positions_mm @ normal) / np.linalg.norm(normal)
        return (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2

    @property
    def is_evenly_spaced(self) -> bool:
        """False where the affine does not hold for every slice: uneven spacing or a gap; it does with gantry tilt."""
        row, column, step = self.ijk_to_lps[:3, :3].T
        steps = np.arange(len(self.slices))[:, None] * step
        wrong = np.linalg.norm(self.positions_mm - self.positions_mm[0] - steps, axis=1).max()
        normal = np.cross(row, column)
        along = float(step @ normal / np.linalg.norm(normal))  # with gantry tilt the step is longer
        return not self.irregularity or bool(wrong <= position_tolerance_mm(along))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing (k, j, i), millimetres."""
        return spacing_mm(self.ijk_to_lps)


def grid_in_words(shape: tuple[int, ...], spacing: tuple[float, ...]) -> str:
    """Return a grid in short for people, (k, j, i): ``60x64x72, 3.0x0.8x0.6 mm``."""
    return f"{'x'.join(map(str, shape))}, {'x'.join(str(round(float(step), 2)) for step in spacing)} mm"


def read_slices(files: Iterable[Path]) -> list[SourceSlice]:
    """Return the slices in the files of one series, unsorted; raises what :meth:`SourceSeries.from_files` does."""
    files = list(files)
    states = {path: file_state(path) for path in files}  # before they are read: what changes meanwhile is refused
    headers = ((path, read_image_header(path)) for path in files)
    found = _without_copies((path, *header) for path, header in headers if header is not None)
    images = [item for item in found if raw_text(item[1], "SOPClassUID") in VOLUME_SOP_CLASSES]
    if not images:
        raise NotFoundError(
            "there is no image series",
            uid=str(found[0][1].SeriesInstanceUID) if found else None,
            advice=VOLUME_SOP_CLASS_NAMES,
        )
    _check_one_series([header for _, header, _ in images])
    slices = _with_a_place([piece for item in images for piece in slices_of(*item, states[item[0]])])
    _check_one_space(slices)
    return slices


def _with_a_place(slices: list[SourceSlice]) -> list[SourceSlice]:
    """Leave out what lies nowhere in the patient and is no slice by its Image Type: localizers, dose pages, ...

    Others that lack their place are kept, for whoever reads it to refuse them: they may be of the volume.
    """
    lost = {index for index, piece in enumerate(slices) if not all(_has(piece, name) for name in _PLACE)}
    placed = [piece for index, piece in enumerate(slices) if index not in lost]
    if not lost or not placed:
        return slices
    attributes = StackAttributes(slices)
    types = {attributes.value(index, "ImageType") for index in range(len(slices)) if index not in lost}
    for index in lost:
        image_type = attributes.value(index, "ImageType")
        derived = {"DERIVED", "SECONDARY"} <= {text for _, text in image_type}
        is_page = derived and not _has(slices[index], "ImagePositionPatient")
        if image_type in types or not (is_page or attributes.is_localizer(index)):
            return slices
    return placed


def _has(piece: SourceSlice, name: str) -> bool:
    element = element_as_read(piece.header, name)
    return element is not None and bool(element.value)


def _check_one_space(slices: list[SourceSlice]) -> None:
    """Refuse several frames of reference, but for localizers: these are stacks of their own."""
    spaces = [raw_text(piece.header, "FrameOfReferenceUID") for piece in slices]
    if len(set(spaces)) > 1:
        attributes = StackAttributes(slices)
        if len({space for index, space in enumerate(spaces) if not attributes.is_localizer(index)}) > 1:
            _refuse_several("FrameOfReferenceUID", slices[0].header)


def _without_copies(found: "Iterable[_Found]") -> "list[_Found]":
    """Return the instances, each once; refuse two with one SOP Instance UID whose data sets differ."""
    first: dict[str, _Found] = {}
    for item in found:
        uid = raw_text(item[1], "SOPInstanceUID")
        kept = first.setdefault(uid, item)
        if kept is not item and not _hold_the_same(kept[0], item[0]):
            _refuse_another_image(kept, item)
    return list(first.values())


def _hold_the_same(path: Path, other: Path) -> bool:
    """Return True if two files hold one data set; preamble and file meta information are every receiver's own."""
    with path.open("rb") as first, other.open("rb") as second:
        for file in (first, second):
            file.seek(parse_part10_header(file.read(META_BYTES)).dataset_offset)
        while True:
            chunks = first.read(_CHUNK_BYTES), second.read(_CHUNK_BYTES)
            if chunks[0] != chunks[1]:
                return False
            if not chunks[0]:
                return True


def _refuse_another_image(one: "_Found", other: "_Found") -> None:
    """Refuse two files that do not hold one image, each in a transfer syntax of its own: equal headers and voxels."""
    altered = ConflictError(
        "two files share one SOP Instance UID and differ",
        uid=raw_text(one[1], "SOPInstanceUID"),
        advice="One of them was altered; retrieve the series again.",
    )
    if raw_text(one[1], "SOPClassUID") not in VOLUME_SOP_CLASSES:
        raise altered
    try:
        same = one[1] == other[1]
        if same:
            first, second = (read_voxels(list(slices_of(*item)))[0] for item in (one, other))
            same = np.array_equal(first, second)
    except Exception as error:  # converters raise nearly anything; what cannot be compared passes for altered
        raise altered from error
    if not same:
        raise altered


def _check_one_series(headers: "list[Dataset]") -> None:
    for name in _SAME_IN_A_SERIES:
        if len({_text(header, name) for header in headers}) > 1:
            _refuse_several(name, headers[0])
    for name in _NOT_CONTRADICTED:
        if len({_text(header, name) for header in headers} - {""}) > 1:
            _refuse_several(name, headers[0])


def _refuse_several(name: str, header: "Dataset") -> NoReturn:
    raise ConflictError(
        f"the files differ in {name}",
        uid=str(header.SeriesInstanceUID),
        advice="Give the files of exactly one series.",
    )


def _text(header: "Dataset", name: str) -> str:
    try:
        text = raw_text(header, name)
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError(f"{name} cannot be read", uid=str(header.SOPInstanceUID)) from error
    compared = {"PatientName": folded_name, "PatientSex": told_sex}.get(name)
    return compared(text) if compared else text
