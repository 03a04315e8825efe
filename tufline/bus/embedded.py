"""The embedded bus: the log in a SQLite file, for one process without a server.

Group commit: what is waiting when the writer thread is free goes to the disk in one commit, and all who waited get their answers at once.
So many small requests cost one sync together, and one alone costs no waiting.

Reading: a reader that is at the end gets new records from memory as soon as they are durable; one further behind reads the file on a
connection of its own.

With ``threads=False`` everything runs in the event loop: what is submitted in one turn of the loop is one commit. Together with a loop in
virtual time that makes a simulation whose every run is the same.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from tufline.bus import DEFAULT_FETCH_BYTES, Assigned, Message, Position, Record, Then
from tufline.bus._log import Append, Log, Operation, Place
from tufline.bus._members import Groups
from tufline.clock import Clock, utc_now
from tufline.errors import BusError, PushbackError
from tufline.topics import Topic

DEFAULT_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""How much may wait for the disk before appending is refused."""

TAIL_BYTES: Final = 4 * 1024 * 1024
"""How much of each partition's newest records stays in memory, for readers at the end."""

READ_THREADS: Final = 2

MAINTENANCE_SECONDS: Final = 30.0
"""How often records that may go are looked for."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Tail:
    """The newest records of a partition, and who waits for more."""

    __slots__ = ("end", "records", "size", "waiting")

    def __init__(self, end: int) -> None:
        self.end = end
        self.records: deque[Record] = deque()
        self.size = 0
        self.waiting: set[asyncio.Future[None]] = set()

    def append(self, record: Record) -> None:
        self.records.append(record)
        self.size += len(record.value)
        self.end = record.offset + 1
        while self.size > TAIL_BYTES and len(self.records) > 1:
            self.size -= len(self.records.popleft().value)

    def wake(self) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    def since(self, offset: int, max_bytes: int) -> list[Record] | None:
        """Give the records from an offset on; None if some of them are not in memory."""
        if not self.records or self.records[0].offset > offset:
            return None
        found: list[Record] = []
        size = 0
        for record in reversed(self.records):
            if record.offset < offset:
                break
            found.append(record)
        found.reverse()
        for count, record in enumerate(found):
            size += len(record.value)
            if count and size > max_bytes:
                return found[:count]
        return found


class EmbeddedBus:
    """The ``Bus`` in one process; see the module. Made by ``open_embedded``."""

    def __init__(self, log: Log, topics: Mapping[str, Topic], max_pending_bytes: int, *, threads: bool) -> None:
        """Serve a log.

        Args:
            log: open.
            topics: all that it has.
            max_pending_bytes: how much may wait for the disk.
            threads: whether the disk is worked by threads, or in the event loop.
        """
        self._log = log
        self._topics = topics
        self._max_pending_bytes = max_pending_bytes
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[Operation, asyncio.Future[Any]]] = []
        self._pending_bytes = 0
        self._flush_asked = False
        self._tails = {place: _Tail(end) for place, end in log.places.items()}
        self._groups = Groups()
        self._closed = False
        self._work: queue.SimpleQueue[list[tuple[Operation, asyncio.Future[Any]]] | None] | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._connections = threading.local()
        self._opened: list[sqlite3.Connection] = []
        if threads:
            self._work = queue.SimpleQueue()
            self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tufline-log-reader")
            self._writer_thread = threading.Thread(target=self._write_for_ever, name="tufline-log-writer", daemon=True)
            self._writer_thread.start()
        self._maintenance = asyncio.create_task(self._maintain_for_ever(), name="bus.maintenance")
        self._writing = False

    @property
    def log_id(self) -> str:
        """See ``Bus.log_id``."""
        return self._log.log_id

    def partitions(self, topic: str) -> int:
        """See ``Bus.partitions``."""
        return self._topics[topic].partitions

    # Writing

    async def append(self, messages: Sequence[Message]) -> list[Position]:
        """See ``Bus.append``."""
        # Transactions are not held back: a writer has one at a time, and it is what makes room.
        size = sum(len(message.value) for message in messages)
        if self._pending_bytes and self._pending_bytes + size > self._max_pending_bytes:
            raise PushbackError(f"{self._pending_bytes} bytes wait for the disk of the log already (bus.max_pending_bytes)")
        return await self.submit_append(Append(messages))

    async def writer(self, writer_id: str) -> "EmbeddedWriter":
        """See ``Bus.writer``."""
        epoch: int = await self._submit(lambda: self._log.new_epoch(writer_id), 0)
        return EmbeddedWriter(self, writer_id, epoch)

    async def trim(self, topic: str, partition: int, offset: int) -> None:
        """See ``Bus.trim``."""
        await self._submit(lambda: self._log.trim((topic, partition), offset), 0)

    async def submit_append(self, operation: Append) -> list[Position]:
        """Append, when the disk is free.

        Args:
            operation: what to append.

        Returns:
            The positions.

        Raises:
            BusError: as ``Bus.append`` and ``Writer.commit`` say.
        """
        size = 0 if operation.writer else sum(len(message.value) for message in operation.messages)
        appended: Sequence[Record] = await self._submit(operation, size)
        return [Position(record.topic, record.partition, record.offset, record.time) for record in appended]

    async def _submit(self, operation: Operation, size: int) -> Any:
        if self._closed:
            raise BusError("the log is closed")
        done: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append((operation, done))
        self._pending_bytes += size
        done.add_done_callback(lambda _: self._forget(size))
        self._ask_for_flush()
        # Shielded: who stops waiting does not take the operation back, as it may be on the disk.
        return await asyncio.shield(done)

    def _forget(self, size: int) -> None:
        self._pending_bytes -= size

    def _ask_for_flush(self) -> None:
        if not self._flush_asked and not self._writing and self._pending:
            self._flush_asked = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_asked = False
        batch, self._pending = self._pending, []
        if not batch:
            return
        self._writing = True
        if self._work is not None:
            self._work.put(batch)
        else:
            self._finish(batch, self._log.execute([operation for operation, _ in batch]))

    def _write_for_ever(self) -> None:
        assert self._work is not None
        while (batch := self._work.get()) is not None:
            results = self._log.execute([operation for operation, _ in batch])
            with contextlib.suppress(RuntimeError):  # the loop was closed under us; what is durable stays so
                self._loop.call_soon_threadsafe(self._finish, batch, results)

    def _finish(self, batch: Sequence[tuple[Operation, asyncio.Future[Any]]], results: Sequence[Any]) -> None:
        self._writing = False
        woken: set[_Tail] = set()
        for (_, done), result in zip(batch, results, strict=True):
            if isinstance(result, BaseException):
                if not done.done():
                    done.set_exception(result)
                    done.exception()  # seen: whoever stopped waiting does not read it
                continue
            if isinstance(result, list):
                for record in result:
                    tail = self._tails[record.topic, record.partition]
                    tail.append(record)
                    woken.add(tail)
            if not done.done():
                done.set_result(result)
        for tail in woken:
            tail.wake()
        self._ask_for_flush()

    # Reading

    def reader(self, topic: str, partition: int, offset: int) -> "EmbeddedReader":
        """See ``Bus.reader``."""
        return EmbeddedReader(self, (topic, partition), offset)

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        """See ``Bus.read``."""
        return await self._reading(lambda db: self._log.read(db, (topic, partition), offset, key, sha256))

    async def end(self, topic: str, partition: int) -> int:
        """See ``Bus.end``."""
        return self._tails[topic, partition].end

    async def offset_at(self, topic: str, partition: int, time: int) -> int:
        """See ``Bus.offset_at``."""
        return await self._reading(lambda db: self._log.offset_at(db, (topic, partition), time))

    async def fetch(self, place: Place, offset: int, max_wait: float, max_bytes: int) -> list[Record]:
        """Read the next records of a partition; see ``Reader.fetch``."""
        tail = self._tails[place]
        deadline = self._loop.time() + max_wait
        while True:
            if offset < tail.end:
                found = tail.since(offset, max_bytes)
                if found is None:
                    found = await self._reading(lambda db: self._log.fetch(db, place, offset, max_bytes))
                if found:
                    return found
            left = deadline - self._loop.time()
            if left <= 0 or not await self._news(tail, left):
                return []

    async def _news(self, tail: _Tail, seconds: float) -> bool:
        waiter: asyncio.Future[None] = self._loop.create_future()
        tail.waiting.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            tail.waiting.discard(waiter)
        return True

    async def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise BusError("the log is closed")
        try:
            if self._readers is None:
                return work(self._connection())
            return await self._loop.run_in_executor(self._readers, lambda: work(self._connection()))
        except sqlite3.Error as error:
            raise BusError(f"the log {self._log.path} can't be read: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._connections, "db", None)
        if db is None:
            db = self._connections.db = self._log.open_reader()
            self._opened.append(db)
        return db

    # Groups, maintenance, end

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> "EmbeddedMember":
        """See ``Bus.join``."""
        key = await self._groups.join(group, self.partitions(topic), assigned, revoked)
        return EmbeddedMember(self._groups, group, key)

    async def maintain(self) -> None:
        """Drop all records that may go by now, a few at a time, so that commits do not wait."""
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
        self._maintenance.cancel()
        waiting = [done for _, done in self._pending]
        if self._writing or waiting:
            await self._submit(lambda: 0, 0)
        self._closed = True
        if self._work is not None:
            self._work.put(None)
            await asyncio.to_thread(self._writer_thread.join)
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
        for db in self._opened:
            db.close()
        self._log.close()


class EmbeddedWriter:
    """A ``Writer`` of the embedded bus."""

    def __init__(self, bus: EmbeddedBus, writer_id: str, epoch: int) -> None:
        """Write under an epoch.

        Args:
            bus: to write to.
            writer_id: whose writer this is.
            epoch: as the log gave it.
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
            place: the partition.
            offset: the lowest of interest.
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

    async def close(self) -> None:
        """See ``Reader.close``."""


class EmbeddedMember:
    """A ``Member`` of a group in this process."""

    def __init__(self, groups: Groups, group: str, key: int) -> None:
        """Hold a place.

        Args:
            groups: of the bus.
            group: its name.
            key: of the place.
        """
        self._groups = groups
        self._group = group
        self._key = key

    async def leave(self) -> None:
        """See ``Member.leave``."""
        await self._groups.leave(self._group, self._key)


async def open_embedded(
    path: Path,
    topics: Mapping[str, Topic],
    *,
    clock: Clock = utc_now,
    max_pending_bytes: int = DEFAULT_MAX_PENDING_BYTES,
    threads: bool = True,
) -> EmbeddedBus:
    """Open the log in a file, or make a new one.

    Args:
        path: of the SQLite file; its directory is made.
        topics: all that the log has.
        clock: gives the records' times.
        max_pending_bytes: how much may wait for the disk before appending is refused.
        threads: whether the disk is worked by threads; without, everything runs in the event loop, for simulations.

    Returns:
        The bus; close it.

    Raises:
        BusBusyError: if another process has the log open.
        ConfigError: if the log has other partitions, or the file is none.
    """
    return EmbeddedBus(Log(path, topics, clock), topics, max_pending_bytes, threads=threads)
