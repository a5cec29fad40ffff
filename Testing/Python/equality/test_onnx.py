"""An ONNX file gives what the torch network gives that it was made of, in the memory that was planned."""

import gc
import hashlib
import os
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import load_model
from AIDicomBridgeLib.errors import DependencyError, JobCancelled, WeightsError
from AIDicomBridgeLib.inference.activation_memory import HEADROOM
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.kept_memory import freed_memory_kept
from AIDicomBridgeLib.inference.rules import Decision
from AIDicomBridgeLib.models import onnx_graph, onnx_network
from AIDicomBridgeLib.models.card import WeightsFile
from AIDicomBridgeLib.models.onnx_network import load_onnx, onnx_device
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.progress import CancelToken
from AIDicomBridgeLib.series.volume import read_volume
from memory_of_runs import PEAK_IS_RESET_BY, status
from synthetic import body_phantom, make_series, save_series
from toy_card import own_card

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra peers)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra peers)")

CPU = torch.device("cpu")
NO_ARRAYS = 8e6  # bytes of threads, gaps and small objects
KEPT_FOR_A_THREAD = 64 << 20  # by glibc at most
ANY = ["n", 1, "d", "h", "w_"]


def saved(nodes: list, given: list[int | str], found: list[int | str], weights: dict[str, np.ndarray]) -> bytes:
    """Return an ONNX file of nodes from x to y."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, given)],
        [helper.make_tensor_value_info("y", kind, found)],
        [onnx.numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def unet(width: int, given: list[int | str]) -> bytes:
    """Return a U-Net of two levels."""
    node, weights = onnx.helper.make_node, {}

    def weight(name: str, *shape: int) -> str:
        weights[name] = np.full(shape, 0.1, np.float32)
        return name

    nodes = [
        node("Conv", ["x", weight("w1", width, 1, 3, 3, 3)], ["a"], pads=[1] * 6),
        node("InstanceNormalization", ["a", weight("s", width), weight("b", width)], ["n"]),
        node("LeakyRelu", ["n"], ["kept"]),
        node("Conv", ["kept", weight("w2", 2 * width, width, 3, 3, 3)], ["d"], pads=[1] * 6, strides=[2] * 3),
        node("ConvTranspose", ["d", weight("w3", 2 * width, width, 2, 2, 2)], ["u"], strides=[2] * 3),
        node("Concat", ["kept", "u"], ["joined"], axis=1),
        node("Conv", ["joined", weight("w4", 2, 2 * width, 1, 1, 1)], ["y"]),
    ]
    return saved(nodes, given, [given[0], 2, *given[2:]], weights)


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


def test_of_several_outputs_of_a_graph_the_one_that_the_card_means_is_taken():
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    channels = {"x": 1, "features": 3, "logits": 2}
    given, *found = [helper.make_tensor_value_info(name, kind, ["n", n, "d", "h", "w"]) for name, n in channels.items()]
    nodes = [helper.make_node("Concat", ["x"] * channels[item.name], [item.name], axis=1) for item in found]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], found), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    outputs = Ensemble([load_onnx(model.SerializeToString(), CPU)], CPU, torch.float32, classes=2)(
        torch.ones(1, 1, 4, 4, 4)
    )
    assert outputs.shape == (1, 2, 4, 4, 4)


def test_a_graph_runs_on_the_cpu_where_onnxruntime_knows_no_gpu_and_says_so(monkeypatch: pytest.MonkeyPatch):
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert onnx_device(gpu, chosen=False) == CPU
    with pytest.raises(DependencyError, match=r"to run a network on cuda:1\. Install onnxruntime-gpu"):
        onnx_device(gpu, chosen=True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert onnx_device(gpu, chosen=True) == gpu


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


@pytest.mark.parametrize("given", [ANY, [1, 1, 48, 64, 64]])
def test_what_a_graph_holds_is_known_before_it_runs(given: list[int | str]):
    width, shape = 8, (1, 1, 48, 64, 64)
    ensemble, voxels = Ensemble([load_onnx(unet(width, given), CPU)], CPU, torch.float32), 48 * 64 * 64

    found, known = ensemble.activations(1, 1, shape[2:])

    assert known
    # What is kept and what comes up, joined; or what comes up, its parts before they are added, and what it comes of.
    assert found / HEADROOM == pytest.approx(4 * voxels * 4 * width, rel=0.15)


@pytest.mark.skipif(not os.access(PEAK_IS_RESET_BY, os.W_OK), reason=f"{PEAK_IS_RESET_BY} is not there to be written")
def test_a_graph_takes_no_more_than_was_planned_and_gives_it_back():
    windows = torch.randn(1, 1, 64, 96, 96)
    ensemble = Ensemble([load_onnx(unet(16, ANY), CPU)], CPU, torch.float32)
    ensemble(windows[..., :16, :16])
    planned, _ = ensemble.activations(1, 1, windows.shape[2:])
    PEAK_IS_RESET_BY.write_text("5")
    before = status("VmRSS")
    with freed_memory_kept():  # as a run does
        outputs = ensemble(windows)
    peak, after = status("VmHWM") - before, status("VmRSS") - before
    assert peak < 1.4 * planned + NO_ARRAYS  # what lies unused between blocks included
    assert planned < 2 * peak
    assert after < outputs.nbytes + KEPT_FOR_A_THREAD + NO_ARRAYS


def of_unknown_shapes(weight: np.ndarray, found: list[int | str]) -> bytes:
    """Return a graph that convolves, beside something of as many values as the volume has that are not 0."""
    node = onnx.helper.make_node
    nodes = [node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["f"], to=1), node("ReduceSum", ["f"], ["t"])]
    nodes += [node("Mul", ["t", "none"], ["z"]), node("Reshape", ["z", "one"], ["r"])]
    nodes += [node("Add", ["x", "r"], ["s"]), node("Conv", ["s", "w"], ["y"])]
    return saved(nodes, ANY, found, {"w": weight, "none": np.zeros(1, np.float32), "one": np.ones(1, np.int64)})


def test_a_graph_of_shapes_that_only_a_run_tells_is_estimated():
    for width, channels in ((1, 96), (32, 320)):
        content = of_unknown_shapes(np.ones((width, 1, 1, 1, 1), np.float32), ["n", width, "d", "h", "w_"])
        ensemble = Ensemble([load_onnx(content, CPU)], CPU, torch.float32)
        assert ensemble.activations(1, 1, (4, 4, 4)) == (channels * 4 * 4**3, False)


def test_what_cannot_be_predicted_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    content = of_unknown_shapes(np.ones((2, 1, 1, 1, 1), np.float32), ["n", 2, "d", "h", "w_"])
    ensemble, tried = Ensemble([load_onnx(content, CPU)], CPU, torch.float32), []

    def counted(*given) -> int:
        tried.append(given)
        return onnx_graph.forward_bytes(*given)

    monkeypatch.setattr(onnx_network, "forward_bytes", counted)
    assert ensemble.activations(1, 1, (4, 4, 4)) == ensemble.activations(1, 1, (4, 4, 4))
    assert len(tried) == 1


def test_a_graph_is_freed_as_soon_as_nobody_holds_it():
    member = load_onnx(unet(2, ANY), CPU)
    Ensemble([member], CPU, torch.float32)(torch.ones(1, 1, 8, 8, 8))
    session = weakref.ref(member.network.session)
    gc.disable()
    try:
        del member
        assert session() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("told", [True, False])
def test_a_result_says_if_the_memory_was_known_or_estimated(tmp_path: Path, told: bool):
    content = (
        unet(4, ANY) if told else of_unknown_shapes(np.ones((2, 1, 1, 1, 1), np.float32), ["n", 2, "d", "h", "w_"])
    )
    (tmp_path / "own.onnx").write_bytes(content)
    weights = WeightsFile("own.onnx", len(content), hashlib.sha256(content).hexdigest(), "onnx")
    card = own_card(tmp_path)
    card = replace(card, segments=card.segments[:1], decision=Decision((0, 1)), weights=weights)
    volume = read_volume(save_series(make_series(body_phantom((8, 20, 20))), tmp_path / "s"))
    model = load_model(card, "cpu", weights_folder=WeightsFolder(tmp_path))

    provenance = model.segment(volume, any_body_part=True).provenance

    assert provenance is not None
    assert provenance.precision == "float32"
    assert ("estimated" in provenance.memory_plan) is not told
    assert model.plan(volume).host_bytes > 0


def counting_up_to_its_largest_voxel() -> bytes:
    """Return a graph that adds 1 to a volume as often as its largest voxel says."""
    node, helper, kind = onnx.helper.make_node, onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [node("Add", ["v", "one"], ["next"]), node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", kind.INT64, []),
            helper.make_tensor_value_info("go", kind.BOOL, []),
            helper.make_tensor_value_info("v", kind.FLOAT, ANY),
        ],
        [helper.make_tensor_value_info("on", kind.BOOL, []), helper.make_tensor_value_info("next", kind.FLOAT, ANY)],
    )
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Cast", ["most"], ["times"], to=kind.INT64),
        node("Loop", ["times", "", "x"], ["y"], body=body),
    ]
    return saved(nodes, ANY, ANY, {"one": np.ones(1, np.float32)})


class _CancelledWhileItRuns(CancelToken):
    def raise_if_cancelled(self) -> None:
        if self.looks:
            self.cancel()
        self.looks += 1
        super().raise_if_cancelled()

    looks = 0


def test_a_cancel_ends_a_pass_that_would_never_end_and_the_graph_can_run_again():
    ensemble = Ensemble([load_onnx(counting_up_to_its_largest_voxel(), CPU)], CPU, torch.float32)
    volume = torch.ones(1, 2, 2, 2)
    assert not ensemble.activations(1, 1, (2, 2, 2))[1]  # a graph within a graph
    with pytest.raises(JobCancelled):
        ensemble.whole(volume * 1e15, None, _CancelledWhileItRuns())
    torch.testing.assert_close(ensemble.whole(volume * 3, None, CancelToken()), volume * 6)
