"""Where audit records go in addition to the topic: a file, or standard output. A record is one line, and only whole lines are written.

The file is synced, and belongs to one process at a time. To rotate it, rename it: the next record starts a new file with the old name.
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
"""How many bytes are read at once from a file's end to find its last whole line."""

_log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Receives records. Its calls may block, and two threads must not use it at once."""

    def write(self, records: Sequence[bytes]) -> None:
        """Write records, durably if possible.

        Args:
            records: records without line ends.

        Raises:
            OSError: if the records may not be written, with the file's name; the caller must write them again.
        """

    def close(self) -> None:
        """Release the file."""


class StdoutSink:
    """Standard output; its collector makes the records durable."""

    def write(self, records: Sequence[bytes]) -> None:
        """See ``Sink.write``."""
        with _naming("standard output"):
            _write_all(sys.stdout.fileno(), _lines(records))

    def close(self) -> None:
        """See ``Sink.close``."""


class FileSink:
    """A file that belongs to this process; see the module."""

    def __init__(self, path: Path) -> None:
        """Create the sink; the first write opens the file.

        Args:
            path: path of the file; its directory exists.
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
            # Otherwise half a line would stay in the middle of the file.
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
        # A half-written record of a process that died can be removed: its signatures were never used.
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
    """Open the configured sink.

    Args:
        path: path of a file, or ``STDOUT``; None for no sink.

    Returns:
        The sink; None if none is configured.
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
