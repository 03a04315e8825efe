"""The embedded bus: the log in a SQLite file, for one process without a server.

Group commit: when the writer thread is free, it writes all waiting operations in one commit, and then answers all of them. So many small
requests share one sync, and a single request does not wait for others.

Reading: a reader at the end gets new records from memory as soon as they are durable. A reader further behind reads the file on a
connection of its own.

With ``threads=False`` everything runs in the event loop: all operations submitted in one turn of the loop are one commit. With a loop in
virtual time, that makes simulations reproducible.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from tufline.bus import DEFAULT_FETCH_BYTES, DEFAULT_SESSION_SECONDS, Assigned, Message, Position, Record, Then
from tufline.bus.embedded.groups import GroupMember, Groups
from tufline.bus.embedded.log import Append, Log, Operation, Result
from tufline.bus.embedded.schema import Place
from tufline.bus.embedded.tails import Tail, Tails, cost
from tufline.bus.topic import Topic
from tufline.clock import Clock, utc_now
from tufline.concurrency import finish_in_thread
from tufline.errors import BusError, PushbackError

DEFAULT_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""How much may wait for the disk before appending is refused."""

TAIL_BYTES: Final = 32 * 1024 * 1024
"""How much of the newest records of all partitions stays in memory, for readers at the end."""

READ_THREADS: Final = 2
READS: Final = 50
"""How many records one job of a reader thread reads."""

MAINTENANCE_SECONDS: Final = 30.0
"""How often the bus looks for records that may be deleted."""

CLOSED: Final = "the log is closed"

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    operation: Operation
    size: int
    done: asyncio.Future[Any]


class _Wanted(NamedTuple):
    place: Place
    offset: int
    key: str
    sha256: str
    done: asyncio.Future[bytes]


class EmbeddedBus:
    """The ``Bus`` within one process; made by ``open_embedded``."""

    def __init__(self, log: Log, topics: Mapping[str, Topic], max_pending_bytes: int, *, threads: bool) -> None:
        """Serve a log.

        Args:
            log: an open log; closed with the bus.
            topics: all topics of the log, by name.
            max_pending_bytes: how much may wait for the disk before ``append`` is refused.
            threads: whether threads do the disk I/O; otherwise the event loop does it.
        """
        self._log = log
        self._topics = topics
        self._max_pending_bytes = max_pending_bytes
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Waiting] = []
        self._pending_bytes = 0
        self._flush_asked = False
        self._writing = False
        self._tails = Tails(log.ends, TAIL_BYTES)
        self._groups = Groups()
        self._wanted: list[_Wanted] = []
        self._reads: set[asyncio.Task[None]] = set()
        self._closed = False
        self._work: queue.SimpleQueue[list[_Waiting] | None] | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._connections = threading.local()
        self._opened: list[sqlite3.Connection] = []
        if threads:
            self._work = queue.SimpleQueue()
            self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tufline-log-reader")
            self._writer_thread = threading.Thread(target=self._write_for_ever, name="tufline-log-writer", daemon=True)
            self._writer_thread.start()
        self._maintenance = asyncio.create_task(self._maintain_for_ever(), name="bus.maintenance")

    @property
    def log_id(self) -> str:
        """See ``Bus.log_id``."""
        return self._log.log_id

    @property
    def session_seconds(self) -> float:
        """See ``Bus.session_seconds``."""
        return DEFAULT_SESSION_SECONDS

    def partitions(self, topic: str) -> int:
        """See ``Bus.partitions``."""
        return self._topics[topic].partitions

    # Writing

    async def append(self, messages: Sequence[Message]) -> list[Position]:
        """See ``Bus.append``."""
        # Transactions are never refused: each writer has only one at a time, and they are what makes progress and so frees memory.
        size = sum(map(cost, messages))
        if self._pending_bytes and self._pending_bytes + size > self._max_pending_bytes:
            raise PushbackError(f"{self._pending_bytes} bytes already wait for the disk of the log (limit: bus.max_pending_bytes)")
        return await self.submit_append(Append(messages))

    async def writer(self, writer_id: str) -> "EmbeddedWriter":
        """See ``Bus.writer``."""
        epoch: int = await self._submit(lambda: self._log.new_epoch(writer_id), 0)
        return EmbeddedWriter(self, writer_id, epoch)

    async def trim(self, topic: str, partition: int, offset: int) -> None:
        """See ``Bus.trim``."""
        await self._submit(lambda: self._log.trim((topic, partition), offset), 0)

    async def submit_append(self, operation: Append) -> list[Position]:
        """Append in the next commit.

        Args:
            operation: the messages, and the writer if there is one.

        Returns:
            The positions of all appended records.

        Raises:
            BusError: as ``Bus.append`` and ``Writer.commit`` say.
        """
        size = 0 if operation.writer else sum(map(cost, operation.messages))
        appended: Sequence[Record] = await self._submit(operation, size)
        return [Position(record.topic, record.partition, record.offset, record.time) for record in appended]

    async def _submit(self, operation: Operation, size: int) -> Any:
        if self._closed:
            raise BusError(CLOSED)
        # Cancelling the waiting caller does not undo the operation: it may already be on the disk.
        return await self._enqueue(operation, size)

    def _enqueue(self, operation: Operation, size: int) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append(_Waiting(operation, size, done))
        self._pending_bytes += size
        self._ask_for_flush()
        return done

    def _ask_for_flush(self) -> None:
        if self._pending and not self._flush_asked and not self._writing:
            self._flush_asked = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_asked = False
        self._writing = True
        batch, self._pending = self._pending, []
        if self._work is not None:
            self._work.put(batch)
        else:
            self._finish(batch, self._execute(batch))

    def _execute(self, batch: Sequence[_Waiting]) -> Sequence[Result]:
        return self._log.execute([waiting.operation for waiting in batch])

    def _write_for_ever(self) -> None:
        assert self._work is not None
        while (batch := self._work.get()) is not None:
            results = self._execute(batch)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile; the records are durable all the same
                self._loop.call_soon_threadsafe(self._finish, batch, results)

    def _finish(self, batch: Sequence[_Waiting], results: Sequence[Result]) -> None:
        self._writing = False
        woken: set[Tail] = set()
        for waiting, result in zip(batch, results, strict=True):
            self._pending_bytes -= waiting.size
            if isinstance(result, list):
                woken.update([self._tails.append(record) for record in result])
            if waiting.done.done():
                continue
            if isinstance(result, BaseException):
                waiting.done.set_exception(result)
                waiting.done.exception()  # marks it as retrieved: a caller cancelled from now on does not read it
            else:
                waiting.done.set_result(result)
        for tail in woken:
            tail.wake()
        self._ask_for_flush()

    # Reading

    def reader(self, topic: str, partition: int, offset: int) -> "EmbeddedReader":
        """See ``Bus.reader``."""
        return EmbeddedReader(self, (topic, partition), offset)

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        """See ``Bus.read``."""
        # All records requested in one turn of the loop are read together: a change of thread takes longer than reading a record.
        done: asyncio.Future[bytes] = self._loop.create_future()
        self._wanted.append(_Wanted((topic, partition), offset, key, sha256, done))
        if len(self._wanted) == 1:
            self._loop.call_soon(self._read_wanted)
        return await done

    def _read_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        for start in range(0, len(wanted), READS):
            task = asyncio.create_task(self._read_some(wanted[start : start + READS]))
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)

    async def _read_some(self, wanted: Sequence[_Wanted]) -> None:
        results: Sequence[bytes | Exception]
        try:
            results = await self._reading(
                lambda db: [self._log.reader.read(db, one.place, one.offset, one.key, one.sha256) for one in wanted]
            )
        except Exception as error:  # noqa: BLE001 (as an executor does)
            results = [error] * len(wanted)
        for one, result in zip(wanted, results, strict=True):
            if one.done.done():
                continue
            if isinstance(result, bytes):
                one.done.set_result(result)
            else:
                one.done.set_exception(result)

    async def end(self, topic: str, partition: int) -> int:
        """See ``Bus.end``."""
        return self._tails[topic, partition].end

    async def start(self, topic: str, partition: int) -> int:
        """See ``Bus.start``."""
        end = self._tails[topic, partition].end
        return await self._reading(lambda db: self._log.reader.start(db, (topic, partition), end))

    async def offset_at(self, topic: str, partition: int, time: int) -> int:
        """See ``Bus.offset_at``."""
        end = self._tails[topic, partition].end
        return await self._reading(lambda db: self._log.reader.offset_at(db, (topic, partition), time, end))

    async def fetch(self, place: Place, offset: int, max_wait: float, max_bytes: int) -> list[Record]:
        """Read the next records of a partition; see ``Reader.fetch``."""
        tail = self._tails[place]
        deadline = self._loop.time() + max_wait
        while True:
            if self._closed:
                raise BusError(CLOSED)
            # The file may be ahead of what is visible: below ``tail.end`` every transaction is visible in all its partitions.
            if offset < (end := tail.end):
                found = tail.since(offset, max_bytes)
                if found is None:
                    found = await self._reading(partial(self._log.reader.fetch, place=place, offset=offset, end=end, max_bytes=max_bytes))
                if found:
                    return found
                offset = end
            left = deadline - self._loop.time()
            if left <= 0 or not await tail.news(left):
                return []

    async def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise BusError(CLOSED)
        try:
            if self._readers is None:
                return work(self._connection())
            return await self._loop.run_in_executor(self._readers, lambda: work(self._connection()))
        except sqlite3.Error as error:
            raise BusError(f"can't read the log {self._log.path}: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._connections, "db", None)
        if db is None:
            db = self._connections.db = self._log.reader.connect()
            self._opened.append(db)
        return db

    # Groups, maintenance, end

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> GroupMember:
        """See ``Bus.join``."""
        return await self._groups.join(group, topic, self.partitions(topic), assigned, revoked)

    async def maintain(self) -> None:
        """Delete all records that may be deleted by now, a few at a time so that commits do not wait long."""
        while await self._submit(self._log.maintain, 0):
            pass

    async def _maintain_for_ever(self) -> None:
        while True:
            await asyncio.sleep(MAINTENANCE_SECONDS)
            try:
                await self.maintain()
            except BusError as error:
                _log.warning("bus.maintenance_failed", error=str(error))

    async def close(self) -> None:
        """See ``Bus.close``."""
        if self._closed:
            return
        self._closed = True
        self._maintenance.cancel()
        await asyncio.wait({self._maintenance, self._enqueue(lambda: 0, 0)})
        self._tails.wake_all()
        try:
            await finish_in_thread(self._end_threads)
        finally:
            for db in self._opened:
                db.close()
            self._log.close()

    def _end_threads(self) -> None:
        if self._work is not None:
            self._work.put(None)
            self._writer_thread.join()
        if self._readers is not None:
            self._readers.shutdown()


class EmbeddedWriter:
    """A ``Writer`` of the embedded bus."""

    def __init__(self, bus: EmbeddedBus, writer_id: str, epoch: int) -> None:
        """Write under an epoch.

        Args:
            bus: where to write.
            writer_id: such as ``bins.3``.
            epoch: from ``Log.new_epoch``.
        """
        self._bus = bus
        self._writer = writer_id, epoch

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> list[Position]:
        """See ``Writer.commit``."""
        return await self._bus.submit_append(Append(messages, then, self._writer))

    async def close(self) -> None:
        """See ``Writer.close``."""


class EmbeddedReader:
    """A ``Reader`` of the embedded bus."""

    def __init__(self, bus: EmbeddedBus, place: Place, offset: int) -> None:
        """Read from an offset.

        Args:
            bus: to read from.
            place: topic and partition.
            offset: the lowest to read.
        """
        self._bus = bus
        self._place = place
        self.position = offset

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> list[Record]:
        """See ``Reader.fetch``."""
        found = await self._bus.fetch(self._place, self.position, max_wait, max_bytes)
        if found:
            self.position = found[-1].offset + 1
        return found

    def seek(self, offset: int) -> None:
        """See ``Reader.seek``."""
        self.position = offset

    async def close(self) -> None:
        """See ``Reader.close``."""


async def open_embedded(
    path: Path,
    topics: Mapping[str, Topic],
    *,
    clock: Clock = utc_now,
    monotonic: Callable[[], float] | None = None,
    max_pending_bytes: int = DEFAULT_MAX_PENDING_BYTES,
    threads: bool = True,
) -> EmbeddedBus:
    """Open the log in a file, or create a new one.

    Args:
        path: the SQLite file; its directory is created.
        topics: all topics of the log, by name.
        clock: the source of the records' times.
        monotonic: a clock in seconds that is never corrected; if set, a short fault of ``clock`` does not move the records' times.
        max_pending_bytes: how much may wait for the disk before ``append`` is refused.
        threads: whether threads do the disk I/O; otherwise everything runs in the event loop, for simulations.

    Returns:
        The bus; close it.

    Raises:
        BusBusyError: if another process has the log open.
        ConfigError: if the log has another number of partitions, the file is not a log, or the path can't hold one.
    """
    return EmbeddedBus(Log(path, topics, clock, monotonic), topics, max_pending_bytes, threads=threads)
