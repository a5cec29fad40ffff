"""A look at the headers of a study's series, two slices of each, to find the one that a model is meant for.

What a PACS lists of a series seldom says if it is a localizer, derived, axial, or how far its slices lie apart.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import replace

from ..errors import BridgeError, NotFoundError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..series.instance_store import InstanceStore
from ..series.series_traits import SeriesTraits
from ..series.source_slice import MULTI_FRAME_CLASSES, VOLUME_SOP_CLASSES
from .client import PacsClient
from .records import InstanceRecord, SeriesRecord
from .selection import RankedSeries, rank_series

_MOST_LOOKED_AT = 12


def rank_series_of_study(
    client: PacsClient,
    study_uid: str,
    modalities: Iterable[str],
    body_parts: Iterable[str] = (),
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[RankedSeries]:
    """Return all series of a study, the best for a model first, those that do not fit last.

    Of each that fits by what the peer lists, at most two slices are fetched, from the best twelve of them; a series
    whose one instance holds all slices is not. What of this fails is a reason beside the others, and no failure.

    Raises
    ------
    NotFoundError
        The peer has no such study.
    QueryError
        Its series cannot be asked for.
    JobCancelled
        ``cancel`` was called.
    """
    listed = client.find_series(study_uid, cancel=cancel)
    if not listed:
        raise NotFoundError(
            "no such study",
            uid=study_uid,
            peer=client.endpoint.name,
            advice="Look it up with 'aidicombridge find'.",
        )
    wanted, parts = tuple(modalities), tuple(body_parts)
    ranked = rank_series(listed, wanted, parts)
    candidates = [item.record for item in ranked if item.fits][:_MOST_LOOKED_AT]
    records = {record.series_uid: record for record in listed}
    seen: dict[str, SeriesTraits | str] = {}
    with tempfile.TemporaryDirectory(prefix="aidicombridge-") as folder, InstanceStore(folder) as store:
        for number, record in enumerate(candidates):
            check_cancel(cancel)
            report(progress, "choose series", number, len(candidates), "series")
            uid = record.series_uid
            try:
                records[uid], seen[uid] = _look_at(client, record, store, cancel)
            except BridgeError as error:
                seen[uid] = f"its headers could not be looked at: {error.what}"
    return rank_series(records.values(), wanted, parts, seen=seen)


def _look_at(
    client: PacsClient, record: SeriesRecord, store: InstanceStore, cancel: CancelToken | None
) -> tuple[SeriesRecord, SeriesTraits | str]:
    """Return the record with its slices counted, and what their headers say, or why nobody looked."""
    study_uid, series_uid = record.study_uid, record.series_uid
    instances = client.find_instances(study_uid, series_uid, cancel=cancel)
    if not instances:
        return record, "its headers were not looked at, as the peer lists no instance of it"
    slices = [item for item in instances if item.sop_class_uid in ("", *VOLUME_SOP_CLASSES)]
    counted = replace(record, instance_count=sum(item.frame_count or 1 for item in slices))
    if not slices or any(item.sop_class_uid in MULTI_FRAME_CLASSES for item in slices):
        return counted, "its headers were not looked at, as one instance holds many slices"
    chosen = [item.sop_instance_uid for item in _neighbours(slices)]
    client.retrieve(study_uid, series_uid, into=store, sop_instance_uids=chosen, cancel=cancel).raise_if_incomplete()
    paths = [stored.path for uid in chosen if (stored := store.get(uid)) is not None]
    return counted, SeriesTraits.of_neighbours(paths, len(slices))


def _neighbours(slices: list[InstanceRecord]) -> list[InstanceRecord]:
    """Return two slices that follow each other; not the first one, which may be a localizer kept with the others."""

    def number(item: InstanceRecord) -> int:
        return int(item.instance_number) if item.instance_number.isdecimal() else 0

    ordered = sorted(slices, key=lambda item: (number(item), item.sop_instance_uid))
    return ordered[1:3] if len(ordered) > 3 else ordered[:2]
