"""Reading the log's file from the event loop, in threads with a connection each.

In: what to read. Out: records of the last commit. Single records that are asked for in one turn of the loop are read together.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tufline.bus.embedded.log_reader import LogReader
from tufline.bus.embedded.schema import Place
from tufline.errors import BusError

READ_THREADS: Final = 2
READS: Final = 50
"""How many records one job of a reader thread reads."""

CLOSED: Final = "the log is closed"

T = TypeVar("T")


class _Wanted(NamedTuple):
    place: Place
    offset: int
    key: str
    sha256: str
    done: asyncio.Future[bytes]


class FileReads:
    """Reads the file of a log."""

    def __init__(self, reader: LogReader, path: Path, *, threads: bool) -> None:
        """Read a log.

        Args:
            reader: reads the log.
            path: its file, for messages.
            threads: whether threads do the disk I/O; otherwise the event loop does it.
        """
        self._reader = reader
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tufline-log-reader") if threads else None
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._wanted: list[_Wanted] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused = False

    async def run(self, work: Callable[[LogReader, sqlite3.Connection], T]) -> T:
        """Read something.

        Args:
            work: called in a thread, with that thread's connection.

        Returns:
            What it returned.

        Raises:
            BusError: if the log is closed, or the file can't be read.
        """
        if self._refused:
            raise BusError(CLOSED)
        try:
            if self._threads is None:
                return work(self._reader, self._connection())
            return await self._loop.run_in_executor(self._threads, lambda: work(self._reader, self._connection()))
        except sqlite3.Error as error:
            raise BusError(f"can't read the log {self._path}: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._of_thread, "db", None)
        if db is None:
            db = self._of_thread.db = self._reader.connect()
            self._connections.append(db)
        return db

    async def read(self, place: Place, offset: int, key: str, sha256: str) -> bytes:
        """Read one record; see ``Bus.read``."""
        # All records requested in one turn of the loop are read together: a change of thread takes longer than reading a record.
        done: asyncio.Future[bytes] = self._loop.create_future()
        self._wanted.append(_Wanted(place, offset, key, sha256, done))
        if len(self._wanted) == 1:
            self._loop.call_soon(self._read_wanted)
        return await done

    def _read_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        for start in range(0, len(wanted), READS):
            task = asyncio.create_task(self._read_some(wanted[start : start + READS]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read_some(self, wanted: Sequence[_Wanted]) -> None:
        results: Sequence[bytes | Exception]
        try:
            results = await self.run(lambda reader, db: [reader.read(db, one.place, one.offset, one.key, one.sha256) for one in wanted])
        except Exception as error:  # noqa: BLE001 (as an executor does)
            results = [error] * len(wanted)
        for one, result in zip(wanted, results, strict=True):
            if one.done.done():
                continue
            if isinstance(result, bytes):
                one.done.set_result(result)
            else:
                one.done.set_exception(result)

    def refuse(self) -> None:
        """Make every further read fail, because the log is being closed."""
        self._refused = True

    def end_threads(self) -> None:
        """End the threads, once they have finished their reads. This blocks."""
        if self._threads is not None:
            self._threads.shutdown()

    def close(self) -> None:
        """Close the connections; no thread may use them any more."""
        for db in self._connections:
            db.close()
