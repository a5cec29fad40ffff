"""The loop by AIDicomBridgeLib, as its job runs it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from AIDicomBridgeLib import (
    DimseEndpoint,
    InstanceStore,
    LabelVolume,
    Outbox,
    build_segmentation,
    connect,
    read_volume,
)
from AIDicomBridgeLib.delivery.deliver import deliver

NAME = "AIDicomBridge"


class Loop:
    """One pass; each method is a stage and leaves its result in an attribute."""

    def __init__(self, endpoint: DimseEndpoint, labels: LabelVolume, folder: Path, core: Any) -> None:
        self.endpoint, self.labels, self.core = endpoint, labels, core
        self.folder = folder
        self.folder.mkdir()

    def retrieve(self) -> None:
        """C-GET of the series into an instance store, counted against the peer's own list."""
        with InstanceStore(self.folder / "store") as store, connect(self.endpoint) as client:
            report = client.retrieve(self.labels.source.study_uid, self.labels.source.series_uid, into=store)
            self.paths = [instance.path for instance in store]
        if not report.complete:
            raise RuntimeError(f"{len(report.failed)} instances did not arrive")

    def volume(self) -> None:
        """Checked series, int16 voxels in Hounsfield units."""
        self.image = read_volume(self.paths)
        self.voxels = self.image.voxels

    def tensor(self) -> None:
        """A float32 tensor of the volume, NCDHW."""
        import torch

        self.tensor_ncdhw = torch.from_numpy(self.voxels)[None, None].float()

    def nodes(self) -> None:
        """A volume node and a segmentation node, both over the arrays that are already there."""
        from AIDicomBridgeLib.mrml.segmentation_node import segmentation_node_from
        from AIDicomBridgeLib.mrml.volume_node import volume_node_from

        volume = volume_node_from(self.image, self.core.scene)
        self.node = segmentation_node_from(self.labels, self.core.scene, volume_node=volume)

    def segmentation(self) -> None:
        """A BINARY SEG, durably in the outbox."""
        self.labels = replace(self.labels, source=self.image.source)
        self.outbox = Outbox(self.folder / "outbox")
        (delivery,) = self.outbox.put([build_segmentation(self.labels)], self.endpoint.address)
        self.path = delivery.path

    def send(self) -> None:
        """C-STORE, then retrieve it again and compare: the proof of arrival is part of the time."""
        kept = self.folder / "segmentation.dcm"
        kept.hardlink_to(self.path)  # the outbox lets go of what has arrived
        self.path = kept
        report = deliver(self.outbox, self.endpoint)
        if not report.complete:
            raise RuntimeError(f"the segmentation was not delivered: {report.error or report.remaining[0].reason}")

    def segment_voxels(self) -> list[int]:
        """Return how many voxels the node has in each segment."""
        from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from

        counts = np.bincount(label_volume_from(self.node, self.labels.source).labels.ravel())
        return [int(counts[segment.label]) for segment in self.labels.segments]
