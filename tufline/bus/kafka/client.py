"""Speaking to Kafka: how a connection is made, what its errors mean here, and requests that no consumer or producer makes.

In: the settings. Out: arguments of every aiokafka client, and ``Lookup``, which reads single records by their offsets.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient

from tufline.bus.headers import ESCAPE
from tufline.bus.kafka.record_batches import READ_UNCOMMITTED, RETRY_SECONDS, DamagedError, fetch, read_uncommitted
from tufline.errors import BusError, BusUnreachableError, FencedError, RecordGoneError, RecordUnreadableError

REQUEST_TIMEOUT_SECONDS: Final = 30.0
"""After so long without an answer the outcome of a request counts as unknown."""

LAG_SECONDS: Final = 5.0
"""For so long a partition's leader may not see a record that readers have seen: a new one learns from the others how far all have come."""

PRODUCER_FENCED: Final = 90
"""The error code of KIP-360, which aiokafka does not know by name."""

NOT_THERE: Final = (
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.KafkaTimeoutError,
    errors.BrokerNotAvailableError,
    errors.LeaderNotAvailableError,
    errors.NotControllerError,
    errors.GroupCoordinatorNotAvailableError,
)
"""aiokafka's errors that say nothing of what was asked for: no broker takes it, or none that could do it."""


@dataclass(frozen=True)
class Connection:
    """A cluster, a prefix in it, and how to reach it.

    Attributes:
        servers: host:port of some brokers, comma-separated.
        prefix: of topics, groups and transactional ids.
        security: more arguments of aiokafka's clients (``security_protocol`` and so on).
    """

    servers: str
    prefix: str
    security: Mapping[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of every client."""
        return {
            "bootstrap_servers": self.servers,
            "client_id": f"{self.prefix}tufline",
            "request_timeout_ms": int(1000 * REQUEST_TIMEOUT_SECONDS),
            **self.security,
        }

    def place(self, topic: str, partition: int) -> TopicPartition:
        """Name a partition as the cluster does.

        Args:
            topic: without the prefix.
            partition: from 0.

        Returns:
            It.
        """
        return TopicPartition(f"{self.prefix}{topic}", partition)


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka's classes have no types here
    """Gives the token in a file, such as Kubernetes writes and renews it."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet.

        Args:
            path: of the file.
        """
        self._path = path

    async def token(self) -> str:
        """Read the token."""
        return self._path.read_text().strip()


@contextlib.contextmanager
def said_as_ours(doing: str) -> Iterator[None]:
    """Raise aiokafka's errors as the bus's.

    Args:
        doing: what is tried, for the message.

    Yields:
        Nothing.
    """
    try:
        yield
    except (errors.ProducerFenced, errors.InvalidProducerEpoch) as error:
        raise FencedError(f"{doing}: another writer took over, or the transaction took too long") from error
    except errors.KafkaError as error:
        if getattr(error, "errno", None) == PRODUCER_FENCED:
            raise FencedError(f"{doing}: another writer took over") from error
        kind = BusUnreachableError if isinstance(error, NOT_THERE) else BusError
        raise kind(f"Kafka can't {doing}: {_words(error)}") from error
    except TimeoutError as error:
        raise BusUnreachableError(f"Kafka does not answer: {doing}") from error


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, whatever state the cluster is in.

    Args:
        consumer: perhaps not started.
    """
    # A fetch that waits to be tried again is cancelled; aiokafka passes that on as if the caller were cancelled, and goes no further.
    stopped = await asyncio.gather(consumer.stop(), return_exceptions=True)
    if stopped[0] is not None:
        await consumer._client.close()  # noqa: SLF001 (there is no public way)


def _words(error: errors.KafkaError) -> str:
    if isinstance(error, errors.KafkaConnectionError):
        # aiokafka keeps the reason to its own log.
        return f"no broker takes the connection (is it up; are address, certificate and login right? the log says which): {error}"
    return f"{type(error).__name__}: {error}" if str(error) != type(error).__name__ else str(error)


class _Wanted(NamedTuple):
    offset: int
    key: str
    sha256: str
    done: asyncio.Future[bytes]


class Lookup:
    """Reads single records. What is asked for in one turn of the loop, or while an answer is awaited, is read together, in the log's order.

    It reads uncommitted records too: who asks knows the hash from a committed one, and must not wait for other writers' transactions.
    """

    def __init__(self, client: AIOKafkaClient, place: TopicPartition, topic: str) -> None:
        """Begin with nothing wanted.

        Args:
            client: started.
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
        """Stop reading; who waits gets an error."""
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
                    with said_as_ours(f"read {self._place.topic}"):
                        while some:
                            some = await self._read_some(some)
            except BusError as error:
                for wanted in some:
                    _refuse(wanted, error)
            except TimeoutError:
                for wanted in some:
                    _refuse(wanted, BusUnreachableError(f"Kafka does not answer: read {self._place.topic}"))
            except asyncio.CancelledError:
                self._wanted += some
                raise
            except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
                for wanted in some:
                    _refuse(wanted, error)

    async def _read_some(self, wanted: list[_Wanted]) -> list[_Wanted]:
        """Ask for the first of what is wanted, and take all of it that comes along.

        Args:
            wanted: by offset; not empty.

        Returns:
            What is still wanted.
        """
        try:
            found, reached = await self._fetch(wanted[0].offset)
        except DamagedError as error:
            # What it names may lie behind a gap, in which there is nothing.
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
                where = f"{self._place.topic}/{self._place.partition} offset {one.offset}"
                _refuse(one, RecordGoneError(f"the record at {where} is not {one.key} with sha256 {one.sha256[:12]}… (any more)"))
        return left

    async def _fetch(self, offset: int) -> tuple[dict[int, tuple[bytes, bytes]], int]:
        """Fetch from an offset on.

        Args:
            offset: the lowest of interest.

        Returns:
            Offset to key and value; and the offset up to which (exclusive) that is all there is.

        Raises:
            DamagedError: if the first of them can't be decoded.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LAG_SECONDS
        while True:
            try:
                fetched = await fetch(self._client, self._place, offset, READ_UNCOMMITTED)
            except errors.OffsetOutOfRangeError:
                return {}, offset + 1
            # Who asks knows that the record is committed, so a leader that has nothing there, and knows of nothing later, may be behind.
            if fetched.data or offset < fetched.high_watermark or loop.time() > deadline:
                found, reached = read_uncommitted(fetched, offset)
                # Where nothing came, there is nothing at this offset.
                return found, max(reached, offset + 1)
            await asyncio.sleep(RETRY_SECONDS)


def _refuse(wanted: _Wanted, error: Exception) -> None:
    if not wanted.done.done():
        wanted.done.set_exception(error)
