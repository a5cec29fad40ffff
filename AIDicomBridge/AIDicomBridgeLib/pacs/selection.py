"""Choosing the series that a model is meant for, when the person named only the study."""

from collections.abc import Iterable, Sequence

from ..errors import ConflictError, NotFoundError
from .records import SeriesRecord


def choose_series(series: Sequence[SeriesRecord], modalities: Iterable[str], *, study_uid: str) -> SeriesRecord:
    """Return the one series of the wanted modalities, or the one with clearly most instances among several.

    Parameters
    ----------
    series
        All series of the study, as the peer lists them.
    modalities
        What the model works on.

    Raises
    ------
    NotFoundError
        The study has no series of these modalities; the text lists those it has.
    ConflictError
        Several series have the same, largest number of instances, or the peer does not count them.
    """
    wanted = tuple(modalities)
    fitting = [record for record in series if record.modality in wanted]
    if not fitting:
        present = ", ".join(sorted({record.modality or "no modality" for record in series})) or "no series"
        raise NotFoundError(
            f"the study has no {' or '.join(wanted)} series; it has {present}",
            uid=study_uid,
            advice="Choose another study or model.",
        )
    fitting.sort(key=lambda record: record.instance_count or 0, reverse=True)
    if len(fitting) > 1 and (fitting[0].instance_count or 0) == (fitting[1].instance_count or 0):
        listed = "; ".join(f"{r.series_uid} ({r.modality})" for r in fitting)
        raise ConflictError(
            f"several series fit equally well: {listed}", uid=study_uid, advice="Name one of them with its series UID."
        )
    return fitting[0]
