"""A directory to measure in, on a file system that has come to rest.

Where many files were removed within the last minutes, as an earlier measurement leaves it, some file systems take far longer to make a new
one: ext4 without a journal passes over each inode that was freed lately. A bootstrap makes 16,384 files, and a batch one for each bin.
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
"""What making a file takes at most on a file system at rest."""

LONGEST_WAIT_SECONDS: Final = 400.0
PAUSE_SECONDS: Final = 20.0

_in_vain: list[float] = []
"""What a file took after the longest wait: nothing waits again then."""


def cost_of_a_file(directory: Path) -> float:
    """Make files that stay, and give the seconds that one took."""
    directory.mkdir()
    began = time.perf_counter()
    for number in range(FILES):
        os.close(os.open(directory / str(number), os.O_CREAT | os.O_WRONLY))
    return (time.perf_counter() - began) / FILES


@contextmanager
def settled_directory() -> Iterator[Path]:
    """Wait until files are made as fast as they can be, and give a directory."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for attempt in range(int(LONGEST_WAIT_SECONDS / PAUSE_SECONDS)):
            seconds = cost_of_a_file(directory / f"probe{attempt}")
            if seconds <= AT_REST_SECONDS or _in_vain:
                break
            time.sleep(PAUSE_SECONDS)
        else:
            _in_vain.append(seconds)
            print(f"the file system is slow, or does not come to rest: a file takes {1e6 * seconds:.0f} µs", flush=True)
        yield directory
