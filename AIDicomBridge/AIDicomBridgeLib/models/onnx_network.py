"""ONNX files: graphs of known operators, run by onnxruntime."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, JobCancelled, ModelError, WeightsError
from ..inference.activation_memory import HEADROOM, estimated_bytes
from ..inference.member import Member
from ..progress import CancelToken, check_cancel
from .onnx_graph import convolutions_of, forward_bytes

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession

_LOOKS_EVERY_S = 0.2
_FILES_BESIDE = "session.model_external_initializers_file_folder_path"


def onnx_device(device: "torch.device", *, chosen: bool) -> "torch.device":
    """Return where a graph can run: on the device, or on the CPU where onnxruntime was installed without GPUs.

    Parameters
    ----------
    chosen
        The person has named the device.

    Raises
    ------
    DependencyError
        onnxruntime is not installed, or cannot use the device that was named.
    """
    import torch

    if device.type == "cpu" or "CUDAExecutionProvider" in _onnxruntime().get_available_providers():
        return device
    if chosen:
        raise DependencyError(
            f"onnxruntime was installed without what it needs to run a network on {device}",
            advice="Install onnxruntime-gpu in its place, or use --device cpu.",
        )
    return torch.device("cpu")


def load_onnx(content: bytes, device: "torch.device") -> Member:
    """Return the graph as a network; it runs in float32.

    An ONNX graph holds operators that the runtime brings and no code; libraries of further operators are never loaded.

    Parameters
    ----------
    device
        As :func:`onnx_device` gives it.

    Raises
    ------
    DependencyError
        onnxruntime is not installed.
    WeightsError
        It is no ONNX file, or is damaged, or needs operators or files that are not in it.
    """
    onnxruntime = _onnxruntime()
    # By itself onnxruntime takes the first GPU, and twice the memory where a layer's does not suffice.
    gpu = {"device_id": device.index or 0, "arena_extend_strategy": "kSameAsRequested"}
    providers = [("CUDAExecutionProvider", gpu)] if device.type == "cuda" else []
    try:
        with tempfile.TemporaryDirectory(prefix="aidicombridge-") as nothing:
            # Weights in a file of their own would be looked for in the working directory, and no hash covers them.
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry(_FILES_BESIDE, nothing)
            options.enable_cpu_mem_arena = False  # it holds for good what a pass took, half as much again at times
            session = onnxruntime.InferenceSession(
                content, sess_options=options, providers=[*providers, "CPUExecutionProvider"]
            )
    except Exception as error:
        raise WeightsError(
            "the file is no ONNX file that onnxruntime can read, is damaged, or needs another file",
            advice="Save the network with all of its weights in one file.",
        ) from error
    if len(session.get_inputs()) != 1:
        raise ModelError(f"the ONNX network wants {len(session.get_inputs())} inputs, and a volume is one")
    return _OnnxMember(content, _Graph(session, f"gpu:{gpu['device_id']}" if providers else ""))


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            "the package onnxruntime is not installed",
            advice="Install it: pip install onnxruntime (onnxruntime-gpu to run on a GPU)",
        ) from error
    return onnxruntime


class _Graph:
    """An ONNX graph to be called; what a pass took is given back after it.

    Parameters
    ----------
    arena
        What onnxruntime calls the memory that it holds on a GPU; empty without one.
    """

    def __init__(self, session: "InferenceSession", arena: str) -> None:
        self.session, self._arena = session, arena

    def __call__(self, windows: "torch.Tensor", cancel: CancelToken | None = None) -> "dict[str, torch.Tensor]":
        """Return the graph's outputs by name; a cancel is heard after the current operator."""
        import onnxruntime
        import torch

        options = onnxruntime.RunOptions()
        if self._arena:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", self._arena)
        given = {self.session.get_inputs()[0].name: windows.float().cpu().numpy()}
        with _ended_by(cancel, options):
            computed = self.session.run(None, given, options)
        outputs = {item.name: made for item, made in zip(self.session.get_outputs(), computed, strict=True)}
        return {
            name: torch.from_numpy(made).to(windows.device) for name, made in outputs.items() if hasattr(made, "dtype")
        }


@contextmanager
def _ended_by(cancel: CancelToken | None, options: Any) -> Iterator[None]:
    """End the pass that runs with these options when it is cancelled; another thread listens for that.

    The pass stays in the calling thread, where freed memory is kept (:mod:`~..inference.kept_memory`): in another one
    it took 1.7 to 2.1 times as long. A Ctrl-C is heard after the pass, as Python looks for it in this thread alone.
    """
    over = Event()

    def listen() -> None:
        while not over.wait(_LOOKS_EVERY_S):
            try:
                check_cancel(cancel)
            except JobCancelled:
                options.terminate = True
                return

    listening = Thread(target=listen, daemon=True)
    if cancel is not None:
        listening.start()
    try:
        yield
    except Exception:  # onnxruntime has no type for a pass that was ended
        check_cancel(cancel)
        raise
    finally:
        over.set()
        if cancel is not None:
            listening.join()


class _OnnxMember(Member):
    """An ONNX graph as it is run; a cancel ends a pass.

    Parameters
    ----------
    content
        The file; its session keeps it anyhow.
    """

    def __init__(self, content: bytes, graph: _Graph) -> None:
        (given,) = graph.session.get_inputs()
        count = given.shape[0] if given.shape and isinstance(given.shape[0], int) else None
        super().__init__(graph, casting="none", windows_at_once=count)
        self._content, self._session = content, graph.session
        self._predicted: dict[tuple[int, ...], tuple[int, bool]] = {}

    def activations(self, shape: tuple[int, ...]) -> tuple[int, bool]:
        """Return the predicted bytes of a pass, and whether the graph told them."""
        seen = self._run_at_once(shape)
        if seen not in self._predicted:  # once for a shape: that takes as long as loading
            self._predicted[seen] = self._predict(seen)
        return self._predicted[seen]

    def _predict(self, shape: tuple[int, ...]) -> tuple[int, bool]:
        try:
            return int(forward_bytes(self._content, self._session, shape) * HEADROOM), True
        except Exception:  # noqa: BLE001 - onnxruntime has no type for it; what is wrong with the graph its run says
            return estimated_bytes(shape, convolutions_of(self._content), 4), False

    def _passed(self, run: Any, windows: "torch.Tensor", cancel: CancelToken | None) -> Any:
        return run(windows, cancel)
