"""torch's compiler gives what the network gives, once for all windows of a shape."""

import shutil

import pytest
import torch
from AIDicomBridgeLib.inference.ensemble import Ensemble

CPU = torch.device("cpu")


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler is installed")
def test_a_compiled_network_gives_the_same_labels_and_is_compiled_once() -> None:
    from torch._dynamo.utils import counters

    torch.manual_seed(1)
    layers = [torch.nn.Conv3d(1, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(5, 5, 3, padding=2, dilation=2)]
    network = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Conv3d(5, 3, 1)).eval()
    plain, compiled = (Ensemble([network], CPU, torch.float32, compiled=asked) for asked in (False, True))
    counters.clear()
    with torch.inference_mode():
        for _ in range(3):
            window = torch.randn(1, 1, 16, 16, 16)
            agreement = (plain(window).argmax(1) == compiled(window).argmax(1)).float().mean()
            assert agreement >= 0.9999
    assert counters["stats"]["unique_graphs"] == 1
