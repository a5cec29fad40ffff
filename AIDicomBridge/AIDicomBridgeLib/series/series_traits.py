"""What the headers of a series say that tells for which model it is meant."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadDicomError, BridgeError, GeometryError
from .dicom_file import raw_text, read_header
from .geometry import orientation_name
from .source_series import SourceSeries

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class SeriesTraits:
    """What the headers of one series say.

    Attributes
    ----------
    series_uid, modality, body_part, description
        As the headers have them.
    slice_count
        Slices of its volume; files where it forms none, or only some were looked at.
    problem
        Why it forms no volume, as a clause; empty where it does, as far as was looked.
    orientation
        ``"axial"``, ``"oblique coronal"``, ...; empty where it forms no volume.
    slice_spacing_mm
        Between its slices; 0 where it forms no volume.
    image_type
        Image Type in capitals: ``("ORIGINAL", "PRIMARY", "AXIAL")``.
    contrast
        The header names a contrast agent.
    """

    series_uid: str
    modality: str
    body_part: str
    description: str
    slice_count: int
    problem: str
    orientation: str
    slice_spacing_mm: float
    image_type: tuple[str, ...]
    contrast: bool

    @classmethod
    def of(cls, paths: Iterable[Path], *, stack: int | None = None, resample: bool = False) -> "SeriesTraits":
        """Return the traits of a series from its files; ``stack`` and ``resample`` as they will be read.

        Raises
        ------
        BadDicomError
            A file is unreadable.
        """
        files = list(paths)
        header, _ = read_header(files[0])
        try:
            source = SourceSeries.from_files(files, stack=stack, resample=resample)
        except BridgeError as error:
            return cls._from(header, None, len(files), error.what)
        return cls._from(source.headers[0], source, len(source.slices))

    @classmethod
    def of_neighbours(cls, paths: Iterable[Path], slice_count: int) -> "SeriesTraits":
        """Return the traits of a series from one or two slices that follow each other; raises as :meth:`of`.

        Where the two are no neighbours in space, but phases of one place, say, the spacing is what the first states.
        """
        files = list(paths)
        header, _ = read_header(files[0])
        try:
            try:
                source = SourceSeries.from_files(files)
            except GeometryError:
                source = SourceSeries.from_files(files[:1])
        except BridgeError as error:
            return cls._from(header, None, slice_count, error.what)
        return cls._from(header, source, slice_count)

    @classmethod
    def _from(
        cls, header: "Dataset", source: SourceSeries | None, slice_count: int, problem: str = ""
    ) -> "SeriesTraits":
        try:
            modality, body_part, description = (
                str(header.get(name) or "") for name in ("Modality", "BodyPartExamined", "SeriesDescription")
            )
            kind = header.get("ImageType") or ()
            image_type = tuple(str(part).upper() for part in ([kind] if isinstance(kind, str) else kind))
            contrast = bool(header.get("ContrastBolusAgent") or header.get("ContrastBolusAgentSequence"))
        except Exception as error:  # converters raise nearly anything on damaged input
            raise BadDicomError("the header is damaged", uid=raw_text(header, "SOPInstanceUID")) from error
        return cls(
            raw_text(header, "SeriesInstanceUID"),
            modality,
            body_part,
            description,
            slice_count,
            problem,
            orientation_name(source.ijk_to_lps) if source else "",
            source.spacing_mm[0] if source else 0.0,
            image_type,
            contrast,
        )
