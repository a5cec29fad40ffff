"""On the CPU: the memory that one layer frees is kept for the next one, not given back to the system in between."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_LARGEST = 2**31 - 1
_USUAL_MMAP, _USUAL_TRIM = 32 << 20, 64 << 20  # where glibc's own rule ends once large blocks were freed
_USUAL_MMAP_MAX = 65536
_SET_BY_A_PERSON = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


@contextmanager
def freed_memory_kept(wanted: bool = True) -> Iterator[None]:
    """Keep freed memory within the process until the end, then give it back.

    glibc maps each block of over 32 MiB anew, and the system clears its pages one page fault at a time: a window of
    96 voxels through a U-Net of 16 to 160 channels took 2.4 s so on two cores and takes 1.3 s with its memory kept.
    It concerns the whole process while it lasts, and of two runs at once the first to end ends it for both, at the cost
    of speed alone; in other threads than the main one, blocks of over 64 MiB gain nothing. Nothing is done with other
    C libraries, which have no such switch, and where the environment sets glibc's thresholds.
    """
    libc = ctypes.CDLL(None) if wanted and sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or any(name in os.environ for name in _SET_BY_A_PERSON):
        yield
        return
    if not libc.mallopt(_MMAP_THRESHOLD, _LARGEST):  # an older one takes no threshold over 32 MiB
        libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _LARGEST)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        libc.mallopt(_MMAP_MAX, _USUAL_MMAP_MAX)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        libc.malloc_trim(0)
