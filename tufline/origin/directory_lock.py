"""The lock of an origin in a directory, and the temporary files that are being written there.

The lock is ``flock`` on a file. It belongs to the open file, so it also excludes other stores of the same process, and it is released when
the process ends. It is held only while the published file is compared and replaced, which must be one step.
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
"""The name of the lock file. Web servers do not serve names that start with a dot, and ``Store.names`` does not list them."""

TEMPORARY_PREFIX: Final = ".tmp-"
"""The prefix of the names of files that are being written."""


class LockHolder(msgspec.Struct, frozen=True):
    """The process that holds the lock.

    Attributes:
        pid: the process id, as seen in the process's own machine or container.
        host: the machine's host name.
    """

    pid: int
    host: str

    def __str__(self) -> str:
        """Return the process's name for error messages."""
        return f"process {self.pid} on {self.host}"


_holder_decoder = msgspec.json.Decoder(LockHolder)


def _read_holder(descriptor: int) -> LockHolder | None:
    try:
        return _holder_decoder.decode(os.pread(descriptor, 4096, 0))
    except UNREADABLE:
        return None  # the holder has not written its name yet, or has just released the lock


class LockedError(Exception):
    """Another process or store holds the lock.

    Args:
        holder: the process that holds it; None if the lock file does not name it.
    """

    def __init__(self, holder: LockHolder | None) -> None:
        super().__init__()
        self.holder = holder


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of an origin for the block, without waiting for it.

    Args:
        directory: the origin's directory.

    Yields:
        Nothing.

    Raises:
        LockedError: if the lock is held already.
        OSError: if the lock file can't be used.
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


class TemporaryFiles:
    """Files that are being written. Their names are unique to this writer, and each is locked while it is written.

    Args:
        directory: the origin's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._prefix = f"{directory}/{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}-"
        self._numbers = itertools.count()

    @contextmanager
    def file(self) -> Iterator[tuple[int, str]]:
        """Create a temporary file. The caller writes it and renames it within the block; if the block raises, it is removed.

        Yields:
            The file's descriptor and path.

        Raises:
            OSError: if the file can't be created.
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
            # Another writer may have removed the file as a leftover before it was locked: then the next name is tried.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return descriptor, path
            os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files without a living writer: their writer died, or an earlier version of Tufline left them.

    Args:
        directory: the origin's directory.

    Raises:
        OSError: if the directory can't be searched.
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
            pass  # its writer is alive
        finally:
            os.close(descriptor)
