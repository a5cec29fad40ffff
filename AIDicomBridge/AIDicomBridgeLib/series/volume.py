"""From files to voxels: :func:`read_volume` and the :class:`ImageVolume` that the networks see."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConflictError, NotFoundError, PixelError
from ..progress import CancelToken, ProgressCallback
from .geometry import spacing_mm
from .pixel_format import rescale_type
from .pixels import read_voxels
from .series_in_folder import series_in_folder
from .source_series import SourceSeries, grid_in_words
from .source_slice import VOLUME_SOP_CLASS_NAMES
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
    resampled
        True on the regular grid of an irregular series: its planes are then none of the source's slices.
    """

    voxels: np.ndarray
    ijk_to_lps: np.ndarray
    source: SourceSeries
    decoder: str = ""
    suv: SuvFactors | None = None
    resampled: bool = False

    def __repr__(self) -> str:
        """Return modality, grid and unit: one line that names no patient, in notebooks and tracebacks too."""
        words = f"{self.modality} {grid_in_words(self.voxels.shape, self.spacing_mm)}".strip()
        return f"<ImageVolume {words}{self._unit_in_words()}>"

    def _unit_in_words(self) -> str:
        if self.suv is not None:
            return ", SUV"
        try:
            stated = rescale_type(self.source.headers[0])
        except PixelError:  # what only shows a volume refuses none
            return ", unit unreadable"
        unit = ascii(stated[:16])[1:-1] or ("HU" if self.modality == "CT" else "")
        return f", {unit}" if unit else ""

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
    by_series = series_in_folder(folder)
    if series_uid is not None:
        if series_uid not in by_series:
            raise NotFoundError(f"the folder {folder} does not hold this image series", uid=series_uid)
        return by_series[series_uid]
    if len(by_series) > 1:
        raise ConflictError(
            f"the folder holds {len(by_series)} image series: {', '.join(sorted(by_series))}",
            advice="Choose one of them by its series UID, or let the model choose (--series auto).",
        )
    if not by_series:
        raise NotFoundError(
            f"the folder {folder} holds no image series",
            advice=VOLUME_SOP_CLASS_NAMES,
        )
    return next(iter(by_series.values()))
