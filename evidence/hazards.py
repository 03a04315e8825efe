"""Shows on a real broker that the hazards are real that decide how Tufline writes: ``make hazards``.

1. A reader that stops where a partition seems to end, while another writer has a transaction open, does not see what a third one has
   committed already. So who takes over reads up to a claim of its own.
2. Who was taken for dead and comes back goes on writing, idempotent or with a transactional id of its own. Only a transactional id that
   belongs to the partition keeps it out.
3. Who takes over by the offset that a group has committed loses what the old one had taken but not written, or writes it twice. Progress
   that is written in the same transaction as the work does neither.

Here plain clients of Kafka do what Tufline does not, so that one sees what would come of it.
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
"""In this time what was committed must be seen, where nothing hides it."""


class Lab:
    """A cluster for experiments, each on topics of its own."""

    def __init__(self, servers: str) -> None:
        """Begin.

        Args:
            servers: of the cluster.
        """
        self.servers = servers
        self._prefix = f"hazard-{time.time_ns()}"
        self._topics = 0

    async def topic(self) -> TopicPartition:
        """Make a topic of one partition."""
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
            transactional_id: for transactions.

        Yields:
            It.
        """
        name = f"{self._prefix}-{transactional_id}" if transactional_id else None
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, enable_idempotence=True, transactional_id=name)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def read(self, place: TopicPartition, count: int | None = None) -> list[bytes]:
        """Read what is committed, from the beginning.

        Args:
            place: the partition.
            count: wait for so many; None for what there is up to where the partition seems to end.
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
            group: its name.

        Yields:
            It.
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
    """Commit a record behind another writer's open transaction, and read to where the partition seems to end.

    Args:
        lab: to work in.

    Returns:
        What is to be shown, and whether it was.
    """
    place = await lab.topic()
    async with lab.producer("slow") as slow, lab.producer("old owner") as old, lab.producer("new owner") as new:
        await slow.begin_transaction()
        await _write(slow, place, [b"of the slow one"])
        await _commit(old, place, [b"progress"])
        at_end = await lab.read(place)
        # A claim is behind it in the log, and is seen only when nothing before it can still appear.
        await _commit(new, place, [b"claim"])
        await slow.abort_transaction()
        to_claim = await lab.read(place, 2)
    return [
        ("a committed record is not seen by who reads to the end under another writer's open transaction", at_end == []),
        ("who reads up to a claim of its own, made later, has seen it", to_claim == [b"progress", b"claim"]),
    ]


async def unfenced_zombie(lab: Lab) -> list[tuple[str, bool]]:
    """Let an old owner write after a new one has taken over: without a fence, with an id of its own, with the partition's id.

    Args:
        lab: to work in.

    Returns:
        What is to be shown, and whether it was.
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
        shown.append(("so does one whose transactional id is its process's", seen == [b"old", b"new", b"old again"]))
    place = await lab.topic()
    async with lab.producer("partition") as zombie:
        await _commit(zombie, place, [b"old"])
        await zombie.begin_transaction()
        await _write(zombie, place, [b"old, never committed"])
        async with lab.producer("partition") as new:
            await _commit(new, place, [b"new"])
            fenced = await _is_fenced(zombie.commit_transaction())
        is_out = fenced and await lab.read(place) == [b"old", b"new"]
        shown.append(("one whose transactional id is the partition's is refused, with all that it had begun", is_out))
    return shown


async def taken_over_by_group(lab: Lab) -> list[tuple[str, bool]]:
    """Let an owner die in the middle of its work, and a new one go on from the offset that the group has committed, or from progress.

    Args:
        lab: to work in.

    Returns:
        What is to be shown, and whether it was.
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
        ("who takes over by the group's offset loses what was committed to the group and not yet written", lost == [b"1", b"3", b"4"]),
        ("... and doubles what was written and not yet committed to the group", doubled[:3] == [b"1", b"2", b"2"]),
        ("who takes over by progress in the transaction of the work does neither", await _by_progress(lab) == WORK),
    ]


async def _by_progress(lab: Lab) -> list[bytes]:
    """Die in the middle of a transaction; the new owner goes on after the last record that is committed: its number is the progress."""
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
    """Show all hazards, and print what was shown.

    Args:
        servers: of a cluster.

    Returns:
        Whether every one did show.
    """
    lab = Lab(servers)
    all_shown = True
    for number, hazard in enumerate((hidden_by_another, unfenced_zombie, taken_over_by_group), start=1):
        for what, is_shown in await hazard(lab):
            print(f"{number}. {'shown' if is_shown else 'NOT SHOWN':<10} {what}", flush=True)
            all_shown &= is_shown
    return all_shown


def main() -> int:
    """Start a broker and show them."""
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
