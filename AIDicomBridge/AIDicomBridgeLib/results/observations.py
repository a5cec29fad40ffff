"""What a classifier or a detector says, before it becomes a report: :class:`Classification`, :class:`Detection`."""

from dataclasses import KW_ONLY, dataclass

import numpy as np

from ..errors import EncodingError
from .labels import Code
from .measurements import Measurement
from .regions import Region

LEVELS = ("study", "series", "image")


@dataclass(frozen=True)
class Evaluation:
    """A coded answer to a coded question (a qualitative evaluation, TID 1501)."""

    question: Code
    answer: Code


@dataclass(frozen=True)
class Classification:
    """What a classifier says about a study, a series or single images.

    Attributes
    ----------
    name
        Tracking identifier, shown to people.
    evaluations
        The answers, one or more.
    probability
        Of the (first) answer, 0 to 1.
    level
        What it is said of: ``study``, ``series``, or ``image`` (then with ``sop_instance_uids``).
    sop_instance_uids
        The images concerned, of the source.
    frames
        Of multi-frame images the frames concerned, as (SOP Instance UID, Frame Number); all of an image without any.
    finding, site, site_modifier
        What was looked for, and where; the modifier is a side or a part.
    measurements
        Further numbers.
    tracking_uid
        One is made on encoding where it is None.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    _: KW_ONLY
    probability: float | None = None
    level: str = "series"
    sop_instance_uids: tuple[str, ...] = ()
    frames: tuple[tuple[str, int], ...] = ()
    finding: Code | None = None
    site: Code | None = None
    site_modifier: Code | None = None
    measurements: tuple[Measurement, ...] = ()
    tracking_uid: str | None = None

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise EncodingError(f"the classification '{self.name}' has no evaluation")
        if self.level not in LEVELS:
            raise EncodingError(f"{self.level!r} is no level of a classification", advice=f"Use {', '.join(LEVELS)}.")
        if (self.level == "image") != bool(self.sop_instance_uids):
            raise EncodingError(
                f"the classification '{self.name}' must name its images at the level image, and only there"
            )
        if not {uid for uid, _ in self.frames} <= set(self.sop_instance_uids):
            raise EncodingError(f"the classification '{self.name}' names frames of an image that it does not name")
        _check_common(self.name, self.probability, self.site, self.site_modifier, self.measurements)


@dataclass(frozen=True)
class Detection:
    """One thing that a detector found.

    Attributes
    ----------
    name
        Tracking identifier, shown to people.
    finding, category
        What it is.
    region
        Where it is.
    score
        How sure the detector is, 0 to 1.
    site, site_modifier
        The organ, with its side or part.
    evaluations, measurements
        What else is said of it.
    tracking_uid
        One is made on encoding where it is None.
    """

    name: str
    finding: Code
    region: Region
    _: KW_ONLY
    score: float | None = None
    category: Code | None = None
    site: Code | None = None
    site_modifier: Code | None = None
    evaluations: tuple[Evaluation, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    tracking_uid: str | None = None

    def __post_init__(self) -> None:
        _check_common(self.name, self.score, self.site, self.site_modifier, self.measurements)


def _check_common(
    name: str,
    probability: float | None,
    site: Code | None,
    site_modifier: Code | None,
    measurements: tuple[Measurement, ...],
) -> None:
    if not name.strip():
        raise EncodingError("a finding has no name")
    if probability is not None and not 0 <= probability <= 1:
        raise EncodingError(f"the probability of '{name}' is {probability}, not between 0 and 1")
    if site_modifier is not None and site is None:
        raise EncodingError(f"'{name}' has a site_modifier without a site")
    if not all(np.isfinite(measurement.value) for measurement in measurements):
        raise EncodingError(f"a measurement of '{name}' is not a finite number")
