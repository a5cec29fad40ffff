"""Where a network runs and in which precision."""

from typing import TYPE_CHECKING

from ..errors import BridgeError, DependencyError, ModelError

if TYPE_CHECKING:
    import torch

# What torch says on Linux and on Windows, within TorchScript, of CUDA and its libraries; and onnxruntime.
_OUT_OF_MEMORY = (
    "allocate memory",
    "not enough memory",
    "out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def choose_device(name: str = "auto") -> "torch.device":
    """Return the torch device meant by ``auto`` (a GPU if torch sees one, else the CPU) or by its own name.

    Raises
    ------
    DependencyError
        torch is not installed.
    ModelError
        The device is unknown, or this machine has none.
    """
    try:
        import torch
    except ImportError as error:
        raise DependencyError(
            "the package torch is not installed",
            advice="In Slicer, install the PyTorch extension; elsewhere: pip install torch",
        ) from error
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError by build
        raise ModelError(
            f"the device '{name}' cannot be used on this machine", advice="Use --device auto or --device cpu."
        ) from error
    return device


def choose_precision(device: "torch.device") -> "torch.dtype":
    """Return bfloat16 where the device computes it natively, float16 on other GPUs, else float32.

    Measured with MindGrab on 181x217x181 voxels: 30 s instead of 74 s on two CPU cores with AVX512-BF16 (Dice between
    the two 0.9999); without such instructions bfloat16 is emulated and slower.
    """
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        # torch has no public question for it; an older or newer torch without this one runs in float32.
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if supported() else torch.float32
    return torch.float32


def unfolds(device: "torch.device", precision: "torch.dtype") -> bool:
    """Return True if torch convolves in this precision by writing each voxel's neighbours out: 27 times the memory.

    So it does on CPUs without instructions for the precision, where it must have been asked for by name.
    """
    import torch

    if device.type != "cpu" or precision == torch.float32:
        return False
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}.get(precision, "")
    try:
        return not getattr(torch.ops.mkldnn, name)()
    except (AttributeError, RuntimeError):  # a torch without oneDNN, or one that has no such question
        return True


def is_out_of_memory(error: Exception) -> bool:
    """Return True if torch, Python or another runtime raised the error for lack of memory; few have a type for it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return not isinstance(error, BridgeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
