"""The embedded bus: the log in a SQLite file, for one process without a server.

Operations share commits (``group_commit``). A reader at the end gets new records from memory as soon as they are durable (``tails``); a
reader further behind reads the file (``file_reads``).

With ``threads=False`` everything runs in the event loop: all operations submitted in one turn of the loop are one commit. With a loop in
virtual time, that makes simulations reproducible.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from tufline.bus import DEFAULT_FETCH_BYTES, DEFAULT_SESSION_SECONDS, Assigned, Message, Position, Record, Then
from tufline.bus.embedded.file_reads import CLOSED, FileReads
from tufline.bus.embedded.group_commit import GroupCommit
from tufline.bus.embedded.groups import GroupMember, Groups
from tufline.bus.embedded.log import Append, Log, Operation
from tufline.bus.embedded.log_reader import LogReader
from tufline.bus.embedded.schema import Place
from tufline.bus.embedded.tails import Tails, cost
from tufline.bus.topic import Topic
from tufline.clock import Clock, utc_now
from tufline.concurrency import finish_in_thread
from tufline.errors import BusError, PushbackError

DEFAULT_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""How much may wait for the disk before appending is refused."""

TAIL_BYTES: Final = 32 * 1024 * 1024
"""How much of the newest records of all partitions stays in memory, for readers at the end."""

MAINTENANCE_SECONDS: Final = 30.0
"""How often the bus looks for records that may be deleted."""

_log = structlog.get_logger(__name__)


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
        self._tails = Tails(log.ends, TAIL_BYTES)
        self._groups = Groups()
        self._commits = GroupCommit(log, self._show, threads=threads)
        self._reads = FileReads(log.reader, log.path, threads=threads)
        self._closed = False
        self._maintenance = asyncio.create_task(self._keep_maintaining(), name="bus.maintenance")

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
        # Transactions are never refused: each writer has only one at a time, and their progress frees memory.
        size = sum(map(cost, messages))
        pending = self._commits.pending_bytes
        if pending and pending + size > self._max_pending_bytes:
            raise PushbackError(f"{pending} bytes already wait for the disk of the log (limit: bus.max_pending_bytes)")
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
            BusError: see ``Bus.append`` and ``Writer.commit``.
        """
        size = 0 if operation.writer else sum(map(cost, operation.messages))
        appended: Sequence[Record] = await self._submit(operation, size)
        return [Position(record.topic, record.partition, record.offset, record.time) for record in appended]

    async def _submit(self, operation: Operation, size: int) -> Any:
        if self._closed:
            raise BusError(CLOSED)
        # Cancelling the waiting caller does not undo the operation: it may already be on the disk.
        return await self._commits.submit(operation, size)

    def _show(self, records: Sequence[Record]) -> None:
        # Readers wake only when all records of the commit are in memory, so they see whole transactions.
        for tail in dict.fromkeys(self._tails.append(record) for record in records):
            tail.wake()

    # Reading

    def reader(self, topic: str, partition: int, offset: int) -> "EmbeddedReader":
        """See ``Bus.reader``."""
        return EmbeddedReader(self, (topic, partition), offset)

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        """See ``Bus.read``."""
        return await self._reads.read((topic, partition), offset, key, sha256)

    async def end(self, topic: str, partition: int) -> int:
        """See ``Bus.end``."""
        return self._tails[topic, partition].end

    async def start(self, topic: str, partition: int) -> int:
        """See ``Bus.start``."""
        end = self._tails[topic, partition].end
        return await self._reads.run(lambda reader, db: reader.start(db, (topic, partition), end))

    async def offset_at(self, topic: str, partition: int, time: int) -> int:
        """See ``Bus.offset_at``."""
        end = self._tails[topic, partition].end
        return await self._reads.run(lambda reader, db: reader.offset_at(db, (topic, partition), time, end))

    async def fetch(self, place: Place, offset: int, max_wait: float, max_bytes: int) -> list[Record]:
        """Read the next records of a partition; see ``Reader.fetch``."""
        tail = self._tails[place]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait
        while True:
            if self._closed:
                raise BusError(CLOSED)
            # The file may have records that readers must not see yet. Below ``tail.end`` every transaction is visible in all partitions.
            if offset < (end := tail.end):
                found = tail.since(offset, max_bytes)
                if found is None:
                    found = await self._reads.run(partial(LogReader.fetch, place=place, offset=offset, end=end, max_bytes=max_bytes))
                if found:
                    return found
                offset = end
            left = deadline - loop.time()
            if left <= 0 or not await tail.news(left):
                return []

    # Groups, maintenance, end

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> GroupMember:
        """See ``Bus.join``."""
        return await self._groups.join(group, topic, self.partitions(topic), assigned, revoked)

    async def maintain(self) -> None:
        """Delete all records that may be deleted by now, a few at a time so that commits do not wait long."""
        while await self._submit(self._log.maintain, 0):
            pass

    async def _keep_maintaining(self) -> None:
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
        self._reads.refuse()
        self._maintenance.cancel()
        await asyncio.wait({self._maintenance, self._commits.submit(lambda: 0, 0)})
        self._tails.wake_all()
        try:
            await finish_in_thread(self._end_threads)
        finally:
            self._reads.close()
            self._log.close()

    def _end_threads(self) -> None:
        self._commits.end_thread()
        self._reads.end_threads()


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
            offset: the lowest offset to read.
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
