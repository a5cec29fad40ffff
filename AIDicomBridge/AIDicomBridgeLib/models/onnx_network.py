"""ONNX files: graphs of known operators, run by onnxruntime."""

import tempfile
from typing import TYPE_CHECKING

from ..errors import DependencyError, ModelError, WeightsError
from ..inference.member import Member

if TYPE_CHECKING:
    import torch

_FILES_BESIDE = "session.model_external_initializers_file_folder_path"


def load_onnx(content: bytes, device: "torch.device") -> Member:
    """Return the graph's first output as a network; it runs in float32.

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
        with tempfile.TemporaryDirectory(prefix="aidicombridge-") as nothing:
            # Weights in a file of their own would be looked for in the working directory, and no hash covers them.
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry(_FILES_BESIDE, nothing)
            session = onnxruntime.InferenceSession(
                content, sess_options=options, providers=[*available, "CPUExecutionProvider"]
            )
    except Exception as error:
        raise WeightsError(
            "the file is no ONNX file that onnxruntime can read, is damaged, or needs another file",
            advice="Save the network with all of its weights in one file.",
        ) from error
    if len(session.get_inputs()) != 1:
        raise ModelError(f"the ONNX network wants {len(session.get_inputs())} inputs, and a volume is one")
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape

    def run(windows: "torch.Tensor") -> "torch.Tensor":
        import torch

        outputs = session.run(None, {name: windows.float().cpu().numpy()})
        return torch.from_numpy(outputs[0]).to(windows.device)

    count = shape[0] if shape and isinstance(shape[0], int) else None
    return Member(run, casting="none", windows_at_once=count)
