"""Consumer groups on Kafka: a consumer that reads no records, and only learns which partitions are assigned to this process."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from tufline.bus import Assigned
from tufline.bus.kafka.client import KafkaConnection, finish_start, stop_consumer
from tufline.bus.kafka.writer import TRANSACTION_SECONDS
from tufline.clock import in_milliseconds

POLL_MS: Final = 1000
"""How often the consumer is polled, though its partitions are paused: Kafka takes a consumer that does not poll for dead."""

REBALANCE_SECONDS: Final = 2 * TRANSACTION_SECONDS
"""How long the group waits for a member that is finishing its transaction."""

HEARTBEATS: Final = 3
"""How many heartbeats a member sends within one session time."""

RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class KafkaMember(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's classes have no types here
    """A ``Member`` of a consumer group on Kafka.

    Rebalances are eager: whenever a member joins or leaves, every member releases all its partitions first. A member that the broker took
    for dead learns this from its next heartbeat, and then releases its partitions.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        group: str,
        topic: str,
        *,
        assigned: Assigned,
        revoked: Assigned,
        session_seconds: float,
        instance_id: str,
        on_left: "Callable[[KafkaMember], None]",
    ) -> None:
        """Prepare the member; ``join`` joins the group.

        Args:
            connection: how to reach the cluster.
            group: the group's name, without the prefix.
            topic: the topic whose partitions are shared, without the prefix.
            assigned: see ``Bus.join``.
            revoked: see ``Bus.join``.
            session_seconds: a member that sends no heartbeat for this long counts as dead.
            instance_id: identifies this member across restarts (static membership); empty for a member that leaves when it stops.
            on_left: called once the member has left.
        """
        self._connection = connection
        self._group = f"{connection.prefix}{group}"
        self._place = connection.place(topic, 0)
        self._assigned = assigned
        self._revoked = revoked
        self._session_ms = in_milliseconds(session_seconds)
        self._instance_id = instance_id
        self._on_left = on_left
        self._mine: frozenset[int] = frozenset()
        self._joined = asyncio.Event()
        self._leaving = False
        self._calls: set[asyncio.Task[None]] = set()
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Join the group, and return once it has assigned partitions to this member (perhaps none)."""
        self._task = asyncio.create_task(self._keep_joined(), name=f"bus.member.{self._group}")
        try:
            await self._joined.wait()
        except asyncio.CancelledError:
            # The caller never gets the member, so nobody else can make it leave. This does not await the task, which may have to wait for
            # other members. ``leave`` awaits it when the bus is closed, and must not cancel it again, which would interrupt its cleanup.
            self._leaving = True
            self._task.add_done_callback(lambda _: self._on_left(self))
            self._task.cancel()
            raise

    async def leave(self) -> None:
        """See ``Member.leave``."""
        if self._task is not None:
            if not self._leaving:
                self._leaving = True
                self._task.cancel()
            await asyncio.wait([self._task])
        self._on_left(self)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Called by the consumer after each rebalance."""
        if self._consumer is None:
            return  # the consumer is being stopped: this member must not use partitions that it is still assigned
        self._consumer.pause(*assigned)
        self._mine = frozenset(place.partition for place in assigned)
        self._joined.set()
        await self._call(self._assigned, self._mine)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Called by the consumer before each rebalance; the group waits for it."""
        del revoked  # after a failure of the consumer it may differ from what was assigned
        mine, self._mine = self._mine, frozenset()
        if mine:
            await self._call(self._revoked, mine)

    async def _call(self, callback: Assigned, partitions: frozenset[int]) -> None:
        # The calling consumer may be stopped meanwhile; a callback that has started must still run to its end.
        call = asyncio.create_task(self._guarded(callback, partitions))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        await asyncio.shield(call)

    async def _guarded(self, callback: Assigned, partitions: frozenset[int]) -> None:
        try:
            await callback(partitions)
        except Exception:  # noqa: BLE001 (one member's fault must not keep the others from their partitions; it is logged)
            _log.exception("bus.group_callback_failed", group=self._group, partitions=sorted(partitions))

    async def _keep_joined(self) -> None:
        while not self._leaving:
            try:
                await self._stay_joined()
            except KafkaError as error:
                _log.warning("bus.group_failed", group=self._group, error=f"{type(error).__name__}: {error}")
            except Exception:  # noqa: BLE001 (no error may end the membership; it is logged)
                _log.exception("bus.group_failed", group=self._group)
            # A member on standby has lost nothing, but it has to report that it is joining again.
            await self._call(self._revoked, frozenset())
            await asyncio.sleep(RETRY_SECONDS)

    async def _stay_joined(self) -> None:
        """Join with a new consumer, and stay in the group until it fails, or until cancelled."""
        consumer = self._consumer = AIOKafkaConsumer(
            **self._connection.arguments,
            group_id=self._group,
            group_instance_id=f"{self._instance_id}.{self._group}" if self._instance_id else None,
            session_timeout_ms=self._session_ms,
            heartbeat_interval_ms=self._session_ms // HEARTBEATS,
            rebalance_timeout_ms=in_milliseconds(REBALANCE_SECONDS),
            enable_auto_commit=False,
            auto_offset_reset="latest",
        )
        try:
            await finish_start(consumer.start)
            consumer.subscribe([self._place.topic], listener=self)
            while not self._leaving:
                await consumer.getmany(timeout_ms=POLL_MS)
        finally:
            self._consumer = None
            if self._calls:
                await asyncio.wait(self._calls)
            await self.on_partitions_revoked(set())
            await stop_consumer(consumer)
