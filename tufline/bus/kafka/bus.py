"""The bus on Apache Kafka, for services in processes of their own.

Each writer id is a transactional id, so a new writer of it fences the old one at the broker. Readers see committed records only. Appends
and commits return once all replicas in sync have acknowledged them. See ``tufline.bus`` for the contract, ``topic_admin`` for the topics'
settings.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.client import AIOKafkaClient

from tufline.bus import DEFAULT_SESSION_SECONDS, Assigned, Message, Position
from tufline.bus.kafka.client import STOP_SECONDS, KafkaConnection, Lookup, finish_start, stop_client, stop_consumer, translate_errors
from tufline.bus.kafka.group import KafkaMember
from tufline.bus.kafka.reader import KafkaReader
from tufline.bus.kafka.record_batches import read_without_consumer
from tufline.bus.kafka.writer import CLOSED, Appender, KafkaWriter
from tufline.bus.topic import Cleanup, Topic
from tufline.concurrency import finish
from tufline.errors import BusError


class KafkaBus:
    """The ``Bus`` on a cluster; made by ``open_kafka``."""

    def __init__(
        self, connection: KafkaConnection, topics: Mapping[str, Topic], max_pending_bytes: int, session_seconds: float, instance_id: str
    ) -> None:
        """Start unconnected; see ``open``.

        Args:
            connection: how to reach the cluster.
            topics: all topics of the bus, by name; they must exist.
            max_pending_bytes: how much may wait for the cluster before ``append`` is refused.
            session_seconds: a group member that sends no heartbeat for this long counts as dead.
            instance_id: identifies this process in groups across restarts (static membership); empty for none.
        """
        self._connection = connection
        self._topics = topics
        self.session_seconds = session_seconds
        """See ``Bus.session_seconds``."""
        self._instance_id = instance_id
        self._client = AIOKafkaClient(**connection.arguments)
        self._admin = AIOKafkaAdminClient(**connection.arguments)
        self._offsets = AIOKafkaConsumer(**connection.arguments, isolation_level="read_committed", enable_auto_commit=False)
        self._appender = Appender(connection, topics, max_pending_bytes)
        self._lookups: dict[TopicPartition, Lookup] = {}
        self._opened: set[KafkaReader | KafkaWriter] = set()
        self._members: set[KafkaMember] = set()
        self._closed = False
        self._log_id = ""

    async def open(self) -> None:
        """Connect.

        Raises:
            BusError: if the cluster can't be reached.
        """
        with translate_errors("reach the Kafka cluster"):
            await finish_start(self._client.bootstrap)
            await finish_start(self._admin.start)
            await finish_start(self._offsets.start)
            cluster = (await finish_start(self._admin.describe_cluster))["cluster_id"]
        self._log_id = f"{cluster}-{hashlib.sha256(self._connection.prefix.encode()).hexdigest()[:8]}"

    @property
    def log_id(self) -> str:
        """See ``Bus.log_id``."""
        return self._log_id

    def partitions(self, topic: str) -> int:
        """See ``Bus.partitions``."""
        return self._topics[topic].partitions

    async def append(self, messages: Sequence[Message]) -> list[Position]:
        """See ``Bus.append``."""
        return await self._appender.append(messages)

    async def writer(self, writer_id: str) -> KafkaWriter:
        """See ``Bus.writer``."""
        self._check_open()
        writer = KafkaWriter(self._connection, self._topics, writer_id, self._opened.discard)
        await writer.open()
        self._opened.add(writer)
        return writer

    def reader(self, topic: str, partition: int, offset: int) -> KafkaReader:
        """See ``Bus.reader``."""
        read_batches = partial(read_without_consumer, self._client)
        reader = KafkaReader(self._connection, topic, partition, offset, self._end, read_batches, self._opened.discard)
        if self._closed:
            reader.refuse()
        self._opened.add(reader)
        return reader

    async def read(self, topic: str, partition: int, offset: int, *, key: str, sha256: str) -> bytes:
        """See ``Bus.read``."""
        self._check_open()
        place = self._connection.place(topic, partition)
        lookup = self._lookups.get(place)
        if lookup is None:
            lookup = self._lookups[place] = Lookup(self._client, place, topic)
        return await lookup.read(offset, key, sha256)

    async def end(self, topic: str, partition: int) -> int:
        """See ``Bus.end``."""
        with translate_errors(f"look up the end of {topic}"):
            return await self._end(self._connection.place(topic, partition))

    async def _end(self, place: TopicPartition) -> int:
        end: int = (await self._offsets.end_offsets([place]))[place]
        return end

    async def start(self, topic: str, partition: int) -> int:
        """See ``Bus.start``."""
        place = self._connection.place(topic, partition)
        with translate_errors(f"look up the start of {topic}"):
            start: int = (await self._offsets.beginning_offsets([place]))[place]
        return start

    async def offset_at(self, topic: str, partition: int, time: int) -> int:
        """See ``Bus.offset_at``."""
        place = self._connection.place(topic, partition)
        with translate_errors(f"look up a time in {topic}"):
            found = (await self._offsets.offsets_for_times({place: time}))[place]
            return await self._end(place) if found is None else int(found.offset)

    async def trim(self, topic: str, partition: int, offset: int) -> None:
        """See ``Bus.trim``."""
        if self._topics[topic].cleanup is Cleanup.COMPACT:
            return
        place = self._connection.place(topic, partition)
        with translate_errors(f"trim {topic}"):
            below = min(offset, await self._end(place))
            await self._admin.delete_records({place: RecordsToDelete(before_offset=below)})

    async def join(self, group: str, topic: str, assigned: Assigned, revoked: Assigned) -> KafkaMember:
        """See ``Bus.join``."""
        self._check_open()
        member = KafkaMember(
            self._connection,
            group,
            topic,
            assigned=assigned,
            revoked=revoked,
            session_seconds=self.session_seconds,
            instance_id=self._instance_id,
            on_left=self._members.discard,
        )
        self._members.add(member)
        await member.join()
        return member

    def _check_open(self) -> None:
        if self._closed:
            raise BusError(CLOSED)

    async def close(self) -> None:
        """See ``Bus.close``."""
        if self._closed:
            return
        self._closed = True
        await finish(self._close())

    async def _close(self) -> None:
        await self._appender.close()
        await asyncio.gather(*(member.leave() for member in [*self._members]))
        await asyncio.gather(*(one.close() for one in [*self._opened]))
        for lookup in self._lookups.values():
            await lookup.close()
        await stop_consumer(self._offsets)
        await stop_client(self._admin.close(), seconds=STOP_SECONDS)
        await stop_client(self._client.close(), seconds=STOP_SECONDS)


async def open_kafka(
    connection: KafkaConnection,
    topics: Mapping[str, Topic],
    *,
    max_pending_bytes: int,
    session_seconds: float = DEFAULT_SESSION_SECONDS,
    instance_id: str = "",
) -> KafkaBus:
    """Connect to a cluster.

    Args:
        connection: how to reach the cluster.
        topics: all topics of the bus, by name; they must exist, see ``topic_admin``.
        max_pending_bytes: how much may wait for the cluster before ``append`` is refused.
        session_seconds: a group member that sends no heartbeat for this long counts as dead.
        instance_id: identifies this process in groups across restarts (static membership); empty for none.

    Returns:
        The bus; close it.

    Raises:
        BusError: if the cluster can't be reached.
    """
    bus = KafkaBus(connection, topics, max_pending_bytes, session_seconds, instance_id)
    try:
        await bus.open()
    except BaseException:
        await bus.close()
        raise
    return bus
