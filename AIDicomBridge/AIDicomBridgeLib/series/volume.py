"""From files to voxels: :func:`read_volume` and the :class:`ImageVolume` that the networks see."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadDicomError, ConflictError, NotFoundError
from ..progress import CancelToken, ProgressCallback
from .dicom_file import has_dicom_prefix, is_part10_file, looks_like_dataset, raw_text, read_header
from .geometry import spacing_mm
from .pixels import read_voxels
from .source_series import SourceSeries
from .source_slice import VOLUME_SOP_CLASS_NAMES, VOLUME_SOP_CLASSES
from .suv import SuvFactors, suv_factors


@dataclass(frozen=True, eq=False)
class ImageVolume:
    """A scalar volume on the grid of its source.

    Attributes
    ----------
    voxels
        (k, j, i) = (slice, row, column); int16 where the stored values fit, else float32; in the modality's unit
        (HU for CT; rescale applied).
    ijk_to_lps
        4x4 affine, (i, j, k, 1) to LPS millimetres; its source's, but for the regular grids that networks see.
    source
        The series that it was read from.
    decoder
        What decoded the pixel data; ``"uncompressed"`` where it only had to be read.
    suv
        The factors of a PET volume that is in SUV (g/ml, by body weight), not in its series' own unit.
    """

    voxels: np.ndarray
    ijk_to_lps: np.ndarray
    source: SourceSeries
    decoder: str = ""
    suv: SuvFactors | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing (k, j, i), millimetres."""
        return spacing_mm(self.ijk_to_lps)

    @property
    def modality(self) -> str:
        """The source's Modality."""
        return self.source.modality


def read_volume(
    series_or_paths_or_folder: SourceSeries | Iterable[Path | str] | Path | str,
    *,
    stack: int | None = None,
    resample: bool = False,
    suv: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ImageVolume:
    """Read one series into a volume.

    Parameters
    ----------
    series_or_paths_or_folder
        A checked series, its files, or a folder that holds exactly one image series (other objects are passed over).
    stack, resample
        As :meth:`SourceSeries.from_files` takes them, for what is no checked series yet.
    suv
        Give a PET series as SUV by body weight, float32; :func:`~.suv.suv_factors` says what its header must have.

    Raises
    ------
    ConflictError
        The folder holds several image series; the text lists their UIDs.
    PixelError
        A slice cannot be decoded, or SUV cannot be computed.
    BadDicomError, GeometryError, NotFoundError
        As :meth:`SourceSeries.from_files`.
    """
    series = find_series(series_or_paths_or_folder, stack=stack, resample=resample)
    factors = suv_factors(series) if suv else None  # refused before the time is spent on the voxels
    voxels, decoder = read_voxels(series.slices, progress=progress, cancel=cancel)
    if factors is not None:
        voxels = voxels.astype(np.float32, copy=False)
        voxels *= np.float32(factors.scale)
    return ImageVolume(voxels, series.ijk_to_lps, series, decoder, factors)


def find_series(
    series_or_paths_or_folder: SourceSeries | Iterable[Path | str] | Path | str,
    *,
    series_uid: str | None = None,
    stack: int | None = None,
    resample: bool = False,
) -> SourceSeries:
    """Return the one series meant; see :func:`read_volume`. ``series_uid`` chooses among several in a folder."""
    if isinstance(series_or_paths_or_folder, SourceSeries):
        return series_or_paths_or_folder
    paths = series_or_paths_or_folder
    if isinstance(paths, Path | str):
        paths = _image_files(Path(paths), series_uid)
    return SourceSeries.from_files(paths, stack=stack, resample=resample)


def _image_files(folder: Path, series_uid: str | None) -> list[Path]:
    """Return the files of the folder's only image series, or of the one named; what is no DICOM is passed over."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise NotFoundError(f"the folder {folder} does not exist")
    by_series: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not is_part10_file(path):
            others.append(path)
            continue
        header, _ = read_header(path)
        if raw_text(header, "SOPClassUID") in VOLUME_SOP_CLASSES:
            by_series.setdefault(raw_text(header, "SeriesInstanceUID"), []).append(path)
    _check_others(others, slices=[path for paths in by_series.values() for path in paths])
    if series_uid is not None:
        if series_uid not in by_series:
            raise NotFoundError(f"the folder {folder} does not hold this image series", uid=series_uid)
        return by_series[series_uid]
    if len(by_series) > 1:
        raise ConflictError(
            f"the folder holds {len(by_series)} image series: {', '.join(sorted(by_series))}",
            advice="Choose one of them by its series UID.",
        )
    if not by_series:
        raise NotFoundError(
            f"the folder {folder} holds no image series",
            advice=VOLUME_SOP_CLASS_NAMES,
        )
    return next(iter(by_series.values()))


def _check_others(others: Iterable[Path], *, slices: Iterable[Path]) -> None:
    """Refuse a file that must have been a slice: left out, it would shorten the volume without a trace."""
    named_like_slices = {(path.parent, _suffix(path)) for path in slices}
    for path in others:
        if path.name.startswith(".") or has_dicom_prefix(path):
            continue
        if ".dcm" in (suffix.lower() for suffix in path.suffixes) or (path.parent, _suffix(path)) in named_like_slices:
            what = "named like a DICOM file and is none: "
            what += "it is empty" if path.stat().st_size == 0 else "the prefix DICM is missing"
        elif looks_like_dataset(path):
            what = "a DICOM data set without the file meta information that says how to read it"
        else:
            continue
        raise BadDicomError(
            f"the file {path.name} is {what}",
            advice="Retrieve it again, or take it out of the folder if it is no part of the series.",
        )


def _suffix(path: Path) -> str:
    """Return the suffix in small letters; what follows the last dot of a UID is none."""
    return "" if path.suffix[1:].isdigit() else path.suffix.lower()
