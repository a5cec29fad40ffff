"""What every result carries beside its content: its series, its dates, the body part, who made it.

Series numbers: a result gets the source's series number, then the digit of its kind (:class:`ResultKind`), then four
digits that tell apart what was made from which series by which model. Of series 4 a segmentation is 41dddd, its
measurements are 42dddd. Without asking the archive no more can be done: two runs of one model on one series share a
number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING

from ..errors import BridgeError, EncodingError
from .equipment import NOT_FOR_DIAGNOSTIC_USE, contributing_equipment, device_uid, fit
from .labels import Provenance

if TYPE_CHECKING:
    from pydicom import Dataset

_SOURCE_NUMBERS = 21474  # source numbers below it keep the result's below 2**31, the limit of an Integer String


class ResultKind(Enum):
    """The kinds of results, each with its digit in series numbers and its word for people."""

    SEGMENTATION = (1, "segmentation")
    MEASUREMENT_REPORT = (2, "measurements")
    SECONDARY_CAPTURE = (3, "overlay")
    PARAMETRIC_MAP = (4, "map")
    CLASSIFICATION_REPORT = (5, "classification")
    DETECTION_REPORT = (6, "detections")
    SUMMARY = (7, "summary")
    PICTURE = (8, "pictures")

    @property
    def is_report(self) -> bool:
        """True for structured reports."""
        return self in (self.MEASUREMENT_REPORT, self.CLASSIFICATION_REPORT, self.DETECTION_REPORT)


def fresh_uid() -> str:
    """Return a new UID: every object, series and tracked segment gets its own, always."""
    from pydicom.uid import generate_uid

    return str(generate_uid())


def result_series_number(
    kind: ResultKind, source_header: "Dataset", provenance: Provenance | None, *, variant: str = "", nth: int = 0
) -> int:
    """Return the series number of a result; see the rule at the top of this file.

    Parameters
    ----------
    variant
        What tells two results of one kind, model and series apart, such as the encoding.
    nth
        Counts the results of that kind in one job from 0: theirs always differ.
    """
    try:
        source_number = max(int(source_header.get("SeriesNumber") or 0), 0)
    except (TypeError, ValueError):
        source_number = 0
    # Two series of a study may have the same number, or none.
    made_from = (source_header.get("SeriesInstanceUID", ""), source_number, device_uid(provenance), variant)
    digest = sha256(":".join(map(str, made_from)).encode()).digest()
    remainder = (int.from_bytes(digest[:8], "big") + nth) % 10000
    return source_number % _SOURCE_NUMBERS * 100000 + kind.value[0] * 10000 + remainder


def default_description(kind: ResultKind, provenance: Provenance | None) -> str:
    """Return what a series is called where nobody names it, such as ``"mindgrab segmentation"``."""
    return f"{provenance.model if provenance else 'Manual'} {kind.value[1]}"


def result_series_description(kind: ResultKind, provenance: Provenance | None, text: str | None = None) -> str:
    """Return a Series Description of at most 64 characters that says so where the result is not for diagnostic use."""
    text = fit(text or default_description(kind, provenance))
    if provenance is None or not provenance.not_for_diagnostic_use or NOT_FOR_DIAGNOSTIC_USE in text.lower():
        return text
    remark = f" ({NOT_FOR_DIAGNOSTIC_USE})"
    return fit(text, 64 - len(remark)) + remark


def complete_result(
    dataset: "Dataset",
    source_header: "Dataset",
    kind: ResultKind,
    *,
    provenance: Provenance | None,
    series_description: str | None,
    now: datetime,
) -> None:
    """Write into ``dataset``, in place, what highdicom leaves out of all result objects.

    Parameters
    ----------
    source_header
        A header of :func:`normalised_headers`.
    """
    from pydicom.sequence import Sequence

    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SeriesDescription = result_series_description(kind, provenance, series_description)
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = date
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = time
    # A report's series has no body part (PS3.3 C.17.1); a segmentation's has no laterality, a capture's see there.
    if not kind.is_report and source_header.get("BodyPartExamined"):
        dataset.BodyPartExamined = source_header.BodyPartExamined
    if provenance is not None:
        equipment = list(dataset.get("ContributingEquipmentSequence", []))
        dataset.ContributingEquipmentSequence = Sequence([*equipment, contributing_equipment(provenance, now)])


@contextmanager
def encoding_errors(what: str, uid: str) -> Iterator[None]:
    """Turn any failure of a DICOM library while ``what`` is built into an :class:`EncodingError`."""
    try:
        yield
    except BridgeError:
        raise
    except Exception as error:  # highdicom raises nearly anything on headers that it did not expect
        raise EncodingError(
            f"{what} cannot be built from the headers of the source ({type(error).__name__})",
            uid=uid,
            advice="Check the source series with dciodvfy; an attribute that DICOM requires is missing or malformed.",
        ) from error
