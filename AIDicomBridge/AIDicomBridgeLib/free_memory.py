"""How much memory a device can still give: a GPU, the machine, and what a container or batch system leaves of it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory(device: "torch.device") -> int | None:
    """Return the bytes that the device can still give; None where the system does not say.

    In a container, or under a batch system, that is what its limit leaves, often far below what the machine has.
    """
    import torch

    if device.type == "cuda":
        # What torch holds in its cache is free for us too.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(cached)
    return machine_memory() if device.type == "cpu" else None


def machine_memory() -> int | None:
    """Return the bytes of the machine's memory that are free for this process; None where the system does not say."""
    if sys.platform == "win32":
        return _windows_memory()
    if sys.platform == "darwin":
        return _macos_memory()
    return min(linux_memory(_PROC, _GROUPS), default=None)


def linux_memory(proc: Path, groups: Path) -> list[int]:
    """Return what the machine has free, and what each control group around this process leaves.

    Groups may be nested: the process's own may have no limit while a group around it has one.
    """
    found = []
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            root, files = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, files = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / name.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(root):
                break
            left = _left_of_group(folder, *files)
            if left is not None:
                found.append(left)
    return found


def _left_of_group(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """Return what a group's limit leaves, the files' cache that can be dropped included; None without a limit."""
    try:
        most = (folder / limit).read_text(encoding="ascii").strip()
        if most == "max":
            return None
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return int(most) - int((folder / used).read_text(encoding="ascii")) + int(statistics.get(cache, 0))
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return


def _windows_memory() -> int | None:
    import ctypes

    names = ("length", "load")
    sizes = ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "free_extended")

    class MemoryStatus(ctypes.Structure):
        _fields_ = [
            *((name, ctypes.c_ulong) for name in names),
            *((name, ctypes.c_ulonglong) for name in sizes),
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - only Windows has it
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _macos_memory() -> int | None:
    try:
        done = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return pages_free(done.stdout)


def pages_free(said: str) -> int | None:
    """Return the bytes that macOS's ``vm_stat`` calls free or quickly freed; None if it says something else."""
    size = re.search(r"page size of (\d+) bytes", said)
    counts = re.findall(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)\.", said, re.MULTILINE)
    return int(size[1]) * sum(map(int, counts)) if size and counts else None
