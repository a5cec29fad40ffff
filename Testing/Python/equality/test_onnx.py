"""An ONNX file gives what the torch network gives that it was made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.errors import WeightsError
from AIDicomBridgeLib.models.onnx_network import load_onnx

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra peers)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra peers)")


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

    found = load_onnx(model.SerializeToString(), torch.device("cpu"))(windows)

    expected = torch.nn.functional.conv3d(windows, torch.from_numpy(weight), padding=1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(WeightsError, match="no ONNX file"):
        load_onnx(b"nothing", torch.device("cpu"))
