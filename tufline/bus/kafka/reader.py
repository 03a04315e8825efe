"""Reading a partition of Kafka in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tufline.bus import DEFAULT_FETCH_BYTES, Record
from tufline.bus.headers import ESCAPE, make_headers
from tufline.bus.kafka.client import REQUEST_TIMEOUT_SECONDS, KafkaConnection, finish_start, stop_consumer, translate_errors
from tufline.bus.kafka.record_batches import UNDECODABLE, DamagedError
from tufline.bus.kafka.writer import CLOSED
from tufline.clock import in_milliseconds
from tufline.errors import BusError, RecordUnreadableError

PARTITION_FETCH_BYTES: Final = 2 * 1024 * 1024
"""The most that a reader buffers ahead of ``fetch``; a single batch of records may be larger."""

LONG_POLL_MS: Final = 500
"""How long the broker waits for new records before it answers a reader at the end."""

STEP_MS: Final = 10
"""How often to check whether only the marker of a transaction, and no record, is left below the end."""


class KafkaReader:
    """A ``Reader`` on Kafka: a consumer of its own, outside any group, which sees committed records only."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        partition: int,
        offset: int,
        end: Callable[[TopicPartition], Awaitable[int]],
        read_without_consumer: "Callable[[TopicPartition, int], Awaitable[tuple[list[ConsumerRecord[bytes, bytes]], int]]]",
        on_close: "Callable[[KafkaReader], None]",
    ) -> None:
        """Read from an offset; the first ``fetch`` connects.

        Args:
            connection: how to reach the cluster.
            topic: without the prefix.
            partition: from 0.
            offset: the lowest offset to read.
            end: returns the end of a partition, see ``Bus.end``.
            read_without_consumer: reads records that aiokafka's consumer can't read; returns them and the offset to continue at.
            on_close: called when the reader is closed.
        """
        self._connection = connection
        self._topic = topic
        self._place = connection.place(topic, partition)
        self._end = end
        self._read_without_consumer = read_without_consumer
        self._on_close = on_close
        self._consumer: AIOKafkaConsumer | None = None
        self._buffer: deque[Record] = deque()
        self._closed = False
        self.position = offset

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> list[Record]:
        """See ``Reader.fetch``."""
        if self._closed:
            raise BusError(CLOSED)
        if not self._buffer:
            with translate_errors(f"read {self._place.topic}"):
                await self._fill(max_wait)
        found: list[Record] = []
        size = 0
        while self._buffer:
            size += len(self._buffer[0].value)
            if found and size > max_bytes:
                break
            found.append(self._buffer.popleft())
        if found:
            self.position = found[-1].offset + 1
        return found

    async def _fill(self, max_wait: float) -> None:
        consumer = self._consumer or await self._start()
        await self._get(consumer, in_milliseconds(max_wait))
        if self._buffer:
            return
        # Nothing came yet; but records below the end must be returned, however short the wait.
        end = await self._end(self._place)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + REQUEST_TIMEOUT_SECONDS
        while not self._buffer and await consumer.position(self._place) < end:
            if loop.time() > deadline:
                place = f"{self._place.topic}/{self._place.partition}"
                raise BusError(f"Kafka did not return the records of {place} below offset {end} within {REQUEST_TIMEOUT_SECONDS:g} s")
            await self._get(consumer, STEP_MS)

    async def _start(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._connection.arguments,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # for an offset whose record has been deleted
            fetch_max_wait_ms=LONG_POLL_MS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        )
        try:
            await finish_start(consumer.start)
        except BaseException:
            await stop_consumer(consumer)
            raise
        consumer.assign([self._place])
        consumer.seek(self._place, self.position)
        self._consumer = consumer
        return consumer

    async def _get(self, consumer: AIOKafkaConsumer, wait_ms: int) -> None:
        try:
            got = (await consumer.getmany(self._place, timeout_ms=wait_ms)).get(self._place, [])
        except (*UNDECODABLE, KafkaError) as error:
            # aiokafka raises a plain KafkaError for a transaction's marker that the log cleaner has emptied.
            if not isinstance(error, UNDECODABLE) and type(error) is not KafkaError:
                raise
            # The consumer has dropped the records that it fetched before the unreadable one, so they are read again too.
            at = await consumer.position(self._place)
            try:
                got, beyond = await self._read_without_consumer(self._place, at)
            except DamagedError as error:
                consumer.seek(self._place, at)
                raise RecordUnreadableError(self._topic, self._place.partition, error.offset, error.reason) from error
            consumer.seek(self._place, beyond)
        if self._closed:
            raise BusError(CLOSED)
        if got and got[0].offset < self.position:
            place = f"{self._place.topic}/{self._place.partition}"
            raise BusError(f"{place} ends below offset {self.position}, which was read before: Kafka has lost records")
        self._buffer += [self._record(record) for record in got]

    def _record(self, record: "ConsumerRecord[bytes, bytes]") -> Record:
        headers = make_headers((name, bytes(value or b"").decode(errors=ESCAPE)) for name, value in record.headers)
        key, value = bytes(record.key or b"").decode(errors=ESCAPE), bytes(record.value or b"")
        return Record(self._topic, record.partition, record.offset, record.timestamp, key, value, headers)

    def seek(self, offset: int) -> None:
        """See ``Reader.seek``."""
        self._buffer.clear()
        self.position = offset
        if self._consumer is not None:
            self._consumer.seek(self._place, offset)

    def refuse(self) -> None:
        """Make every further ``fetch`` fail, because the bus is closed."""
        self._closed = True

    async def close(self) -> None:
        """See ``Reader.close``."""
        self._on_close(self)
        self._closed = True
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await stop_consumer(consumer)
