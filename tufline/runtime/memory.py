"""Tuning the memory use of a service process: the C library's heap and Python's garbage collector."""

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
    """Tune both for this process. Call it once all modules are imported.

    By default glibc gives each thread a heap of its own, where freed blocks of many megabytes are never returned to the system. One heap is
    enough, since in Python only one thread at a time allocates. The thresholds are raised because memory that comes from the kernel each
    time costs a page fault per 4 KiB: for a bin of 250 kB the page faults take longer than its signature. With another C library these
    settings are skipped.

    The collector runs less often because records and entries have no cycles, and a search of a million of them takes a fifth of the time of
    an import.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
