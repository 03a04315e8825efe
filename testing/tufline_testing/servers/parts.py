"""External programs that tests run: fetched or built once, and kept for all checkouts in the user's cache.

A part is kept under its name and a digest of its sources, so that each version is a separate part. Several processes may make the same part
concurrently: the first that finishes wins.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PARTS: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tufline" / "parts"


class MissingPartError(Exception):
    """A part is not available; the message tells what to install."""


def kept(name: str, sources: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """Make a part, unless the cache has it.

    Args:
        name: name of the part.
        sources: files that determine the part's content, such as its lock file.
        make: makes the part in an empty directory.

    Returns:
        The directory with the part.

    Raises:
        MissingPartError: if ``make`` raises it.
    """
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    directory = PARTS / f"{name}-{digest}"
    if not directory.exists():
        making = directory.with_name(f"{directory.name}.{os.getpid()}")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        try:
            make(making)
            with contextlib.suppress(OSError):  # another process was first
                making.rename(directory)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return directory
