"""Where the audit goes beside the topic: a file, or standard output. A record is a line; what is written is whole lines, or nothing.

A file is synced, and belongs to one process at a time. Who rotates it renames it: the next record goes to a new file of the old name.
"""

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

STDOUT: Final = Path("-")

FILE_MODE: Final = 0o640
TAIL_BYTES: Final = 64 * 1024
"""How much of a file's end is read at once to find its last whole line."""

_log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Takes records. Its calls may block; not to be used by two threads at once."""

    def write(self, records: Sequence[bytes]) -> None:
        """Write records, durably where that is possible.

        Args:
            records: without line ends.

        Raises:
            OSError: if they may not be there, with the file's name; they are to be written again then.
        """

    def close(self) -> None:
        """Give the file back."""


class StdoutSink:
    """Standard output; who collects it makes it durable."""

    def write(self, records: Sequence[bytes]) -> None:
        """See ``Sink.write``."""
        with _naming("standard output"):
            _write_all(sys.stdout.fileno(), _lines(records))

    def close(self) -> None:
        """See ``Sink.close``."""


class FileSink:
    """A file; see the module."""

    def __init__(self, path: Path) -> None:
        """Open nothing yet.

        Args:
            path: of the file; its directory exists.
        """
        self._path = path
        self._file = -1

    def write(self, records: Sequence[bytes]) -> None:
        """See ``Sink.write``."""
        with _naming(str(self._path)):
            if self._file >= 0 and not self._is_in_place():
                self.close()
            if self._file < 0:
                self._file = self._open()
            self._append(_lines(records))

    def _append(self, content: bytes) -> None:
        before = os.fstat(self._file)
        try:
            _write_all(self._file, content)
            if stat.S_ISREG(before.st_mode):
                os.fsync(self._file)
        except OSError:
            # Half a line would stay in the middle of the file.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before.st_size)
            self.close()
            raise

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            if stat.S_ISREG(os.fstat(file).st_mode):
                self._lock(file)
                self._cut(file)
                _sync_directory(self._path.parent)
        except BaseException:
            os.close(file)
            raise
        return file

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EAGAIN, "another process writes it: each signer needs a file of its own") from None

    def _cut(self, file: int) -> None:
        # What a process left half-written when it died was of no use to it: signatures are used when their record is whole.
        size = end = os.fstat(file).st_size
        while end:
            start = max(0, end - TAIL_BYTES)
            found = os.pread(file, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            _log.warning("audit.cut", file=str(self._path), bytes=size - end)
            os.ftruncate(file, end)

    def close(self) -> None:
        """See ``Sink.close``."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_sink(path: Path | None) -> Sink | None:
    """Give the sink that is configured.

    Args:
        path: of a file, or ``STDOUT``; None for none.

    Returns:
        The sink.
    """
    if path is None:
        return None
    return StdoutSink() if path == STDOUT else FileSink(path)


@contextlib.contextmanager
def _naming(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), file) from error


def _lines(records: Sequence[bytes]) -> bytes:
    return b"".join(record + b"\n" for record in records)


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
