"""Networks as they are run: sums, precisions that programs bear, fixed batches, cancellation, compiling, failures."""

import io
from pathlib import Path

import pytest
import torch
from AIDicomBridgeLib.errors import JobCancelled, MemoryLimitError, ModelError
from AIDicomBridgeLib.inference import interruptible
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.member import Member
from AIDicomBridgeLib.models.torch_export import load_export
from AIDicomBridgeLib.models.torchscript import load_torchscript
from AIDicomBridgeLib.progress import CancelToken

CPU = torch.device("cpu")


class _InFloat(torch.nn.Module):
    """Has float32 written into it, as honest programs have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 2, 3, padding=1)
        self.register_buffer("scale", torch.ones(1, 2, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x.float())
        return torch.einsum("ncdhw,ncxyz->ncdhw", x.float(), self.scale) + torch.ones(1, dtype=torch.float32)


def exported(windows: int, network: torch.nn.Module | None = None) -> Member:
    file = io.BytesIO()
    torch.export.save(torch.export.export((network or _InFloat()).eval(), (torch.zeros(windows, 1, 4, 4, 4),)), file)
    return load_export(file.getvalue())


def scripted() -> Member:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(_InFloat().eval(), torch.zeros(1, 1, 4, 4, 4)), file)
    return load_torchscript(file.getvalue())


class _Choosing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


@pytest.mark.parametrize("make", [scripted, lambda: exported(1)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_programs_run_in_every_precision(make, precision: torch.dtype) -> None:
    torch.manual_seed(1)
    member = make()
    windows = torch.randn(1, 1, 4, 4, 4)
    with torch.inference_mode():
        expected = member.network(windows)
        found = Ensemble([member], CPU, precision)(windows)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("exported_for", "asked"), [(1, 3), (2, 3)])
def test_what_was_exported_for_some_windows_takes_any_number(exported_for: int, asked: int) -> None:
    ensemble = Ensemble([exported(exported_for)], CPU, torch.bfloat16)
    windows = torch.randn(asked, 1, 4, 4, 4)
    with torch.inference_mode():
        found = ensemble(windows)
        one_by_one = torch.cat([ensemble(window[None]) for window in windows])
    assert ensemble.precision == torch.float32  # and that is what the result says
    torch.testing.assert_close(found, one_by_one)


def test_what_was_exported_for_two_windows_is_planned_for_two() -> None:
    one, two = (Ensemble([exported(count)], CPU, torch.float32).activations(1, 1, (4, 4, 4)) for count in (1, 2))
    assert two[0] > 1.5 * one[0]
    assert two[1] == one[1]


def test_sums_of_several_passes_do_not_overflow_nor_round() -> None:
    large = Member(lambda windows: windows.half() * 30000)  # two of them are beyond float16
    with torch.inference_mode():
        found = Ensemble([large, large, large], CPU, torch.float32, mirror_axes=(0,))(torch.ones(1, 1, 2, 2, 2))
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2, 2), 30000.0))


def test_cancel_takes_effect_between_the_passes_of_one_window() -> None:
    cancel, passes = CancelToken(), []

    def network(windows: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        cancel.cancel()
        return windows

    with pytest.raises(JobCancelled):
        Ensemble([network] * 5, CPU, torch.float32, mirror_axes=(0, 1))(torch.ones(1, 1, 2, 2, 2), cancel)
    assert len(passes) == 1


def test_a_network_that_fails_is_a_named_error() -> None:
    network = torch.nn.Conv3d(3, 2, 1)
    with pytest.raises(
        ModelError, match=r"he network fails on a window of \(1, 1, 2, 2, 2\) in float32: [Gg]iven groups"
    ):
        Ensemble([network], CPU, torch.float32)(torch.ones(1, 1, 2, 2, 2))
    with pytest.raises(ModelError, match="does not give a tensor"):
        Ensemble([lambda windows: []], CPU, torch.float32)(torch.ones(1, 1, 2, 2, 2))


@pytest.mark.parametrize(
    "as_what", [lambda o: o, lambda o: list(o.values()), lambda o: {"a": 1, "b": tuple(o.values())}]
)
def test_of_several_outputs_the_one_that_the_card_means_is_taken(as_what) -> None:
    windows = torch.rand(1, 1, 4, 4, 4)
    coarse, features, logits = torch.ones(1, 2, 2, 2, 2), windows.expand(1, 3, 4, 4, 4), windows.expand(1, 2, 4, 4, 4)
    outputs = as_what({"coarse": coarse, "features": features, "logits": logits})
    found = Ensemble([lambda _: outputs], CPU, torch.float32, classes=2)(windows)
    torch.testing.assert_close(found, logits)
    with pytest.raises(
        ModelError, match=r"gives 3 outputs, .*\(3, 4, 4, 4\).* none of them could be meant: 5 channels"
    ):
        Ensemble([lambda _: outputs], CPU, torch.float32, classes=5)(windows)
    with pytest.raises(ModelError, match=r"2 outputs, out \(2, 4, 4, 4\), aux \(2, .* 2 of them could"):
        Ensemble([lambda _: {"out": logits, "aux": logits}], CPU, torch.float32, classes=2)(windows)


def test_a_network_is_compiled_only_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled = []

    def compiler(network: torch.nn.Module, **_: object):
        compiled.append(network)

        def fail(_: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler was found")

        return fail

    monkeypatch.setattr(torch, "compile", compiler)
    network, windows = torch.nn.Conv3d(1, 2, 1), torch.ones(1, 1, 2, 2, 2)
    Ensemble([network], CPU, torch.float32)(windows)
    Ensemble([scripted()], CPU, torch.float32, compiled=True)  # is compiled already
    assert not compiled
    with pytest.raises(ModelError, match=r"no C\+\+ compiler was found\. Leave --compile out, or install"):
        Ensemble([network], CPU, torch.float32, compiled=True)(windows)
    assert compiled == [network]


@pytest.mark.parametrize("make", [scripted, lambda: Member(_InFloat().eval())])
def test_cancel_is_heard_within_a_network(make, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, looks = CancelToken(), []

    def look(_: CancelToken) -> None:
        looks.append(1)
        if len(looks) == 3:
            cancel.cancel()
        cancel.raise_if_cancelled()

    ensemble = Ensemble([make()], CPU, torch.float32)
    monkeypatch.setattr(interruptible, "check_cancel", look)
    with torch.inference_mode(), pytest.raises(JobCancelled):
        ensemble(torch.ones(1, 1, 4, 4, 4), cancel)
    assert len(looks) == 4  # the third, and the one that asks why the network ended


@pytest.mark.parametrize("cancel", [None, CancelToken()])
def test_an_exported_network_that_chooses_its_way_runs_with_and_without_a_cancel(cancel: CancelToken | None) -> None:
    ensemble = Ensemble([exported(1, _Choosing())], CPU, torch.float32)
    with torch.inference_mode():
        for value, expected in ((1.0, 2.0), (-1.0, -2.0)):
            found = ensemble(torch.full((1, 1, 4, 4, 4), value), cancel)
            torch.testing.assert_close(found, torch.full((1, 1, 4, 4, 4), expected))


def test_cancel_is_heard_within_a_deep_layer_of_a_stack() -> None:
    cancel, passed = CancelToken(), []

    class Deep(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for number in range(50):
                x = x + 1
                passed.append(number)
                cancel.cancel()
            return x

    ensemble = Ensemble([torch.nn.Sequential(Deep())], CPU, torch.float32)
    with torch.inference_mode(), pytest.raises(JobCancelled):
        ensemble.whole(torch.ones(1, 4, 4, 4), None, cancel)
    assert passed == [0]


class _StrangerError(Exception):
    """As onnxruntime's are: no RuntimeError."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("alloc_cpu.cpp:114 data. DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("operation failed in the TorchScript interpreter.\nRuntimeError: CUDA out of memory. Tried to"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        _StrangerError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
    ],
)  # fmt: skip
def test_lack_of_memory_is_one_error_whoever_says_it(error: Exception) -> None:
    def network(_: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(MemoryError):  # which a run answers with a leaner plan
        Ensemble([network], CPU, torch.float32)(torch.ones(1, 1, 2, 2, 2))


def test_no_room_for_the_weights_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    network = torch.nn.Conv3d(1, 2, 1)
    monkeypatch.setattr(network, "to", full)
    with pytest.raises(MemoryLimitError, match="he memory of cpu does not suffice for the weights"):
        Ensemble([network], CPU, torch.float32)
