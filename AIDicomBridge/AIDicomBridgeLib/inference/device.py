"""Where a network runs and in which precision."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DependencyError, ModelError

if TYPE_CHECKING:
    import torch


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


def free_memory(device: "torch.device") -> int | None:
    """Return the bytes that the device can still give; None where the system does not say.

    In a container that is what its limit leaves, which is often far below what the machine has.
    """
    import torch

    if device.type == "cuda":
        # What torch holds in its cache is free for us too.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(cached)
    if device.type != "cpu":
        return None
    known = [count for count in (_machine_memory(), _container_memory()) if count is not None]
    return min(known, default=None)


def is_out_of_memory(error: Exception) -> bool:
    """Return True if torch or Python raised the error for lack of memory; on the CPU it has no type of its own."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return None


def _container_memory() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
        cache = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return None if limit == "max" else int(limit) - int(used) + int(cache.get("inactive_file", 0))
    except (OSError, ValueError):
        return None
