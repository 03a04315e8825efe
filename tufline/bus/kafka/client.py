"""Connecting to Kafka, translating its errors, and reading single records by offset, which aiokafka's consumer does not offer.

In: the settings. Out: the arguments of every aiokafka client, and ``Lookup``, which reads single records by their offsets.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient

from tufline.bus.headers import ESCAPE
from tufline.bus.kafka.record_batches import READ_UNCOMMITTED, RETRY_SECONDS, DamagedError, fetch, read_uncommitted
from tufline.clock import in_milliseconds
from tufline.concurrency import finish
from tufline.errors import BusError, BusUnreachableError, FencedError, RecordGoneError, RecordUnreadableError

REQUEST_TIMEOUT_SECONDS: Final = 30.0
"""If a request has no answer after this time, its outcome counts as unknown."""

FINISH_START_SECONDS: Final = 5.0
"""How long a cancelled start may still take: a broker that answers needs much less."""

STOP_SECONDS: Final = 5.0
"""How long a client that is in no group may take to stop."""

LEAVE_SECONDS: Final = 10.0
"""How long a consumer may take to stop, which includes leaving its group; after that, the group takes it for dead once its session ends."""

CANCELLATIONS: Final = 2
"""How often a stop is cancelled. After the first time, a producer of aiokafka still waits for the answers to its requests."""

LAG_SECONDS: Final = 5.0
"""How long a new partition leader may deny records that readers have seen, until it learns the high watermark from its replicas."""

PRODUCER_FENCED: Final = 90
"""The error code PRODUCER_FENCED of KIP-360, which aiokafka has no class for."""

NO_BROKER: Final = (
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.KafkaTimeoutError,
    errors.BrokerNotAvailableError,
    errors.LeaderNotAvailableError,
    errors.NotControllerError,
    errors.GroupCoordinatorNotAvailableError,
)
"""aiokafka's errors that mean that no suitable broker could be reached; they say nothing about the request itself."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class KafkaConnection:
    """A cluster, how to reach it, and the prefix that Tufline uses in it.

    Attributes:
        servers: host:port of some brokers, comma-separated.
        prefix: prepended to the names of topics and groups and to transactional ids.
        security: further arguments of aiokafka's clients, such as ``security_protocol``.
    """

    servers: str
    prefix: str
    security: Mapping[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of every aiokafka client."""
        return {
            "bootstrap_servers": self.servers,
            "client_id": f"{self.prefix}tufline",
            "request_timeout_ms": in_milliseconds(REQUEST_TIMEOUT_SECONDS),
            **self.security,
        }

    def place(self, topic: str, partition: int) -> TopicPartition:
        """Return the cluster's name of a partition.

        Args:
            topic: without the prefix.
            partition: from 0.

        Returns:
            The topic with the prefix, and the partition.
        """
        return TopicPartition(f"{self.prefix}{topic}", partition)


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka's classes have no types here
    """Provides the token from a file, such as one that Kubernetes writes and renews."""

    def __init__(self, path: Path) -> None:
        """Remember the path; the file is read for each token.

        Args:
            path: the file that holds the token.
        """
        self._path = path

    async def token(self) -> str:
        """Read the current token."""
        return self._path.read_text().strip()


@contextlib.contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Translate aiokafka's errors to those of the bus.

    Args:
        doing: the attempted operation as a verb phrase, for the message.

    Yields:
        Nothing.
    """
    try:
        yield
    except (errors.ProducerFenced, errors.InvalidProducerEpoch) as error:
        raise FencedError(f"can't {doing}: another writer took over, or the transaction took too long") from error
    except errors.KafkaError as error:
        if getattr(error, "errno", None) == PRODUCER_FENCED:
            raise FencedError(f"can't {doing}: another writer took over") from error
        kind = BusUnreachableError if isinstance(error, NO_BROKER) else BusError
        raise kind(f"can't {doing}: {_words(error)}") from error
    except TimeoutError as error:
        raise BusUnreachableError(f"can't {doing}: Kafka did not answer in time") from error


async def finish_start(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Start a client of aiokafka, which leaves a connection open if it is cancelled while it connects.

    A cancelled caller therefore waits until the start has ended, for at most ``FINISH_START_SECONDS``; then it stops the client.

    Args:
        start: connects the client, such as ``consumer.start`` or its first request to another broker.

    Returns:
        The result of ``start``.

    Raises:
        KafkaError: if the cluster can't be reached.
    """
    starting = asyncio.create_task(start())
    try:
        return await asyncio.shield(starting)
    finally:
        if not starting.done():
            await asyncio.wait([starting], timeout=FINISH_START_SECONDS)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def stop_client(stop: Coroutine[Any, Any, None], *give_up: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
    """Stop a client of aiokafka in bounded time, whatever state the cluster is in. A cancellation of the caller is raised afterwards.

    Without this, a cancellation goes wrong, because aiokafka awaits tasks of its own while it stops. Either the cancellation only ends such
    a task, and the cancelled caller continues; or the CancelledError of such a task reaches a caller that nobody has cancelled, and
    connections stay open.

    Args:
        stop: stops the client. aiokafka has no time limit for it.
        give_up: functions to call, one after another and each with the same time limit, if ``stop`` fails or takes too long.
        seconds: the time limit.
    """
    await finish(_stop_client(stop, give_up, seconds))


async def _stop_client(stop: Coroutine[Any, Any, None], give_up: Sequence[Callable[[], Coroutine[Any, Any, None]]], seconds: float) -> None:
    if await _is_stopped(stop, seconds):
        return
    for one in give_up:
        await _is_stopped(one(), seconds)


async def _is_stopped(stop: Coroutine[Any, Any, None], seconds: float) -> bool:
    stopping = asyncio.create_task(stop)
    await asyncio.wait({stopping}, timeout=seconds)
    if not stopping.done():
        for _ in range(CANCELLATIONS):
            stopping.cancel()
            await asyncio.wait({stopping}, timeout=seconds / CANCELLATIONS)
        _log.warning("bus.stop_took_too_long", seconds=seconds, has_ended=stopping.done())
        return False
    if stopping.cancelled():
        return False
    if (error := stopping.exception()) is not None:
        _log.debug("bus.stop_failed", error=f"{type(error).__name__}: {error}")
    return error is None


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer; see ``stop_client``.

    Args:
        consumer: it need not be started.
    """
    await stop_client(consumer.stop(), consumer._client.close, seconds=LEAVE_SECONDS)  # noqa: SLF001 (there is no public way)


def _words(error: errors.KafkaError) -> str:
    if isinstance(error, errors.KafkaConnectionError):
        # aiokafka writes the reason only to its own log.
        return f"no broker accepts the connection ({error}); check that one is up, and the address, certificate and login (see the log)"
    return f"{type(error).__name__}: {error}" if str(error) != type(error).__name__ else str(error)


class _Wanted(NamedTuple):
    offset: int
    key: str
    sha256: str
    done: asyncio.Future[bytes]


class Lookup:
    """Reads single records. Those requested in one turn of the loop, or while an answer is awaited, are read together, in order of offsets.

    It reads uncommitted records too: the caller knows the hash from a committed record, and must not wait for other writers' transactions.
    """

    def __init__(self, client: AIOKafkaClient, place: TopicPartition, topic: str) -> None:
        """Start with no requests.

        Args:
            client: a started client.
            place: the partition to read.
            topic: its topic, without the prefix.
        """
        self._client = client
        self._topic = topic
        self._place = place
        self._wanted: list[_Wanted] = []
        self._task: asyncio.Task[None] | None = None

    async def read(self, offset: int, key: str, sha256: str) -> bytes:
        """Read a record; see ``Bus.read``."""
        wanted = _Wanted(offset, key, sha256, asyncio.get_running_loop().create_future())
        self._wanted.append(wanted)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read_all(), name="bus.lookup")
        return await wanted.done

    async def close(self) -> None:
        """Stop reading; callers that still wait get a ``BusError``."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        for wanted in self._wanted:
            _refuse(wanted, BusError("the bus is closed"))

    async def _read_all(self) -> None:
        while self._wanted:
            some, self._wanted = sorted(self._wanted, key=lambda one: one.offset), []
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                    with translate_errors(f"read {self._place.topic}"):
                        while some:
                            some = await self._read_some(some)
            except BusError as error:
                for wanted in some:
                    _refuse(wanted, error)
            except TimeoutError:
                for wanted in some:
                    _refuse(wanted, BusUnreachableError(f"can't read {self._place.topic}: Kafka did not answer in time"))
            except asyncio.CancelledError:
                self._wanted += some
                raise
            except Exception as error:  # noqa: BLE001 (every waiting caller gets it)
                for wanted in some:
                    _refuse(wanted, error)

    async def _read_some(self, wanted: list[_Wanted]) -> list[_Wanted]:
        """Fetch from the first requested offset, and answer all requests that the fetch covers.

        Args:
            wanted: requests in the order of their offsets; not empty.

        Returns:
            The requests that are still open.
        """
        try:
            found, reached = await self._fetch(wanted[0].offset)
        except DamagedError as error:
            # The damaged record may have a higher offset than the requested one, if there are no records in between.
            found, reached = {}, max(error.offset, wanted[0].offset)
            while wanted and wanted[0].offset == error.offset:
                _refuse(wanted.pop(0), RecordUnreadableError(self._topic, self._place.partition, error.offset, error.reason))
        left = []
        for one in wanted:
            if one.offset >= reached:
                left.append(one)
                continue
            record = found.get(one.offset)
            if record is not None and record[0] == one.key.encode(errors=ESCAPE) and hashlib.sha256(record[1]).hexdigest() == one.sha256:
                if not one.done.done():
                    one.done.set_result(record[1])
            else:
                where = f"offset {one.offset} of {self._place.topic}/{self._place.partition}"
                _refuse(one, RecordGoneError(f"the record {one.key} with sha256 {one.sha256[:12]}… is not (or no longer) at {where}"))
        return left

    async def _fetch(self, offset: int) -> tuple[dict[int, tuple[bytes, bytes]], int]:
        """Fetch from an offset on.

        Args:
            offset: the lowest offset to fetch.

        Returns:
            Key and value of each record, by its offset; and the offset (exclusive) up to which these are all the records.

        Raises:
            DamagedError: if the first record can't be decoded.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LAG_SECONDS
        while True:
            try:
                fetched = await fetch(self._client, self._place, offset, READ_UNCOMMITTED)
            except errors.OffsetOutOfRangeError:
                return {}, offset + 1
            # The caller knows that the record is committed. So if the leader has no record at or after its offset, it may be lagging.
            if fetched.data or offset < fetched.high_watermark or loop.time() > deadline:
                found, reached = read_uncommitted(fetched, offset)
                # If nothing was returned, this offset has no record.
                return found, max(reached, offset + 1)
            await asyncio.sleep(RETRY_SECONDS)


def _refuse(wanted: _Wanted, error: Exception) -> None:
    if not wanted.done.done():
        wanted.done.set_exception(error)
