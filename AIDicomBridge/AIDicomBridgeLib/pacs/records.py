"""What a PACS answers, as frozen records: matches of a query, and the outcome of every transferred instance."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from ..errors import IncompleteError, NotFoundError


@dataclass(frozen=True)
class PatientRecord:
    """One patient as the peer lists it. Texts are empty and the count None where the peer does not say.

    What is printed of one names no patient.
    """

    patient_id: str = field(repr=False)
    patient_name: str = field(default="", repr=False)
    patient_birth_date: str = field(default="", repr=False)
    patient_sex: str = field(default="", repr=False)
    study_count: int | None = None


@dataclass(frozen=True)
class StudyRecord:
    """One study as the peer lists it. Texts are empty and counts None where the peer does not say.

    What is printed of one names no patient.
    """

    study_uid: str
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    patient_birth_date: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    modalities: tuple[str, ...] = ()
    series_count: int | None = None
    instance_count: int | None = None


@dataclass(frozen=True)
class SeriesRecord:
    """One series as the peer lists it."""

    study_uid: str
    series_uid: str
    modality: str = ""
    series_number: str = ""
    series_description: str = ""
    series_date: str = ""
    body_part: str = ""
    instance_count: int | None = None


@dataclass(frozen=True)
class InstanceRecord:
    """One instance as the peer lists it."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str = ""
    instance_number: str = ""
    frame_count: int | None = None


class Outcome(Enum):
    """What became of one instance of a transfer."""

    RECEIVED = "received"  # retrieve: written to the store
    PRESENT = "present"  # retrieve: the store already held the same instance
    MISSING = "missing"  # retrieve: listed by the peer, never arrived
    STORED = "stored"  # store: status success
    WARNED = "warned"  # store: stored, with a warning status
    REFUSED = "refused"  # store: failure status, or no presentation context
    UNKNOWN = "unknown"  # store: the connection ended before the peer answered


GOOD_OUTCOMES = frozenset({Outcome.RECEIVED, Outcome.PRESENT, Outcome.STORED, Outcome.WARNED})


@dataclass(frozen=True)
class InstanceOutcome:
    """The outcome of one instance; ``status`` is the peer's (``"0xA700"``, ``"HTTP 409"``), ``reason`` its meaning."""

    sop_instance_uid: str
    outcome: Outcome
    status: str = ""
    reason: str = ""


@dataclass(frozen=True)
class TransferReport:
    """Every instance of one transfer with its outcome; never a bare number."""

    peer: str
    outcomes: tuple[InstanceOutcome, ...]
    method: str = ""  # "C-GET", "C-MOVE", "WADO-RS", "C-STORE", "STOW-RS"
    seconds: float = 0.0
    byte_count: int = 0

    @property
    def complete(self) -> bool:
        """True when every instance arrived; an empty transfer is not complete."""
        return bool(self.outcomes) and not self.failed

    @property
    def succeeded(self) -> tuple[InstanceOutcome, ...]:
        """The instances that are now where they should be."""
        return tuple(o for o in self.outcomes if o.outcome in GOOD_OUTCOMES)

    @property
    def failed(self) -> tuple[InstanceOutcome, ...]:
        """The instances that did not arrive, each with its reason."""
        return tuple(o for o in self.outcomes if o.outcome not in GOOD_OUTCOMES)

    def raise_if_incomplete(self) -> None:
        """Raise NotFoundError if there was nothing to transfer, IncompleteError if an instance did not arrive."""
        if not self.outcomes:
            raise NotFoundError("there was nothing to transfer", peer=self.peer)
        if self.failed:
            raise IncompleteError(
                f"{len(self.failed)} of {len(self.outcomes)} instances did not arrive",
                uid=self.failed[0].sop_instance_uid,
                peer=self.peer,
                status=self.failed[0].status or None,
                advice="Try again: what has arrived is kept.",
            )


@dataclass(frozen=True)
class RetrieveReport(TransferReport):
    """What :meth:`PacsClient.retrieve` did, held against the peer's own instance list.

    Attributes
    ----------
    unlisted
        Instances that the peer counts in the study or series beyond those that it lists.
    """

    study_uid: str = ""
    series_uid: str | None = None
    unlisted: int = 0

    @property
    def complete(self) -> bool:
        """True when every instance arrived that the peer lists, and it lists as many as it counts."""
        return super().complete and not self.unlisted

    def raise_if_incomplete(self) -> None:
        """Raise as :meth:`TransferReport.raise_if_incomplete`, and IncompleteError if the peer lists too few."""
        super().raise_if_incomplete()
        if self.unlisted:
            raise IncompleteError(
                f"the peer counts {self.unlisted} more instances than the {len(self.outcomes)} that it lists",
                uid=self.series_uid or self.study_uid,
                peer=self.peer,
                advice="The PACS may limit how many matches it lists: ask its administrator. What has arrived is kept.",
            )


@dataclass(frozen=True)
class StoreReport(TransferReport):
    """What :meth:`PacsClient.store` did."""


def count_outcomes(outcomes: Iterable[InstanceOutcome]) -> dict[str, int]:
    """Return how many instances had each outcome, by the outcome's value; outcomes that did not occur are absent."""
    counts: dict[str, int] = {}
    for item in outcomes:
        counts[item.outcome.value] = counts.get(item.outcome.value, 0) + 1
    return counts
