"""The same labels as MONAI's sliding_window_inference gives, on its settings."""

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.label_rows import LabelRows
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan
from AIDicomBridgeLib.inference.rules import Decision, WindowRules
from AIDicomBridgeLib.inference.sliding_window import run_windows

pytest.importorskip("monai", reason="monai is not installed (extra peers)")


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("shape", "roi", "overlap"), [((37, 29, 41), (16, 16, 16), 0.25), ((20, 33, 12), (16, 24, 16), 0.5)]
)
def test_labels_equal_those_of_monai(shape, roi, overlap, mode):
    from monai.inferers import sliding_window_inference

    torch.manual_seed(2)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1), torch.nn.InstanceNorm3d(6), torch.nn.Conv3d(6, 4, 3, padding=1)
    ).eval()
    tensor = torch.randn(1, *shape)
    with torch.inference_mode():
        expected = sliding_window_inference(tensor[None], roi, 1, network, overlap=overlap, mode=mode)[0].argmax(0)
        rows = LabelRows(Decision((0, 1, 2, 3)), shape, shape, axis=2)
        run_windows(
            Ensemble([network], torch.device("cpu"), torch.float32),
            tensor,
            rows,
            WindowRules(roi, overlap, "monai", mode),
            roi,
            MemoryPlan("cpu", "float32", 2, "cpu", "float32", shape, roi, 1, 0, 0),
        )
    assert float((torch.from_numpy(rows.labels) == expected).float().mean()) >= 0.9999
    assert len(np.unique(rows.labels)) == 4
