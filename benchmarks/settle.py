"""Provides a directory for measurements, on a file system that has settled.

After many files were removed, as after an earlier measurement, some file systems take far longer to create a file, for several minutes:
ext4 without a journal skips each recently freed inode. A bootstrap creates 16,384 files, and a batch creates one for each bin.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FILES: Final = 300
AT_REST_SECONDS: Final = 50e-6
"""The longest time to create a file on a settled file system, in seconds."""

LONGEST_WAIT_SECONDS: Final = 400.0
PAUSE_SECONDS: Final = 20.0

_in_vain: list[float] = []
"""The time per file after the longest wait, in seconds; later measurements do not wait again."""


def cost_of_a_file(directory: Path) -> float:
    """Create files without removing them, and return the seconds per file."""
    directory.mkdir()
    began = time.perf_counter()
    for number in range(FILES):
        os.close(os.open(directory / str(number), os.O_CREAT | os.O_WRONLY))
    return (time.perf_counter() - began) / FILES


@contextmanager
def settled_directory() -> Iterator[Path]:
    """Wait until creating files is fast, and provide a directory."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for attempt in range(int(LONGEST_WAIT_SECONDS / PAUSE_SECONDS)):
            seconds = cost_of_a_file(directory / f"probe{attempt}")
            if seconds <= AT_REST_SECONDS or _in_vain:
                break
            time.sleep(PAUSE_SECONDS)
        else:
            _in_vain.append(seconds)
            print(f"the file system is slow or does not settle: creating a file takes {1e6 * seconds:.0f} µs", flush=True)
        yield directory
