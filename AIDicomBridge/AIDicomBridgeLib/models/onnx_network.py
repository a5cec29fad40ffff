"""ONNX files: graphs of known operators, run by onnxruntime."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import DependencyError, ModelError, WeightsError

if TYPE_CHECKING:
    import torch


def load_onnx(content: bytes, device: "torch.device") -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return a function from a batch of windows to the graph's first output, on the windows' device.

    An ONNX graph holds operators that the runtime brings and no code; libraries of further operators are never loaded.

    Raises
    ------
    DependencyError
        onnxruntime is not installed.
    WeightsError
        It is no ONNX file, or is damaged, or needs operators or files that are not in it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            "the package onnxruntime is not installed",
            advice="Install it: pip install onnxruntime (onnxruntime-gpu to run on a GPU)",
        ) from error
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    available = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(content, providers=[*available, "CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError("the file is no ONNX file that onnxruntime can read, or is damaged") from error
    if len(session.get_inputs()) != 1:
        raise ModelError(f"the ONNX network wants {len(session.get_inputs())} inputs, and a volume is one")
    name = session.get_inputs()[0].name

    def run(windows: "torch.Tensor") -> "torch.Tensor":
        import torch

        outputs = session.run(None, {name: windows.float().cpu().numpy()})
        return torch.from_numpy(outputs[0]).to(windows.device)

    return run
