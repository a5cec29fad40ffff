"""Choosing the series that a model is meant for, when the person named only the study, and saying why."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import ConflictError, NotFoundError
from ..series.series_traits import SeriesTraits
from .records import SeriesRecord

_LOCALIZER = re.compile(r"\b(loc|localizer|localiser|scout|topogram|surview|survey|scanogram)\b", re.IGNORECASE)
_DERIVED = re.compile(r"\b(mip|minip|mpr|vrt|3d|ssd|reformat\w*|derived|fused|report|dose)\b", re.IGNORECASE)
_NOT_AXIAL = re.compile(r"\b(cor|coronal|sag|sagittal)\b", re.IGNORECASE)


@dataclass(frozen=True)
class RankedSeries:
    """A series with what speaks for and against it.

    Attributes
    ----------
    fits
        False where the model cannot be meant for it.
    reasons
        Clauses for people, the decisive one first.
    """

    record: SeriesRecord
    fits: bool
    reasons: tuple[str, ...]
    rank: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return UID, description, whether it fits, and the reasons, as plain values for ``--json``."""
        described = {"series_uid": self.record.series_uid, "description": self.record.series_description}
        return described | {"fits": self.fits, "reasons": list(self.reasons)}


def rank_series(
    series: Iterable[SeriesRecord],
    modalities: Iterable[str],
    body_parts: Iterable[str] = (),
    *,
    seen: Mapping[str, SeriesTraits | str] | None = None,
) -> list[RankedSeries]:
    """Return all series of a study, the best for a model first, those that do not fit last.

    Judged is what a peer lists: modality, body part, words of the description (localizer, derived, orientation), and
    the number of instances. A text that is empty speaks neither for nor against. Where the headers are known, so are
    image type, orientation, the distance of the slices, if the series forms a volume at all, and contrast, which is
    told and decides nothing.

    Parameters
    ----------
    seen
        By Series Instance UID what the headers say, or why they could not be looked at.
    """
    wanted, parts, known = tuple(modalities), tuple(body_parts), seen or {}
    ranked = [_judged(record, known.get(record.series_uid, ""), wanted, parts) for record in series]
    return sorted(ranked, key=lambda item: (item.fits, item.rank), reverse=True)


def rank_series_on_disk(
    series: Iterable[SeriesTraits], modalities: Iterable[str], body_parts: Iterable[str] = ()
) -> list[RankedSeries]:
    """Return the series of a folder, the best for a model first, as :func:`rank_series` does with their headers."""
    seen = {traits.series_uid: traits for traits in series}
    records = [
        SeriesRecord("", traits.series_uid, traits.modality, instance_count=traits.slice_count)
        for traits in seen.values()
    ]
    return rank_series(records, modalities, body_parts, seen=seen)


def best_series(ranked: Sequence[RankedSeries], *, study_uid: str | None = None) -> RankedSeries:
    """Return the one that ranks best; see :func:`rank_series`.

    Raises
    ------
    NotFoundError
        No series of the study fits; the text says of each why.
    ConflictError
        Several fit equally well, or the peer does not count their instances.
    """
    fitting = [item for item in ranked if item.fits]
    if not fitting:
        why = "; ".join(f"{item.record.series_uid}: {item.reasons[0]}" for item in ranked[:20]) or "it has no series"
        raise NotFoundError(
            f"no series of the study fits the model: {why}", uid=study_uid, advice="Choose another study or model."
        )
    if len(fitting) > 1 and fitting[0].rank == fitting[1].rank:
        listed = "; ".join(f"{i.record.series_uid} ({i.record.modality})" for i in fitting if i.rank == fitting[0].rank)
        raise ConflictError(
            f"several series fit equally well: {listed}", uid=study_uid, advice="Name one of them with its series UID."
        )
    return fitting[0]


def _judged(
    record: SeriesRecord, seen: SeriesTraits | str, modalities: tuple[str, ...], body_parts: tuple[str, ...]
) -> RankedSeries:
    if isinstance(seen, str):
        listed = _judged_as_listed(record, modalities, body_parts)
        return replace(listed, reasons=(*listed.reasons, seen)) if seen and listed.fits else listed
    record = replace(
        record,
        body_part=record.body_part or seen.body_part,
        series_description=record.series_description or seen.description,
    )
    return _judged_by_header(_judged_as_listed(record, modalities, body_parts), seen)


def _judged_as_listed(record: SeriesRecord, modalities: tuple[str, ...], body_parts: tuple[str, ...]) -> RankedSeries:
    text, count = record.series_description, record.instance_count
    body_part = record.body_part.upper()
    if record.modality not in modalities:
        return RankedSeries(
            record, False, (f"it is {record.modality or 'of no modality'}, not {' or '.join(modalities)}",)
        )
    if _LOCALIZER.search(text):
        return RankedSeries(record, False, ("its description says that it is a localizer",))
    if body_part and body_parts and not any(part.upper() in body_part for part in body_parts):
        return RankedSeries(record, False, (f"its body part is {body_part}, not {' or '.join(body_parts)}",))
    if count == 0:
        return RankedSeries(record, False, ("it holds no slices of CT, MR or PET",))
    derived, turned = bool(_DERIVED.search(text)), bool(_NOT_AXIAL.search(text))
    reasons = [f"it is {record.modality}", f"{count if count is not None else 'uncounted'} instances"]
    if body_part and body_parts:
        reasons.append(f"its body part {body_part} is the model's")
    if derived:
        reasons.append("its description says that it is derived")
    if turned:
        reasons.append("its description says that it is not axial")
    return RankedSeries(record, True, tuple(reasons), (-2.0 * derived - turned, count or 0, -math.inf))


def _judged_by_header(listed: RankedSeries, traits: SeriesTraits) -> RankedSeries:
    if not listed.fits:
        return listed
    if "LOCALIZER" in traits.image_type:
        return replace(listed, fits=False, reasons=("its image type says that it is a localizer",))
    if traits.problem:
        return replace(listed, fits=False, reasons=(f"it is no volume: {traits.problem}",))
    derived, turned = "DERIVED" in traits.image_type, not traits.orientation.endswith("axial")
    reasons = (
        *listed.reasons,
        f"{traits.orientation} slices, {traits.slice_spacing_mm:.3g} mm apart",
        *(("its image type says that it is derived",) if derived else ()),
        "with contrast agent" if traits.contrast else "no contrast agent is named",
    )
    worse = min(listed.rank[0], -2.0 * derived - turned)
    return replace(listed, reasons=reasons, rank=(worse, traits.slice_count, -round(traits.slice_spacing_mm, 2)))
