"""From labels to DICOM files in a folder: measured, encoded, checked, written; all of them or none."""

from collections.abc import Sequence
from pathlib import Path

from ..progress import ProgressCallback, report
from ..series.volume import ImageVolume
from .conformance import Finding
from .edited_segments import mark_edited
from .labels import LabelVolume
from .measurements import measure
from .profiles import DestinationProfile
from .result_series import fresh_uid
from .result_set import ResultObject, check_each, encode_results, refuse_taken_folder, write_results
from .segment_description import with_tracking_uids


def write_checked_results(
    labels: LabelVolume,
    volume: ImageVolume,
    folder: Path,
    *,
    profile: DestinationProfile | str | None = None,
    outputs: Sequence[str] | None = None,
    encodings: Sequence[str] | None = None,
    series_description: str | None = None,
    progress: ProgressCallback | None = None,
) -> list[tuple[ResultObject, list[Finding]]]:
    """Write labels, perhaps edited since they were made, as DICOM objects; return each, SEG first, with its warnings.

    Parameters
    ----------
    volume
        Their source, with its voxels.
    profile, outputs, encodings, series_description
        As :func:`~.result_set.encode_results` takes them.

    Raises
    ------
    EncodingError, GeometryError, PixelError
        An object cannot be made.
    ConformanceError
        An object failed its own checks. No file is left.
    ConflictError, FolderError, DiskSpaceError
        As :func:`~.result_set.write_results`.
    """
    refuse_taken_folder(folder, volume.source)  # before the work, not after it
    report(progress, "encode", 0)
    labels = with_tracking_uids(mark_edited(labels), fresh_uid)  # what is written is compared with them
    measured = measure(labels, volume)
    results = encode_results(
        labels,
        volume,
        measured,
        profile=profile,
        outputs=outputs,
        encodings=encodings,
        series_description=series_description,
    )
    report(progress, "check", 0)
    findings = check_each(results, volume.source, labels, measured)
    return list(zip(write_results(results, folder), findings, strict=True))
