"""Several models as one, such as the five that share TotalSegmentator's structures among them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import ModelError
from ..inference.channels import channels_of
from ..inference.memory_plan import MemoryPlan
from ..progress import CancelToken, Progress, ProgressCallback
from ..results.labels import LabelVolume
from .card import ModelCard
from .model import Model, Volumes


def joined_card(parts: Sequence[ModelCard], *, name: str, title: str, description: str) -> ModelCard:
    """Return the card of models that are run one after another; their labels are counted on from part to part."""
    first, version = parts[0], "+".join(dict.fromkeys(part.version for part in parts))
    segments = [segment for part in parts for segment in part.segments]
    return replace(
        first,
        name=name,
        version=version,
        title=title,
        description=description,
        segments=tuple(
            replace(segment, label=label, algorithm_name=f"{name} {version}")
            for label, segment in enumerate(segments, start=1)
        ),
        decision=None,
        network=None,
        sha256=hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest(),
        kind="joined",
        parts=tuple(parts),
    )


class JoinedModel(Model):
    """Models that are run one after another on a volume; where they claim the same voxel the later one has it.

    Parameters
    ----------
    card
        As :func:`joined_card` makes it.
    parts
        The loaded models, in the order of the card.
    """

    def __init__(self, card: ModelCard, parts: Sequence[Model]) -> None:
        first = parts[0]
        digest = hashlib.sha256("".join(part.weights_sha256 for part in parts).encode()).hexdigest()
        super().__init__(card, first.device, first.precision, {}, digest)
        self._parts = tuple(parts)

    def release(self) -> None:
        """Give back the memory of the weights; the model cannot run afterwards."""
        for part in self._parts:
            part.release()

    def refuse_probabilities(self) -> None:
        """Raise :class:`ModelError`: networks that do not know of each other have no common probabilities."""
        raise ModelError(
            f"the model {self.card.name} gives labels only, no probabilities: it joins {len(self._parts)} networks, "
            "and the probabilities of one say nothing of what the others see",
            advice=f"Ask for those of its parts: {', '.join(part.card.name for part in self._parts)}.",
        )

    def plan(
        self, volume: Volumes, *, probabilities: bool = False, memory_limit_bytes: int | None = None
    ) -> MemoryPlan:
        """Return the plan of the part that needs most, beside what the others found; see :meth:`Model.plan`."""
        if probabilities:
            self.refuse_probabilities()
        beside = self._no_labels(volume).nbytes
        plans = self._plans(volume, _less(memory_limit_bytes, beside))
        most = max(plans, key=lambda plan: (plan.device_bytes, plan.host_bytes))
        return replace(most, host_bytes=max(plan.host_bytes for plan in plans) + beside)

    def segment(
        self,
        volume: Volumes,
        *,
        any_body_part: bool = False,
        probabilities: bool = False,
        memory_limit_bytes: int | None = None,
        seed: int = 0,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> LabelVolume:
        """Return the labels of all parts; see :meth:`Model.segment`. All parts are planned before the first is run."""
        if probabilities:
            self.refuse_probabilities()
        for channel in channels_of(volume, self.card.input, self.card.name):
            self.refuse_unfit(channel, any_body_part=any_body_part)
        labels = self._no_labels(volume)
        left = _less(memory_limit_bytes, labels.nbytes)
        counts = [plan.window_count for plan in self._plans(volume, left)]
        found: LabelVolume | None = None
        plans: list[str] = []
        before = 0
        for number, part in enumerate(self._parts, start=1):
            found = part.segment(
                volume,
                any_body_part=any_body_part,
                memory_limit_bytes=left,
                seed=seed,
                progress=_numbered(progress, number, counts),
                cancel=cancel,
            )
            inside = found.labels > 0
            labels[inside] = found.labels[inside].astype(labels.dtype) + before
            before += len(part.card.segments)
            plans += [found.provenance.memory_plan] if found.provenance else []
        if found is None:
            raise ModelError(f"the model {self.card.name} joins nothing")
        provenance = found.provenance and replace(
            found.provenance,
            model=self.card.name,
            version=self.card.version,
            weights_sha256=self.weights_sha256,
            card_sha256=self.card.sha256,
            memory_plan=" + ".join(dict.fromkeys(plans)),
        )
        return replace(found, labels=labels, segments=self.card.segments, provenance=provenance)

    def _plans(self, volume: Volumes, limit: int | None) -> list[MemoryPlan]:
        return [part.plan(volume, memory_limit_bytes=limit) for part in self._parts]

    def _no_labels(self, volume: Volumes) -> np.ndarray:
        shape = channels_of(volume, self.card.input, self.card.name)[0].voxels.shape
        return np.zeros(shape, np.uint8 if len(self.card.segments) < 256 else np.uint16)


def _less(limit: int | None, count: int) -> int | None:
    return None if limit is None else max(0, limit - count)


def _numbered(progress: ProgressCallback | None, number: int, counts: Sequence[int]) -> ProgressCallback | None:
    """Return a callback that counts the windows of all parts, and says which of these it is that is running."""
    if progress is None:
        return None
    reached = before = sum(counts[: number - 1])

    def show(event: Progress) -> None:
        nonlocal reached
        if event.unit == "windows":
            reached = max(reached, before + event.completed)
        message = f"part {number} of {len(counts)}, {event.message}"
        progress(replace(event, completed=reached, total=sum(counts), unit="windows", message=message))

    return show
