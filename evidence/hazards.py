"""Demonstrates on a real broker the hazards that determine how Tufline writes: ``make hazards``.

1. If a reader stops at the apparent end of a partition while another writer has an open transaction, it misses records that a third writer
   has already committed. So a takeover reads up to its own claim.
2. A process that was considered dead and comes back continues to write, whether it is idempotent or has its own transactional id. Only a
   transactional id that belongs to the partition fences it.
3. A takeover from a group's committed offset loses what the old owner had read but not written, or writes it twice. Progress that is
   written in the same transaction as the work prevents both.

Here plain Kafka clients do what Tufline avoids, to show the consequences.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.parts import MissingPartError

WORK: Final = [b"1", b"2", b"3", b"4"]
SEEN_SECONDS: Final = 20.0
"""How soon committed records must be visible if nothing hides them, in seconds."""


class Lab:
    """A cluster for experiments, each on its own topics."""

    def __init__(self, servers: str) -> None:
        """Create the lab.

        Args:
            servers: the cluster's bootstrap servers.
        """
        self.servers = servers
        self._prefix = f"hazard-{time.time_ns()}"
        self._topics = 0

    async def topic(self) -> TopicPartition:
        """Create a topic with one partition."""
        self._topics += 1
        name = f"{self._prefix}-{self._topics}"
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1)])
        finally:
            await admin.close()
        return TopicPartition(name, 0)

    @asynccontextmanager
    async def producer(self, transactional_id: str | None = None) -> AsyncIterator[AIOKafkaProducer]:
        """Run an idempotent producer.

        Args:
            transactional_id: enables transactions under this id; None for none.

        Yields:
            The producer.
        """
        name = f"{self._prefix}-{transactional_id}" if transactional_id else None
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, enable_idempotence=True, transactional_id=name)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def read(self, place: TopicPartition, count: int | None = None) -> list[bytes]:
        """Read the committed records, from the start.

        Args:
            place: the partition.
            count: number of records to wait for; None to stop at the apparent end of the partition.
        """
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, isolation_level="read_committed", enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            found: list[bytes] = []
            deadline = time.monotonic() + SEEN_SECONDS
            while (await consumer.position(place) < end if count is None else len(found) < count) and time.monotonic() < deadline:
                found += [record.value for record in (await consumer.getmany(place, timeout_ms=100)).get(place, [])]
            return found
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def member(self, group: str) -> AsyncIterator[AIOKafkaConsumer]:
        """Run a consumer that commits offsets of a group.

        Args:
            group: name of the group.

        Yields:
            The consumer.
        """
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, group_id=f"{self._prefix}-{group}", enable_auto_commit=False)
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()


async def _write(producer: AIOKafkaProducer, place: TopicPartition, values: Sequence[bytes]) -> None:
    for value in values:
        await producer.send_and_wait(place.topic, value, partition=place.partition)


async def _commit(producer: AIOKafkaProducer, place: TopicPartition, values: Sequence[bytes]) -> None:
    async with producer.transaction():
        await _write(producer, place, values)


async def _is_fenced(writing: Awaitable[Any]) -> bool:
    try:
        await writing
    except ProducerFenced:
        return True
    return False


async def hidden_by_another(lab: Lab) -> list[tuple[str, bool]]:
    """Commit a record after the start of another writer's open transaction, and read to the apparent end of the partition.

    Args:
        lab: the lab for the experiment.

    Returns:
        Each claim, and whether the experiment confirmed it.
    """
    place = await lab.topic()
    async with lab.producer("slow") as slow, lab.producer("old owner") as old, lab.producer("new owner") as new:
        await slow.begin_transaction()
        await _write(slow, place, [b"of the slow one"])
        await _commit(old, place, [b"progress"])
        at_end = await lab.read(place)
        # A claim is later in the log, and becomes visible only when nothing before it can still appear.
        await _commit(new, place, [b"claim"])
        await slow.abort_transaction()
        to_claim = await lab.read(place, 2)
    return [
        ("a reader that stops at the end during another writer's open transaction does not see a committed record", at_end == []),
        ("a reader that reads up to its own later claim sees it", to_claim == [b"progress", b"claim"]),
    ]


async def unfenced_zombie(lab: Lab) -> list[tuple[str, bool]]:
    """Let an old owner write after a takeover: without a fence, with its own id, and with the partition's id.

    Args:
        lab: the lab for the experiment.

    Returns:
        Each claim, and whether the experiment confirmed it.
    """
    shown = []
    place = await lab.topic()
    async with lab.producer() as zombie, lab.producer() as new:
        await _write(zombie, place, [b"old"])
        await _write(new, place, [b"new"])
        await _write(zombie, place, [b"old again"])
        shown.append(("an idempotent producer writes after another took over", await lab.read(place, 3) == [b"old", b"new", b"old again"]))
    place = await lab.topic()
    async with lab.producer("process a") as zombie, lab.producer("process b") as new:
        await _commit(zombie, place, [b"old"])
        await _commit(new, place, [b"new"])
        await _commit(zombie, place, [b"old again"])
        seen = await lab.read(place, 3)
        shown.append(("so does a producer whose transactional id belongs to its process", seen == [b"old", b"new", b"old again"]))
    place = await lab.topic()
    async with lab.producer("partition") as zombie:
        await _commit(zombie, place, [b"old"])
        await zombie.begin_transaction()
        await _write(zombie, place, [b"old, never committed"])
        async with lab.producer("partition") as new:
            await _commit(new, place, [b"new"])
            fenced = await _is_fenced(zombie.commit_transaction())
        # By the count: a transaction's end is written after its answer, so the apparent end may still be before the new record.
        is_out = fenced and await lab.read(place, 2) == [b"old", b"new"]
        shown.append(("a producer whose transactional id belongs to the partition is refused, with its open transaction", is_out))
    return shown


async def taken_over_by_group(lab: Lab) -> list[tuple[str, bool]]:
    """Let an owner die in the middle of its work, and a new one continue from the group's committed offset, or from progress.

    Args:
        lab: the lab for the experiment.

    Returns:
        Each claim, and whether the experiment confirmed it.
    """

    async def played(die: Callable[[AIOKafkaConsumer, TopicPartition, TopicPartition, str], Awaitable[None]], name: str) -> list[bytes]:
        source, target = await lab.topic(), await lab.topic()
        async with lab.producer() as producer:
            await _write(producer, source, WORK)
        async with lab.member(name) as old:
            old.assign([source])
            await die(old, source, target, f"{name} old")
        async with lab.member(name) as new, lab.producer() as producer:
            new.assign([source])
            start = await new.committed(source) or 0
            await _write(producer, target, WORK[start:])
        return await lab.read(target, len(WORK))

    async def offset_first(old: AIOKafkaConsumer, source: TopicPartition, target: TopicPartition, _: str) -> None:
        async with lab.producer() as producer:
            await _write(producer, target, WORK[:1])
            await old.commit({source: 2})  # dies before it writes the second

    async def work_first(old: AIOKafkaConsumer, source: TopicPartition, target: TopicPartition, _: str) -> None:
        async with lab.producer() as producer:
            await _write(producer, target, WORK[:2])
            await old.commit({source: 1})  # dies before it commits the second's offset

    lost, doubled = await played(offset_first, "offset first"), await played(work_first, "work first")
    return [
        ("a takeover from the group's offset loses what was committed to the group but not yet written", lost == [b"1", b"3", b"4"]),
        ("... and repeats what was written but not yet committed to the group", doubled[:3] == [b"1", b"2", b"2"]),
        ("a takeover from progress in the same transaction as the work loses and repeats nothing", await _by_progress(lab) == WORK),
    ]


async def _by_progress(lab: Lab) -> list[bytes]:
    """Die in the middle of a transaction; the new owner continues after the last committed record, whose number is the progress."""
    target = await lab.topic()
    async with lab.producer("owner") as old:
        await _commit(old, target, WORK[:1])
        await old.begin_transaction()
        await _write(old, target, WORK[1:2])  # dies before the commit
        async with lab.producer("owner") as new:
            progress = len(await lab.read(target, 1))
            await _commit(new, target, WORK[progress:])
        await _is_fenced(old.abort_transaction())
    return await lab.read(target, len(WORK))


async def show(servers: str) -> bool:
    """Run all experiments, and print the results.

    Args:
        servers: the cluster's bootstrap servers.

    Returns:
        Whether all claims were confirmed.
    """
    lab = Lab(servers)
    all_shown = True
    for number, hazard in enumerate((hidden_by_another, unfenced_zombie, taken_over_by_group), start=1):
        for what, is_shown in await hazard(lab):
            print(f"{number}. {'shown' if is_shown else 'NOT SHOWN':<10} {what}", flush=True)
            all_shown &= is_shown
    return all_shown


def main() -> int:
    """Start a broker and run the experiments."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory) / "kafka")
        try:
            cluster.start()
            return 0 if asyncio.run(show(cluster.bootstrap)) else 1
        except MissingPartError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
