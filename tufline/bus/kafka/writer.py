"""Writing to Kafka: single appends by an idempotent producer, and transactions by one producer for each writer id.

The behaviour of aiokafka's producers after an error explains the design. A failed batch has used up its sequence numbers, so the broker
refuses the same producer's next batch, or takes it for a duplicate and acknowledges it without writing it. So a producer that had an error
is never used again. aiokafka's producers also retry indefinitely, so this module sets time limits. Late requests of a finished transaction
must not affect the next one: see ``epoch``.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from tufline.bus import Message, Position, Then
from tufline.bus.headers import ESCAPE, check_message, pairs_of
from tufline.bus.kafka.client import REQUEST_TIMEOUT_SECONDS, STOP_SECONDS, KafkaConnection, finish_start, stop_client, translate_errors
from tufline.bus.kafka.epoch import RENEW_SECONDS, Epoch
from tufline.bus.topic import Topic
from tufline.clock import in_milliseconds
from tufline.errors import BusError, FencedError, PushbackError

TRANSACTION_SECONDS: Final = 10.0
"""The broker ends a transaction whose writer is silent for this long; until then it may hold back all readers of the same topics."""

MAX_RECORD_BYTES: Final = 5_000_000
"""The largest record including its key and headers; a full bin has up to 4 MB."""

BATCH_BYTES: Final = 1024 * 1024
CLOSED: Final = "the bus is closed"

_log = structlog.get_logger(__name__)


def _producer(connection: KafkaConnection, **arguments: Any) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **connection.arguments,
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        max_batch_size=BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
        **arguments,
    )


def _retrieve_exceptions(producer: AIOKafkaProducer) -> None:
    # The caller already has the error. Nobody reads aiokafka's other futures, and asyncio would log a traceback for each failed one.
    accumulator, manager = producer._message_accumulator, producer._txn_manager  # noqa: SLF001 (there is no public way to them)
    batches = [*accumulator._pending_batches, *(batch for waiting in accumulator._batches.values() for batch in waiting)]  # noqa: SLF001
    for ended in (manager._transaction_waiter, *(batch._drain_waiter for batch in batches)):  # noqa: SLF001
        if ended is not None:
            ended.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _stop(producer: AIOKafkaProducer) -> None:
    _retrieve_exceptions(producer)
    sender, client = producer._sender, producer.client  # noqa: SLF001 (there is no public way to give up)
    await stop_client(producer.stop(), sender.close, client.close, seconds=STOP_SECONDS)


async def _start(producer: AIOKafkaProducer, doing: str) -> None:
    try:
        with translate_errors(doing):
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await finish_start(producer.start)
    except BaseException:
        await _stop(producer)
        raise


async def _send(producer: AIOKafkaProducer, connection: KafkaConnection, messages: Iterable[Message]) -> list[Position]:
    sent: list[tuple[Message, Awaitable[Any]]] = []
    try:
        for message in messages:
            headers = [(name, value.encode(errors=ESCAPE)) for name, value in pairs_of(message.headers)]
            key = message.key.encode(errors=ESCAPE) or None
            topic, partition = connection.place(message.topic, message.partition)
            future = await producer.send(topic, message.value, key, partition, headers=headers)
            sent.append((message, future))
        results = await asyncio.gather(*(future for _, future in sent))
    except BaseException:
        for _, future in sent:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # type: ignore[attr-defined]
        raise
    positions = [Position(one.topic, one.partition, done.offset, done.timestamp) for (one, _), done in zip(sent, results, strict=True)]
    if any(position.offset < 0 for position in positions):
        raise BusError("Kafka took a record for a duplicate and did not return its offset, so it is unknown whether the record was written")
    return positions


class Appender:
    """Appends outside transactions."""

    def __init__(self, connection: KafkaConnection, topics: Mapping[str, Topic], max_pending_bytes: int) -> None:
        """Start without a producer; the first append connects.

        Args:
            connection: how to reach the cluster.
            topics: all topics of the bus, by name.
            max_pending_bytes: how much may wait for the cluster before ``append`` is refused.
        """
        self._connection = connection
        self._topics = topics
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def append(self, messages: Sequence[Message]) -> list[Position]:
        """See ``Bus.append``."""
        if self._closed:
            raise BusError(CLOSED)
        _check(messages, self._topics)
        size = sum(len(message.value) for message in messages)
        if self._pending_bytes and self._pending_bytes + size > self._max_pending_bytes:
            raise PushbackError(f"{self._pending_bytes} bytes already wait for Kafka (limit: bus.max_pending_bytes)")
        self._pending_bytes += size
        self._under_way += 1
        self._idle.clear()
        try:
            producer = await self._started()
            try:
                with translate_errors("append to Kafka"):
                    async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                        return await _send(producer, self._connection, messages)
            except BusError:
                await self._discard(producer)
                raise
        finally:
            self._pending_bytes -= size
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = _producer(self._connection)
                await _start(producer, "reach the Kafka cluster")
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
            await _stop(producer)

    async def close(self) -> None:
        """Finish pending appends."""
        self._closed = True
        await self._idle.wait()
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _stop(producer)


def _check(messages: Iterable[Message], topics: Mapping[str, Topic]) -> None:
    # All messages are checked before the first is sent: a sent one can't be withdrawn.
    for message in messages:
        check_message(topics[message.topic], message.partition, message.key, message.headers)


class KafkaWriter:
    """A ``Writer`` on Kafka: one transactional producer."""

    def __init__(
        self, connection: KafkaConnection, topics: Mapping[str, Topic], writer_id: str, on_close: "Callable[[KafkaWriter], None]"
    ) -> None:
        """Start unconnected; see ``open``.

        Args:
            connection: how to reach the cluster.
            topics: all topics of the bus, by name.
            writer_id: the transactional id, without the prefix.
            on_close: called when the writer is closed.
        """
        self._connection = connection
        self._topics = topics
        self._id = writer_id
        self._on_close = on_close
        self._producer = _producer(
            connection, transactional_id=f"{connection.prefix}{writer_id}", transaction_timeout_ms=in_milliseconds(TRANSACTION_SECONDS)
        )
        self._epoch = Epoch(self._producer)
        self._failed: BusError | None = None
        self._under_way: asyncio.Task[list[Position]] | None = None

    async def open(self) -> None:
        """Connect, and fence the previous writer of the id.

        Raises:
            BusError: if the cluster can't be reached.
        """
        await _start(self._producer, f"become the writer {self._id} on Kafka")

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> list[Position]:
        """See ``Writer.commit``."""
        if self._failed is not None:
            raise self._failed
        _check(messages, self._topics)
        self._under_way = asyncio.create_task(self._commit(messages, then), name=f"bus.commit.{self._id}")
        try:
            return await asyncio.shield(self._under_way)
        except asyncio.CancelledError:
            # A cancelled caller must not leave a transaction open: all readers would wait for its end.
            await asyncio.wait([self._under_way], timeout=TRANSACTION_SECONDS)
            self._under_way.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else reads its error
            raise

    async def _commit(self, messages: Sequence[Message], then: Then | None) -> list[Position]:
        try:
            return await self._in_transaction(messages, then)
        finally:
            if self._failed is None:
                # The sooner the epoch is renewed, the less harm a late request can do. An error here does not undo the commit, so it is
                # dropped: the next transaction renews again, and raises.
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(RENEW_SECONDS):
                        await self._epoch.renew()

    async def _in_transaction(self, messages: Sequence[Message], then: Then | None) -> list[Position]:
        producer = self._producer
        try:
            with translate_errors("commit a transaction on Kafka"):
                async with asyncio.timeout(TRANSACTION_SECONDS):
                    await self._epoch.renew()
                    self._epoch.begin()
                    await producer.begin_transaction()
                    positions = await _send(producer, self._connection, messages)
                    more = self._messages_of(then, positions)
                    if isinstance(more, Exception):
                        await producer.abort_transaction()
                        raise _ThenError(more)
                    positions += await _send(producer, self._connection, more)
                    await producer.commit_transaction()
                    return positions
        except _ThenError as error:
            raise error.raised from None
        except BusError as error:
            if isinstance(error.__cause__, MessageSizeTooLargeError):
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(TRANSACTION_SECONDS):
                        await producer.abort_transaction()
                        raise
            failed = f"the writer {self._id} failed earlier ({error}): take the partition over again"
            self._failed = error if isinstance(error, FencedError) else BusError(failed)
            raise

    def _messages_of(self, then: Then | None, positions: Sequence[Position]) -> Sequence[Message] | Exception:
        try:
            more = then(positions) if then is not None else ()
            _check(more, self._topics)
        except Exception as error:  # noqa: BLE001 (as an executor does)
            return error
        return more

    async def close(self) -> None:
        """See ``Writer.close``."""
        self._on_close(self)
        if self._under_way is not None and not self._under_way.done():
            await asyncio.wait([self._under_way], timeout=TRANSACTION_SECONDS)
        await _stop(self._producer)


class _ThenError(Exception):
    def __init__(self, raised: Exception) -> None:
        super().__init__()
        self.raised = raised
