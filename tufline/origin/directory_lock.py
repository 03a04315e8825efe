"""The lock of an origin in a directory, and the names of files that are being written there.

The lock is ``flock`` on a file: it is the open file's, so it excludes other stores of the same process too, and it goes with its process.
It is held only while two things happen that must not be torn apart: to look at what is shown, and to replace it.
"""

import contextlib
import fcntl
import itertools
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tufline.decoding import UNREADABLE

LOCK_NAME: Final = ".tufline-lock"
"""Of the lock's file. Web servers do not show names with a dot, and ``Store.names`` does not list them."""

TEMPORARY_PREFIX: Final = ".tmp-"
"""Names of files that are being written begin with it."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock.

    Attributes:
        pid: of the process, as its own machine or container counts.
        host: of the machine.
    """

    pid: int
    host: str

    def __str__(self) -> str:
        """Name the process, for a message."""
        return f"process {self.pid} on {self.host}"


_holder_decoder = msgspec.json.Decoder(Holder)


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return _holder_decoder.decode(os.pread(descriptor, 4096, 0))
    except UNREADABLE:
        return None  # it is about to say who it is, or has just released it


class LockedError(Exception):
    """Somebody else holds the lock.

    Args:
        holder: who, if the lock's file says so.
    """

    def __init__(self, holder: Holder | None) -> None:
        super().__init__()
        self.holder = holder


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of an origin, if it is free.

    Args:
        directory: of the origin.

    Yields:
        Nothing; it is released after the block.

    Raises:
        LockedError: if somebody else holds it.
        OSError: if the lock's file can't be used.
    """
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(_read_holder(descriptor)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


class Temporary:
    """Files that are being written, under names that no other writer has, and each locked while it is.

    Args:
        directory: of the origin.
    """

    def __init__(self, directory: Path) -> None:
        self._prefix = f"{directory}/{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}-"
        self._numbers = itertools.count()

    @contextmanager
    def file(self) -> Iterator[tuple[int, str]]:
        """Make a file to write. Whoever is done renames it within the block; what is left of it then is removed.

        Yields:
            Its descriptor and its path.

        Raises:
            OSError: if it can't be made.
        """
        descriptor, path = self._make()
        try:
            yield descriptor, path
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 (by plain system calls, for speed)
            raise
        finally:
            os.close(descriptor)

    def _make(self) -> tuple[int, str]:
        while True:
            path = f"{self._prefix}{next(self._numbers)}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            # Another writer that looks for leftovers may have come between: then this name is gone, and the next one is taken.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return descriptor, path
            os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Remove files that nobody writes any more: their writers died, or an earlier version left them.

    Args:
        directory: of the origin.

    Raises:
        OSError: if they can't be looked for.
    """
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # renamed or removed meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # its writer lives
        finally:
            os.close(descriptor)
