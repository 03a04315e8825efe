"""Records what a server has acknowledged of an import, so that an interrupted import resumes where it stopped.

A journal is a file. Its first line names the source and the log. Then follow the mark of each item that the server acknowledged, and the
items' tasks until their results are known. A mark is a hash of the item's path and content, not of its place, so the source may be fixed or
rebuilt in between. Only the last mark of a path is valid. Once an item is sent, all later items of the same path are sent too, so that the
server receives the source's last item of a path last.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from tufline_cli.exit_codes import Exit, Failure

HALF_BYTES: Final = 8
"""Length of each half of a mark, in bytes: two contents of one path are mistaken for each other once in 2^64."""

PREFIX: Final = ".tufline-import-"
_DEFAULT_NAME: Final = re.compile(re.escape(PREFIX) + "[0-9a-f]{16}")
_BEGINNING: Final = b'{"tufline import": '
_TASK: Final = re.compile(rb"([+-])([A-Za-z0-9_-]+) ([0-9]+)\n")
"""A task to wait for (+) or a finished one (-), and its number of items."""

_NO_CONTENT: Final = bytes(HALF_BYTES)
"""The second half of the mark of a path whose item was refused after it was accepted."""


def make_mark(path: str, content: bytes) -> bytes:
    """Make the mark of an item.

    Args:
        path: path of the artifact.
        content: bytes that change whenever the artifact does.

    Returns:
        A hash of the path, and one of the content.
    """
    halves = (path.encode(errors="surrogatepass"), content)
    return b"".join(hashlib.blake2b(half, digest_size=HALF_BYTES).digest() for half in halves)


class Journal:
    """The marks of the items that a server has acknowledged; ``open_journal`` opens it.

    Attributes:
        skipped: how many items of the source the server already had.
        tasks: id of each task whose result is not known yet, to its number of items.
    """

    def __init__(self, path: Path, file: BinaryIO, known: dict[bytes, bytes], tasks: dict[str, int]) -> None:
        """Create the journal of an open file.

        Args:
            path: path of the file.
            file: the file, open for appending.
            known: first half to second half of the last mark of each path.
            tasks: unfinished tasks in the file, to their number of items.
        """
        self.skipped = 0
        self.tasks = tasks
        self._path = path
        self._file = file
        self._known = known
        self._stat = os.fstat(file.fileno())

    def skips(self, mark: bytes) -> bool:
        """Return whether the server already has an item. If not, the caller must send the item, and all later items of its path.

        Args:
            mark: mark of the item.

        Returns:
            Whether the item can be skipped.
        """
        path = mark[:HALF_BYTES]
        if self._known.get(path) == mark[HALF_BYTES:]:
            self.skipped += 1
            return True
        self._known.pop(path, None)
        return False

    def is_journal(self, name: str, stat: os.stat_result) -> bool:
        """Return whether a file is this journal, or has the name of another import's journal: neither is an artifact.

        Args:
            name: name of the file, without its directory.
            stat: result of ``stat`` for the file.

        Returns:
            Whether it is a journal.
        """
        return os.path.samestat(stat, self._stat) or _DEFAULT_NAME.fullmatch(name) is not None

    def add(self, marks: Iterable[bytes]) -> None:
        """Record the items that the server has acknowledged.

        Args:
            marks: marks of the items, in the order in which they were sent.

        Raises:
            Failure: if the journal can't be written.
        """
        self._write(b"".join(b"%s\n" % mark.hex().encode() for mark in marks))

    def expect(self, task_id: str, count: int) -> None:
        """Record a task before its items, so that its result is requested even after an interruption.

        Args:
            task_id: task id in the server's answer.
            count: number of the task's items.

        Raises:
            Failure: if the journal can't be written.
        """
        self.tasks[task_id] = count
        self._write(b"+%s %d\n" % (task_id.encode(), count))

    def settle(self, task_id: str, refused: Iterable[str]) -> None:
        """Record a task's result.

        Args:
            task_id: id of a recorded task.
            refused: paths that the server refused after accepting them; the next import sends them again.

        Raises:
            Failure: if the journal can't be written.
        """
        for path in refused:
            self._write(b"%s\n" % (make_mark(path, b"")[:HALF_BYTES] + _NO_CONTENT).hex().encode())
        self._write(b"-%s %d\n" % (task_id.encode(), self.tasks.pop(task_id)))

    def _write(self, lines: bytes) -> None:
        with _explained(self._path):
            self._file.write(lines)
            self._file.flush()

    def done(self) -> None:
        """Remove the journal: the server has everything.

        Raises:
            Failure: if the journal can't be removed.
        """
        with _explained(self._path):
            self._path.unlink(missing_ok=True)


@contextmanager
def open_journal(path: Path | None, source: Path, log: str) -> Iterator[Journal]:
    """Open the journal of an import, or create it; no other import can use it meanwhile.

    Args:
        path: path of the journal; None for a name in the current directory that depends on source and log.
        source: source of the import.
        log: id of the server's log; a journal is valid for one log.

    Yields:
        The journal.

    Raises:
        Failure: if the file is not a journal, belongs to another import, is in use, or can't be written.
    """
    header = _BEGINNING + json.dumps(str(source.resolve())).encode() + b', "log": ' + json.dumps(log).encode() + b"}\n"
    path = path or Path(PREFIX + hashlib.blake2b(header, digest_size=8).hexdigest())
    with _open_exclusively(path) as file:
        with _explained(path):
            known, tasks = _read(path, file, header)
        yield Journal(path, file, known, tasks)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "choose a file that can be written: --journal FILE"
        raise Failure(f"the journal {path} can't be used: {error.strerror or error}", hint, Exit.USAGE) from error


def _open_exclusively(path: Path) -> BinaryIO:
    with _explained(path):
        if path.exists() and not path.is_file():
            raise _not_a_journal(path)
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = os.fstat(file.fileno()).st_nlink > 0  # another import may have removed it after it was opened here
        except BlockingIOError:
            is_free = False
        except OSError:
            file.close()
            raise
    if not is_free:
        file.close()
        raise Failure(f"another import uses the journal {path}", "wait until that import ends, or choose another file: --journal FILE")
    return file


def _not_a_journal(path: Path) -> Failure:
    return Failure(f"{path} is not the journal of an import", "choose a file that does not exist yet: --journal FILE", Exit.USAGE)


def _read(path: Path, file: BinaryIO, header: bytes) -> tuple[dict[bytes, bytes], dict[str, int]]:
    file.seek(0)
    beginning = file.read(len(header))
    if not beginning:
        file.write(header)
        file.flush()
    elif beginning != header:
        if not beginning.startswith(_BEGINNING):
            raise _not_a_journal(path)
        hint = "finish that import, remove the file, or choose another one: --journal FILE"
        raise Failure(f"{path} is the journal of an import from another source or to another server", hint, Exit.USAGE)
    known, end = {}, len(header)
    tasks: dict[str, int] = {}
    for line in file:
        if task := _TASK.fullmatch(line):
            if task[1] == b"+":
                tasks[task[2].decode()] = int(task[3])
            else:
                tasks.pop(task[2].decode(), None)
            end += len(line)
            continue
        try:
            mark = bytes.fromhex(line.decode("ascii"))
        except ValueError:
            break
        if len(mark) != 2 * HALF_BYTES or not line.endswith(b"\n"):
            break
        known[mark[:HALF_BYTES]] = mark[HALF_BYTES:]
        end += len(line)
    file.truncate(end)  # drops a line that a crash cut off, so that the next line is not appended to it
    return known, tasks
