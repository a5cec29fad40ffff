"""A model that is ready to run: what it refuses, its run on a volume, and what the result says of it."""

import gc
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BodyPartError, ModelError
from ..inference.channels import channels_of
from ..inference.ensemble import Ensemble
from ..inference.memory_plan import MemoryPlan
from ..inference.postprocessing import clean_up
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..results.labels import LabelVolume, Provenance
from ..series.pixel_format import is_hounsfield, rescale_type
from ..series.regular_grid import labels_on_slices, regular_volume
from ..series.volume import ImageVolume
from .card import ModelCard
from .network_run import NetworkRun
from .procedures import ProcedureRun

if TYPE_CHECKING:
    import torch

Volumes = ImageVolume | Sequence[ImageVolume]
Run = NetworkRun | ProcedureRun


class Model:
    """A model that is ready to run; made by :func:`.loading.load_model`. Its weights stay loaded between volumes.

    One volume is segmented at a time; a second thread waits.

    Attributes
    ----------
    card
        What the model is.
    device, precision
        Where and how it runs.
    weights_sha256
        SHA-256 of the weights; empty for a model without weights.
    """

    def __init__(
        self,
        card: ModelCard,
        device: "torch.device",
        precision: "torch.dtype",
        networks: dict[str, Ensemble],
        weights_sha256: str,
    ) -> None:
        self.card = card
        self.device = device
        self.precision = precision
        self.weights_sha256 = weights_sha256
        self._networks = networks
        self._lock = threading.Lock()

    def release(self) -> None:
        """Give back the memory of the weights; the model cannot run afterwards."""
        import torch

        with self._lock:
            self._networks.clear()
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def refuse_unfit(self, volume: ImageVolume, *, any_body_part: bool = False) -> None:
        """Raise :class:`ModelError` if the card does not allow the volume's modality, unit or body part."""
        if volume.modality not in self.card.modalities:
            raise ModelError(
                f"the model {self.card.name} works on {' and '.join(self.card.modalities)}, not on {volume.modality}",
                uid=volume.source.series_uid,
                advice="Choose another series or model.",
            )
        self._refuse_unit(volume)
        body_part = str(volume.source.headers[0].get("BodyPartExamined", "") or "").upper()
        fits = not self.card.body_parts or not body_part or any(part in body_part for part in self.card.body_parts)
        if not fits and not any_body_part:
            raise BodyPartError(
                f"the model {self.card.name} works on {', '.join(self.card.body_parts)}, "
                f"and the series says {body_part}",
                uid=volume.source.series_uid,
                advice="Choose another series or model; if the header is wrong, allow any body part (--any-body-part).",
            )

    def _refuse_unit(self, volume: ImageVolume) -> None:
        """Raise if the values are in another unit than the network knows: its labels would only look like some.

        Every model for CT takes Hounsfield units.
        """
        header = volume.source.headers[0]
        if volume.modality == "CT" and not is_hounsfield(header):
            raise ModelError(
                f"the model {self.card.name} works on CT in Hounsfield units, and the series states another unit: "
                f"Rescale Type {rescale_type(header)[:16]}",
                uid=volume.source.series_uid,
                advice="Choose a series of the study whose values are in Hounsfield units (Rescale Type HU).",
            )
        rules = self.card.input
        if volume.modality != "PT" or rules is None or rules.suv is (volume.suv is not None):
            return
        if rules.suv is None:
            if volume.suv is not None:  # the person has said it
                return
            what = f"it is not known if the model {self.card.name} was trained on PET as SUV"
            advice = "Ask for SUV (--suv), or say 'suv = true' or 'suv = false' in the card's [input]."
        elif rules.suv:
            what = f"the model {self.card.name} was trained on PET as SUV, and the volume is in its series' own unit"
            advice = "Read it as SUV (--suv)."
        else:
            what = f"the model {self.card.name} was trained on PET in the series' own unit, and the volume is in SUV"
            advice = "Read it without SUV."
        raise ModelError(what, uid=volume.source.series_uid, advice=advice)

    def refuse_probabilities(self) -> None:
        """Raise :class:`ModelError` if the model cannot give probabilities."""
        if self.card.procedure:
            raise ModelError(
                f"the model {self.card.name} gives labels only, no probabilities: its procedure cleans up labels, and "
                "the network's probabilities would not agree with what is left",
                advice="Ask for a BINARY or LABELMAP segmentation, or use a model without a procedure of its own.",
            )
        decision = self.card.decision
        if self.card.kind == "nnunet" and decision is not None and decision.activation == "sigmoid":
            raise ModelError(
                f"the model {self.card.name} gives labels only, no probabilities: it was trained on regions within "
                "regions, its labels are what the inner ones leave of the outer ones, and the probability of a whole "
                "region is not that of what is left of it",
                advice="Ask for a BINARY or LABELMAP segmentation.",
            )

    def plan(
        self, volume: Volumes, *, probabilities: bool = False, memory_limit_bytes: int | None = None
    ) -> MemoryPlan:
        """Return how the model would run on a volume and the memory that it would need, without running it.

        Parameters
        ----------
        probabilities
            As for :meth:`segment`.
        memory_limit_bytes
            Use no more than this on the device nor of the machine's memory, even if more is free.

        Raises
        ------
        MemoryLimitError
            Nothing fits; the text has the numbers.
        ModelError
            The model was released, or has no probabilities.
        """
        volumes = [regular_volume(channel) for channel in channels_of(volume, self.card.input, self.card.name)]
        return self._run_on(volumes, probabilities, memory_limit_bytes).plan()

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
        """Return the labels of a volume, on the volume's own grid.

        Parameters
        ----------
        volume
            For a model of several input channels their volumes, in the order of its card, of one study and on one
            grid; the result refers to the images of the first and names the other series in its provenance.
        any_body_part
            Run also where the header names a body part that is not on the card.
        probabilities
            Give each segment's probabilities too: float16 (segment, k, j, i), 2 bytes a voxel and segment, in the
            order of the labels. They are the network's, before the clean-up that the card asks for.
        memory_limit_bytes
            As for :meth:`plan`.
        seed
            For networks that draw random numbers: the same seed on the same device gives the same labels.

        Raises
        ------
        ModelError
            The card does not allow the volume's modality, unit or body part, the number of volumes is not that of its
            channels, or the network gives something else than the card says, or no numbers.
        ConflictError, GeometryError
            Several volumes are not of one study, or not on one grid.
        MemoryLimitError
            The memory does not suffice; said before the run, or after every step down.
        JobCancelled
            ``cancel`` was called; it takes effect after the current window, or layer.
        """
        import torch

        volumes = channels_of(volume, self.card.input, self.card.name)
        for channel in volumes:
            self.refuse_unfit(channel, any_body_part=any_body_part)
        all_seen = [regular_volume(channel) for channel in volumes]
        volume, seen = volumes[0], all_seen[0]
        with self._lock, torch.inference_mode(), torch.random.fork_rng(self._random_devices()):
            torch.manual_seed(seed)
            # Without the last one a GPU computes float32 with the digits of float16.
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                run = self._run_on(all_seen, probabilities, memory_limit_bytes)
                labels, shares, plan = run.labels(progress, cancel)
        voxel_ml = abs(float(np.linalg.det(seen.ijk_to_lps[:3, :3]))) / 1000
        for number, cleanup in enumerate(self.card.cleanups):
            check_cancel(cancel)
            report(progress, "segment", number, len(self.card.cleanups), "labels", "cleaning up")
            labels = clean_up(labels, cleanup, voxel_ml)
        provenance = Provenance(
            model=self.card.name,
            version=self.card.version,
            learned=self.card.learned,
            weights_sha256=self.weights_sha256,
            card_sha256=self.card.sha256,
            device=str(self.device),
            precision=str(self.precision).removeprefix("torch."),
            not_for_diagnostic_use=self.card.not_for_diagnostic_use,
            memory_plan=plan.describe(),
            manufacturer=self.card.manufacturer,
            further_series=tuple(channel.source.series_uid for channel in volumes[1:]),
            suv=" and ".join(dict.fromkeys(channel.suv.describe() for channel in volumes if channel.suv)),
        )
        if shares is not None and volume.source.irregularity:
            shares = np.stack([labels_on_slices(share, volume.source) for share in shares])
        return LabelVolume(
            labels_on_slices(labels, volume.source),
            self.card.segments,
            source=volume.source,
            ijk_to_lps=volume.ijk_to_lps,
            probabilities=shares,
            provenance=provenance,
        )

    def _run_on(self, volumes: Sequence[ImageVolume], probabilities: bool, limit: int | None) -> Run:
        """Return the run of the model on these volumes, not started; ModelError if the model was released."""
        networks = dict(self._networks)
        if self.card.network is not None and "network" not in networks:
            raise ModelError(f"the model {self.card.name} was released", advice="Load it again.")
        if probabilities:
            self.refuse_probabilities()
        if not self.card.procedure:
            return NetworkRun(self.card, networks["network"], volumes, probabilities, limit)
        return ProcedureRun(self.card.procedure, networks, self.device, self.precision, volumes[0], limit)

    def _random_devices(self) -> list[int]:
        return [self.device.index or 0] if self.device.type == "cuda" else []
