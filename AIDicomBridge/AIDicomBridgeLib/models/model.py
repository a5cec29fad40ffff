"""A model that is ready to run, and its run: plan, prepare, network, labels, clean-up."""

import gc
import math
import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BodyPartError, MemoryLimitError, ModelError
from ..free_memory import free_memory
from ..inference.channels import channels_of
from ..inference.device import is_out_of_memory
from ..inference.ensemble import Ensemble
from ..inference.kept_memory import freed_memory_kept
from ..inference.label_rows import LabelRows
from ..inference.memory_plan import MemoryPlan, Task, choose_plan, leaner_plan, possible_plans
from ..inference.postprocessing import clean_up
from ..inference.preparation import Framing, frame, network_input
from ..inference.rules import InputRules, WindowRules
from ..inference.sliding_window import count_windows, padded_shape, run_windows
from ..inference.windows import Triple
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from ..results.labels import LabelVolume, Provenance
from ..series.regular_grid import labels_on_slices, regular_volume
from ..series.volume import ImageVolume
from .card import ModelCard
from .procedures import PROCEDURES, RunContext

if TYPE_CHECKING:
    import torch

Volumes = ImageVolume | Sequence[ImageVolume]
GPU_BATCH = 4  # windows at once where memory allows; on the CPU one at a time is as quick


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
        SHA-256 of the weights, or of the card for a model without weights.
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
        """Raise if PET is in another unit than the network was trained on: the labels would only look like some."""
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

    def plan(
        self, volume: Volumes, *, probabilities: bool = False, memory_limit_bytes: int | None = None
    ) -> MemoryPlan | None:
        """Return how the model would run on a volume and the memory that it would need, without running it.

        Parameters
        ----------
        probabilities
            As for :meth:`segment`.
        memory_limit_bytes
            Use no more than this on the device nor of the machine's memory, even if more is free.

        Returns
        -------
        MemoryPlan or None
            None for rules, which need little more than the volume.

        Raises
        ------
        MemoryLimitError
            Nothing fits; the text has the numbers.
        """
        if self.card.input is None or self.card.windows is None or self.card.procedure:
            return None
        volumes = channels_of(volume, self.card.input, self.card.name)
        framing = frame([regular_volume(channel) for channel in volumes], self.card.input)
        return choose_plan(self._plans(framing, probabilities, memory_limit_bytes))

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
                labels, shares, plan = self._run(all_seen, probabilities, memory_limit_bytes, progress, cancel)
        voxel_ml = abs(float(np.linalg.det(seen.ijk_to_lps[:3, :3]))) / 1000
        for cleanup in self.card.cleanups:
            check_cancel(cancel)
            labels = clean_up(labels, cleanup, voxel_ml)
        provenance = Provenance(
            model=self.card.name,
            version=self.card.version,
            learned=self.card.learned,
            weights_sha256=self.weights_sha256,
            device=str(self.device),
            precision=str(self.precision).removeprefix("torch."),
            not_for_diagnostic_use=self.card.not_for_diagnostic_use,
            memory_plan=plan.describe() if plan else "",
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

    def _run(
        self,
        volumes: Sequence[ImageVolume],
        probabilities: bool,
        limit: int | None,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> tuple[np.ndarray, np.ndarray | None, MemoryPlan | None]:
        if self.card.procedure:
            context = RunContext(self.card, self.device, dict(self._networks), progress, cancel)
            if self.card.network is not None:
                self._network()  # not released
            if probabilities:
                self.refuse_probabilities()
            with freed_memory_kept():
                return PROCEDURES[self.card.procedure](volumes[0], context), None, None
        self._network()
        report(progress, "segment", 0, None, "windows", "preparing")
        framing = frame(volumes, self._input_rules())
        plans = self._plans(framing, probabilities, limit)
        plan: MemoryPlan | None = choose_plan(plans)
        while plan is not None:
            try:
                with freed_memory_kept(plan.keeps_freed):
                    rows = self._label(volumes, framing, plan, probabilities, progress, cancel)
                return self._on_source(rows, framing, plan)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, where the error's frames no longer hold the tensors.
            gc.collect()
            if self.device.type == "cuda":
                import torch

                torch.cuda.empty_cache()
            failed, plan = plan, leaner_plan(plans, plan)
            if plan is not None:
                report(progress, "segment", 0, plan.window_count, "windows", plan.notes[-1])
        raise MemoryLimitError(
            f"the memory of {self.device} did not suffice even for {failed.describe()}",
            advice="Close other programs, use another device, or choose a series that covers less of the body.",
        )

    def _label(
        self,
        volumes: Sequence[ImageVolume],
        framing: Framing,
        plan: MemoryPlan,
        probabilities: bool,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> LabelRows:
        """Run the network as planned; return the rows with the labels of the framing's box."""
        import torch

        card, network = self.card, self._network()
        task = self._task(framing, probabilities)
        decision = card.decision
        if card.input is None or card.windows is None or decision is None:
            raise ModelError(f"the model {card.name} has no network")
        rows = LabelRows(
            decision,
            framing.grid,
            framing.box_shape,
            axis=task.axis,
            nearest_axis=framing.labels_nearest_axis,
            probability_labels=tuple(s.label for s in card.segments) if probabilities else (),
        )
        tensor = network_input(volumes, card.input, framing, torch.device(plan.accumulator_device))
        check_cancel(cancel)
        if card.windows.patch:
            predict = partial(network, cancel=cancel)
            run_windows(predict, tensor, rows, card.windows, task.patch, plan, progress=progress, cancel=cancel)
            return rows
        outputs = network.whole(tensor.to(self.device), progress, cancel)
        if outputs.shape != (len(decision.values), *framing.grid):
            raise ModelError(
                f"the network gives {tuple(outputs.shape)} and the card says {len(decision.values)} channels of "
                f"{framing.grid}"
            )
        rows.put(outputs)
        return rows

    def _on_source(
        self, rows: LabelRows, framing: Framing, plan: MemoryPlan
    ) -> tuple[np.ndarray, np.ndarray | None, MemoryPlan]:
        shares = rows.probabilities
        if shares is not None:
            shares = np.stack([framing.on_source_grid(share) for share in shares])
        return framing.on_source_grid(rows.labels), shares, plan

    def _plans(self, framing: Framing, probabilities: bool, limit: int | None) -> list[MemoryPlan]:
        import torch

        network, rules = self._network(), self._input_rules()
        task = self._task(framing, probabilities)
        found: dict[int, tuple[int, bool]] = {}

        def activations(batch: int) -> int:
            found[batch] = found.get(batch) or network.activations(batch, rules.channels, task.patch)
            return found[batch][0]

        on_gpu = self.device.type == "cuda"
        largest = min(GPU_BATCH, task.window_count) if on_gpu else 1
        _, dry = found[1] = network.activations(1, rules.channels, task.patch)
        return possible_plans(
            task,
            device=self.device,
            precision=self.precision,
            activations=activations,
            device_available=_lower(free_memory(self.device) if on_gpu else None, limit),
            host_available=_lower(free_memory(torch.device("cpu")), limit),
            largest_batch=1 << (max(1, largest).bit_length() - 1),
            notes=(*self._ways(network), *(() if dry else ("layers' memory estimated from the window",))),
        )

    def _task(self, framing: Framing, probabilities: bool) -> Task:
        windows = self.card.windows or WindowRules()
        patch = self._patch(framing.grid, windows)
        decision = self.card.decision
        return Task(
            source_voxels=math.prod(framing.source_shape),
            box=framing.box_shape,
            grid=padded_shape(framing.grid, patch),
            patch=patch,
            classes=len(decision.values) if decision else 1,
            window_count=count_windows(framing.grid, patch, windows),
            whole=not windows.patch,
            channels=self._input_rules().channels,
            probabilities=len(self.card.segments) if probabilities else 0,
            weights_bytes=self._network().weights_bytes,
        )

    def _patch(self, grid: Triple, windows: WindowRules) -> Triple:
        """Return (d, h, w) of a window: one slice for a 2D network, the grid itself where it is seen whole."""
        if not windows.patch:
            return grid
        first, second, third = (1,) * (3 - len(windows.patch)) + windows.patch
        return first, second, third

    def _ways(self, network: Ensemble) -> list[str]:
        """Return what else two runs may differ by: the folds, mirroring, and how windows overlap."""
        rules, count = self.card.windows or WindowRules(), len(network.members)
        said = [f"overlap {rules.overlap:g} {rules.tiling} {rules.importance}"] if rules.patch else []
        said += [f"{count} networks"] if count > 1 else []
        return [*said, "mirrored"] if network.forwards > count else said

    def _network(self) -> Ensemble:
        found = self._networks.get("network")
        if found is None:
            raise ModelError(f"the model {self.card.name} was released", advice="Load it again.")
        return found

    def _input_rules(self) -> InputRules:
        if self.card.input is None:
            raise ModelError(f"the model {self.card.name} has no network")
        return self.card.input

    def _random_devices(self) -> list[int]:
        return [self.device.index or 0] if self.device.type == "cuda" else []


def _lower(first: int | None, second: int | None) -> int | None:
    return min((value for value in (first, second) if value is not None), default=None)
