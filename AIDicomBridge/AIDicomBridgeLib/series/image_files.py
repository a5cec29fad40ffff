"""Which files become a volume, and how: what one process asks another to read."""

from dataclasses import dataclass
from pathlib import Path

from ..progress import ProgressCallback
from .source_series import SourceSeries
from .volume import ImageVolume, read_volume


@dataclass(frozen=True)
class ImageFiles:
    """The files of one series and what is taken of them.

    Attributes
    ----------
    paths
        The files.
    frames, stack, resample
        As :meth:`~.source_series.SourceSeries.from_files` takes them.
    suv
        As :func:`~.volume.read_volume` takes it.
    """

    paths: tuple[Path, ...]
    frames: str = ""
    stack: int | None = None
    resample: bool = False
    suv: bool = False

    def source(self) -> SourceSeries:
        """Return the series, sorted and checked, without its voxels."""
        return SourceSeries.from_files(self.paths, stack=self.stack, resample=self.resample, frames=self.frames)

    def volume(self, progress: ProgressCallback | None = None) -> ImageVolume:
        """Return the volume, on the slices as they are."""
        return read_volume(self.source(), suv=self.suv, progress=progress)
