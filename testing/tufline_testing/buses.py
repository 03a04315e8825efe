"""Every implementation of the bus for the contract tests: how to open it, let time pass, and make retention happen."""

import asyncio
import itertools
import sqlite3
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tufline.bus import Bus, Message, Record
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Cleanup, Topic
from tufline.clock import in_milliseconds, milliseconds_of

FILLER = "@filler"
"""Key of records whose only purpose is to make Kafka close a segment."""

_numbers = itertools.count(1)


class BusSetup(ABC):
    """An implementation of the bus, and how to open it again.

    Attributes:
        bus: the open bus.
        lag: minimum compaction lag of compacted topics, in seconds.
        retention: retention of topics that have one, in seconds.
        tick: a short time that the implementation can distinguish from zero, in seconds.
        clock_error: by how many milliseconds a record's time may differ from ``milliseconds``.
        steps: the most steps of a random history.
    """

    lag: float
    retention: float
    tick: float
    clock_error: int
    steps: int
    bus: Bus

    def __init__(self, topics: Mapping[str, Topic]) -> None:
        seconds = {Cleanup.COMPACT: self.lag, Cleanup.DELETE: self.retention, Cleanup.KEEP: 0.0}
        self.topics = {name: replace(topic, seconds=seconds[topic.cleanup]) for name, topic in topics.items()}

    @abstractmethod
    async def open(self) -> Bus:
        """Open the bus."""

    @abstractmethod
    async def later(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def maintain(self) -> None:
        """Make retention and compaction happen, and open the bus again, because it may still have deleted records in memory."""

    @abstractmethod
    async def spoil(self, record: Record) -> Bus:
        """Damage the bytes of a record without the bus's knowledge, and open the bus again.

        Args:
            record: the only record of its key, appended in its own batch.
        """

    @property
    @abstractmethod
    def milliseconds(self) -> int:
        """The current time, in milliseconds since 1970."""

    async def reopen(self) -> Bus:
        await self.bus.close()
        return await self.open()

    async def end(self) -> None:
        await self.bus.close()


class EmbeddedSetup(BusSetup):
    """The log in a file, with a clock that the test controls."""

    lag, retention, tick, clock_error, steps = 60.0, 3600.0, 10.0, 0, 200

    def __init__(self, path: Path, topics: Mapping[str, Topic], *, threads: bool) -> None:
        super().__init__(topics)
        self._path = path
        self._threads = threads
        self._now = datetime(2030, 1, 1, tzinfo=UTC)

    async def open(self) -> Bus:
        self.bus: EmbeddedBus = await open_embedded(self._path / "log.db", self.topics, clock=lambda: self._now, threads=self._threads)
        return self.bus

    async def later(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def maintain(self) -> None:
        await self.bus.maintain()
        await self.reopen()

    async def spoil(self, record: Record) -> Bus:
        with closing(sqlite3.connect(self._path / "log.db")) as db, db:
            changed = db.execute("UPDATE records SET value = 7, headers = '{' WHERE key = ? AND value = ?", (record.key, record.value))
            assert changed.rowcount == 1
        return await self.reopen()

    @property
    def milliseconds(self) -> int:
        return milliseconds_of(self._now)


class KafkaSetup(BusSetup):
    """A real cluster, in which each test has its own prefix. Time is real, so the times are short."""

    lag, retention, tick, clock_error, steps = 6.0, 12.0, 0.1, 5000, 60

    SEGMENT_SECONDS = 0.1
    CLEANING_SECONDS = 2.0
    """Longer than the broker's interval between two retention checks."""

    def __init__(self, servers: str, topics: Mapping[str, Topic], replicas: int = 1, data: Path | None = None) -> None:
        super().__init__(topics)
        self._data = data
        self._connection = KafkaConnection(servers, f"t{next(_numbers)}-{time.time_ns()}.", {})
        self._replicas = replicas

    async def create(self) -> None:
        async with TopicAdmin(self._connection, self.topics, self._replicas) as admin:
            await admin.apply()
            assert await admin.differences() == []
            for topic in self.topics:
                settings = {"segment.ms": str(in_milliseconds(self.SEGMENT_SECONDS)), "min.cleanable.dirty.ratio": "0.001"}
                await admin.set(topic, settings)

    async def open(self) -> Bus:
        self.bus = await open_kafka(self._connection, self.topics, max_pending_bytes=64 * 1024 * 1024)
        return self.bus

    async def later(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self.retention + 1))

    async def maintain(self) -> None:
        # Kafka never cleans the active segment; another record, a while later, starts a new one.
        await asyncio.sleep(2 * self.SEGMENT_SECONDS)
        going = [topic for topic in self.topics.values() if topic.cleanup is not Cleanup.KEEP]
        places = [(topic.name, number) for topic in going for number in range(topic.partitions)]
        await self.bus.append([Message(topic, FILLER, b"", number) for topic, number in places])
        await asyncio.sleep(self.CLEANING_SECONDS)
        await self.reopen()

    async def spoil(self, record: Record) -> Bus:
        assert self._data is not None
        place = self._connection.place(record.topic, record.partition)
        for segment in (self._data / f"{place.topic}-{place.partition}").glob("*.log"):
            content = segment.read_bytes()
            at = 0
            while at < len(content):
                base, length = struct.unpack_from(">qi", content, at)
                end = at + 12 + length
                if base == record.offset:
                    with segment.open("r+b") as file:
                        file.seek(end - 1)
                        file.write(bytes([content[end - 1] ^ 0xFF]))
                    return await self.reopen()
                at = end
        raise AssertionError(f"there is no batch at {record.offset}")

    @property
    def milliseconds(self) -> int:
        return time.time_ns() // 1_000_000
