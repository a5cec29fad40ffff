"""An ONNX file gives what the torch network gives that it was made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.errors import WeightsError
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.models.onnx_network import load_onnx

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra peers)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra peers)")

CPU = torch.device("cpu")


def test_an_onnx_convolution_gives_what_torch_gives(tmp_path: Path):
    weight = np.random.default_rng(0).normal(size=(2, 1, 3, 3, 3)).astype(np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 6)],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 1, "d", "h", "w_"])],
        [helper.make_tensor_value_info("y", kind, ["n", 2, "d", "h", "w_"])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    windows = torch.randn(2, 1, 6, 7, 8)

    found = Ensemble([load_onnx(model.SerializeToString(), CPU)], CPU, torch.bfloat16)(windows)

    expected = torch.nn.functional.conv3d(windows, torch.from_numpy(weight), padding=1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(WeightsError, match="no ONNX file"):
        load_onnx(b"nothing", CPU)


def test_weights_in_another_file_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weight = np.ones((2, 1, 1, 1, 1), np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 1, 2, 2, 2])],
        [helper.make_tensor_value_info("y", kind, [1, 2, 2, 2, 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    whole = model.SerializeToString()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").is_file()
    monkeypatch.chdir(tmp_path)  # the card's hash does not cover what lies here
    with pytest.raises(WeightsError, match="needs another file"):
        load_onnx((tmp_path / "m.onnx").read_bytes(), CPU)
    ensemble = Ensemble([load_onnx(whole, CPU)], CPU, torch.float32)
    assert ensemble(torch.ones(3, 1, 2, 2, 2)).shape == (3, 2, 2, 2, 2)  # exported for one window
