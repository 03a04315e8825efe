"""How a process that serves uses its memory: settings of the C library's heap and of Python's garbage collector."""

import ctypes
import gc
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Parameters of mallopt, from glibc's malloc.h."""

MMAP_THRESHOLD_BYTES: Final = 1024 * 1024
TRIM_THRESHOLD_BYTES: Final = 8 * 1024 * 1024

COLLECT_AFTER: Final = 20_000, 20, 100
"""The thresholds of the three generations of ``gc``."""


def tune() -> None:
    """Settle both for this process, once all modules are imported.

    glibc gives each thread a heap of its own, and lets blocks of many megabytes grow into them, where they are never given back; Python has
    one thread at a time allocate anyway. A block of its own from the kernel, or a heap that is cut back each time, costs a page fault every
    4 KiB: for a bin's quarter of a megabyte more than its signature. Elsewhere than on glibc nothing is set.

    Records and entries have no cycles; looking for some among a million of them takes a fifth of an import.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
