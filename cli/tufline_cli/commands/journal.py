"""What a server has acknowledged of an import, so that one that was interrupted goes on where it stopped.

A journal is a file: a line that says of what it is, then the mark of each item that the server acknowledged, and the tasks that these are
part of, until it is known what became of them. A mark is made of the item's
path and content, not of its place: a source that was mended or made anew meanwhile is taken as it is now. Of each path the last mark
counts, and once an item is sent, all that follow it of the same path are: what the source says last of a path the server gets last.
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
"""How long either half of a mark is: two contents of one path are taken for the same once in 2^64."""

PREFIX: Final = ".tufline-import-"
_DEFAULT_NAME: Final = re.compile(re.escape(PREFIX) + "[0-9a-f]{16}")
_BEGINNING: Final = b'{"tufline import": '
_TASK: Final = re.compile(rb"([+-])([A-Za-z0-9_-]+) ([0-9]+)\n")
"""A task to wait for, or one that was waited for, and how many items it has."""

_NO_CONTENT: Final = bytes(HALF_BYTES)
"""The second half of the mark of a path whose item was refused after all."""


def make_mark(path: str, content: bytes) -> bytes:
    """Make the mark of an item.

    Args:
        path: of the artifact.
        content: whatever changes when the artifact does.

    Returns:
        A hash of the path, and one of the content.
    """
    halves = (path.encode(errors="surrogatepass"), content)
    return b"".join(hashlib.blake2b(half, digest_size=HALF_BYTES).digest() for half in halves)


class Journal:
    """The marks of what a server has acknowledged of a source; ``open_journal`` gives it.

    Attributes:
        passed: how many items of the source it knew.
        tasks: id of each task of which it is not known yet what became of it, to how many items it has.
    """

    def __init__(self, path: Path, file: BinaryIO, known: dict[bytes, bytes], tasks: dict[str, int]) -> None:
        """Begin.

        Args:
            path: of the journal.
            file: that it is, open for appending.
            known: either half of the marks in it, the last of each path.
            tasks: those in it.
        """
        self.passed = 0
        self.tasks = tasks
        self._path = path
        self._file = file
        self._known = known
        self._stat = os.fstat(file.fileno())

    def passes(self, mark: bytes) -> bool:
        """Say whether the server has an item already. One that it has not is going to be sent, and so is all that follows it of its path.

        Args:
            mark: of the item.

        Returns:
            Whether it can be passed over.
        """
        path = mark[:HALF_BYTES]
        if self._known.get(path) == mark[HALF_BYTES:]:
            self.passed += 1
            return True
        self._known.pop(path, None)
        return False

    def is_journal(self, name: str, stat: os.stat_result) -> bool:
        """Say whether a file is this journal, or by its name the one of another import: neither is an artifact.

        Args:
            name: of the file, without its directory.
            stat: of the file.

        Returns:
            Whether it is a journal.
        """
        return os.path.samestat(stat, self._stat) or _DEFAULT_NAME.fullmatch(name) is not None

    def add(self, marks: Iterable[bytes]) -> None:
        """Take note of what the server has acknowledged.

        Args:
            marks: of the items, in the order in which they were sent.

        Raises:
            Failure: if it can't be written.
        """
        self._write(b"".join(b"%s\n" % mark.hex().encode() for mark in marks))

    def expect(self, task_id: str, count: int) -> None:
        """Take note of a task before its items are added: what becomes of it must be asked for, also after an interruption.

        Args:
            task_id: as the server answered it.
            count: of its items.

        Raises:
            Failure: if it can't be written.
        """
        self.tasks[task_id] = count
        self._write(b"+%s %d\n" % (task_id.encode(), count))

    def settle(self, task_id: str, refused: Iterable[str]) -> None:
        """Take note of what became of a task.

        Args:
            task_id: that was expected.
            refused: paths that the server refused after all: they are sent again by the next import.

        Raises:
            Failure: if it can't be written.
        """
        for path in refused:
            self._write(b"%s\n" % (make_mark(path, b"")[:HALF_BYTES] + _NO_CONTENT).hex().encode())
        self._write(b"-%s %d\n" % (task_id.encode(), self.tasks.pop(task_id)))

    def _write(self, lines: bytes) -> None:
        with _explained(self._path):
            self._file.write(lines)
            self._file.flush()

    def done(self) -> None:
        """Forget the journal: all is on the server.

        Raises:
            Failure: if it can't be removed.
        """
        with _explained(self._path):
            self._path.unlink(missing_ok=True)


@contextmanager
def open_journal(path: Path | None, source: Path, log: str) -> Iterator[Journal]:
    """Open the journal of an import, or begin it; no other import can use it meanwhile.

    Args:
        path: of the journal; without, a name of its own for each source and log, in the current directory.
        source: of the import.
        log: id of the server's log: another log has nothing yet.

    Yields:
        The journal.

    Raises:
        Failure: if the file is something else, of another import, in use, or can't be written.
    """
    header = _BEGINNING + json.dumps(str(source.resolve())).encode() + b', "log": ' + json.dumps(log).encode() + b"}\n"
    path = path or Path(PREFIX + hashlib.blake2b(header, digest_size=8).hexdigest())
    with _take(path) as file:
        with _explained(path):
            known, tasks = _read(path, file, header)
        yield Journal(path, file, known, tasks)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "give a file that can be written: --journal FILE"
        raise Failure(f"the journal {path} can't be used: {error.strerror or error}", hint, Exit.USAGE) from error


def _take(path: Path) -> BinaryIO:
    with _explained(path):
        if path.exists() and not path.is_file():
            raise _no_journal(path)
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = os.fstat(file.fileno()).st_nlink > 0  # the import that had it may have removed it since it was opened here
        except BlockingIOError:
            is_free = False
        except OSError:
            file.close()
            raise
    if not is_free:
        file.close()
        raise Failure(f"another import uses the journal {path}", "wait for its end, or give another file: --journal FILE")
    return file


def _no_journal(path: Path) -> Failure:
    return Failure(f"{path} is no journal of an import", "give a file that does not exist yet: --journal FILE", Exit.USAGE)


def _read(path: Path, file: BinaryIO, header: bytes) -> tuple[dict[bytes, bytes], dict[str, int]]:
    file.seek(0)
    beginning = file.read(len(header))
    if not beginning:
        file.write(header)
        file.flush()
    elif beginning != header:
        if not beginning.startswith(_BEGINNING):
            raise _no_journal(path)
        hint = "finish that one and it is removed; or remove it, or give another file: --journal FILE"
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
    file.truncate(end)  # of a line cut off by a crash, so that the next one is not written onto it
    return known, tasks
