"""From a card to something that segments: :func:`load_model`."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BodyPartError, ModelError
from ..inference.components import keep_largest_component
from ..inference.device import choose_device, choose_precision
from ..inference.whole_volume import labels_on_source_grid, network_input, refuse_if_too_large, run_whole_volume
from ..progress import CancelToken, ProgressCallback, check_cancel
from ..results.labels import LabelVolume, Provenance
from ..series.regular_grid import labels_on_slices, regular_volume
from ..series.volume import ImageVolume
from .card import ModelCard
from .catalogue import Catalogue
from .ct_tissues import label_tissues
from .meshnet import build_meshnet
from .weights import WeightsFolder

if TYPE_CHECKING:
    import torch


class Model:
    """A model that is ready to run; made by :func:`load_model`. Its weights stay loaded between volumes.

    Attributes
    ----------
    card
        What the model is.
    device, precision
        Where and how it runs.
    """

    def __init__(
        self, card: ModelCard, device: "torch.device", precision: "torch.dtype", network: "torch.nn.Sequential | None"
    ) -> None:
        self.card = card
        self.device = device
        self.precision = precision
        self._network = network

    def segment(
        self,
        volume: ImageVolume,
        *,
        any_body_part: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> LabelVolume:
        """Return the labels of a volume, on the volume's own grid.

        Parameters
        ----------
        any_body_part
            Run also where the header names a body part that is not on the card.

        Raises
        ------
        ModelError
            The card does not allow the volume's modality or body part, or the memory does not suffice.
        JobCancelled
            ``cancel`` was called; it takes effect after the current layer.
        """
        if volume.modality not in self.card.modalities:
            raise ModelError(
                f"the model {self.card.name} works on {' and '.join(self.card.modalities)}, not on {volume.modality}",
                uid=volume.source.series_uid,
                advice="Choose another series or model.",
            )
        body_part = str(volume.source.headers[0].get("BodyPartExamined", "") or "").upper()
        fits = not self.card.body_parts or not body_part or any(part in body_part for part in self.card.body_parts)
        if not fits and not any_body_part:
            raise BodyPartError(
                f"the model {self.card.name} works on {', '.join(self.card.body_parts)}, "
                f"and the series says {body_part}",
                uid=volume.source.series_uid,
                advice="Choose another series or model; if the header is wrong, allow any body part (--any-body-part).",
            )
        seen = regular_volume(volume)
        labels = self._labels(seen, progress, cancel)
        for value in self.card.largest_component_labels:
            check_cancel(cancel)
            labels = keep_largest_component(labels, value)
        provenance = Provenance(
            model=self.card.name,
            version=self.card.version,
            learned=self.card.learned,
            weights_sha256=self.card.weights.sha256 if self.card.weights else self.card.sha256,
            device=str(self.device),
            precision=str(self.precision).removeprefix("torch."),
            not_for_diagnostic_use=self.card.not_for_diagnostic_use,
        )
        return LabelVolume(
            labels_on_slices(labels, seen, volume),
            self.card.segments,
            source=volume.source,
            ijk_to_lps=volume.ijk_to_lps,
            provenance=provenance,
        )

    def _labels(self, volume: ImageVolume, progress: ProgressCallback | None, cancel: CancelToken | None) -> np.ndarray:
        if self._network is None or self.card.input is None or self.card.network is None:
            return label_tissues(volume, self.device, progress=progress, cancel=cancel)
        tensor, orientation = network_input(volume, self.card.input)
        refuse_if_too_large(tensor.numel(), self.card.network, self.device, self.precision)
        logits = run_whole_volume(
            self._network, tensor, device=self.device, precision=self.precision, progress=progress, cancel=cancel
        )
        return labels_on_source_grid(logits, orientation, volume.voxels.shape)


def load_model(
    name_or_card_or_path: str | ModelCard | Path,
    device: str = "auto",
    *,
    catalogue: Catalogue | None = None,
    weights_folder: WeightsFolder | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    name_or_card_or_path
        A name of the catalogue, a card, or the path of a card (``*.toml``).
    device
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    catalogue, weights_folder
        The shipped cards and the user's weights folder where not given.

    Raises
    ------
    ModelError
        The name, card or device cannot be used.
    WeightsError
        The weights are missing or not the ones that the card names; nothing is fetched here.
    """
    if isinstance(name_or_card_or_path, ModelCard):
        card = name_or_card_or_path
    elif str(name_or_card_or_path).endswith(".toml"):
        card = ModelCard.from_file(name_or_card_or_path)
    else:
        card = (catalogue or Catalogue.load())[str(name_or_card_or_path)]
    target = choose_device(device)
    if card.network is None:
        if card.procedure != "ct_tissues":
            raise ModelError(f"the card {card.name} names the unknown procedure '{card.procedure}'")
        import torch

        return Model(card, target, torch.float32, None)
    content = (weights_folder or WeightsFolder.default()).verified(card)
    return Model(card, target, choose_precision(target), build_meshnet(card.network, content))
