"""What tests run and this repository does not hold: fetched or built once, and kept for all checkouts in the user's cache.

A part is kept under its name and a digest of what it is made from, so that another version is another part. Several processes may make the
same one at a time: the first that is done wins.
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
    """A part can't be had; the message says what to install."""


def kept(name: str, sources: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """Make a part, unless it is there already.

    Args:
        name: of the part.
        sources: files that it is made from, such as its lock file.
        make: makes it in an empty directory.

    Returns:
        The directory that it is in.

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
