"""Copies records in transactions while brokers and clients are restarted: ``copy_matrix RECORDS SEED [--progress-apart]``.

This is the matrix of Kafka's own system test of transactions, run with Tufline's writers and readers. There are four kinds of restarts:
brokers or clients, hard with SIGKILL or clean with SIGTERM. In each, one process per partition copies ``artifacts`` to ``heads`` in
transactions of several hundred records, with its progress in the same transaction, and takes over by claim and progress as Tufline's
services do. The input arrives in slices, and something is restarted during each slice. Meanwhile a reader of committed records compares
them with the input: nothing may be missing, repeated, or out of order.

``--progress-apart`` makes the classic mistake, progress in a separate transaction, and succeeds if records are copied twice or are missing.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from tufline.bus import Bus, Message, Position, Record
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import BusError
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.parts import MissingPartError

ARTIFACTS, HEADS = "artifacts", "heads"
PARTITIONS: Final = 2
TOPICS: Final = {name: Topic(name, PARTITIONS, Cleanup.KEEP) for name in (ARTIFACTS, HEADS)}
BROKERS: Final = 3
CLAIM, PROGRESS, COPY = "@claim", "@progress", "copy"

SMALLEST, LARGEST = 200, 600
"""Number of records that a transaction copies."""

MATRIX: Final = (("brokers", "hard"), ("brokers", "clean"), ("clients", "hard"), ("clients", "clean"))
MISTAKEN: Final = (("clients", "hard"),) * 2
"""The kind of restart that reveals separate progress: a process has to die between two transactions."""

BOUNCES: Final = 8
"""Restarts of each kind, which is also the number of slices of the input."""

APPEND: Final = 500
RETRY_SECONDS: Final = 0.2
COPYING_SECONDS: Final = 20.0
LATER_SECONDS: Final = 0.1
"""Before a restart: how long to wait at most until a slice is being copied, and then the longest further pause, both in seconds."""

PATIENCE_SECONDS: Final = 180.0
"""How long after the last restart the copy must be complete, in seconds; otherwise something has stopped permanently."""


async def copy(servers: str, prefix: str, partition: int, *, apart: bool) -> None:
    """Copy a partition until SIGTERM, then finish the current transaction.

    Args:
        servers: the cluster's bootstrap servers.
        prefix: prefix of the topics' names.
        partition: the partition to copy, to the same number.
        apart: whether progress is in a separate transaction, which is a mistake.
    """
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    chance = random.Random()
    while not stopping.is_set():
        try:
            bus = await open_kafka(KafkaConnection(servers, prefix, {}), TOPICS, max_pending_bytes=1_000_000)
        except BusError:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            await _copy(bus, partition, stopping, chance, apart=apart)
        except BusError:
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            await bus.close()


async def _copy(bus: Bus, partition: int, stopping: asyncio.Event, chance: random.Random, *, apart: bool) -> None:
    writer = await bus.writer(f"copy.{partition}")
    (claim,) = await writer.commit([Message(HEADS, CLAIM, b"", partition)])
    reader = bus.reader(ARTIFACTS, partition, await _progress(bus, partition, claim))
    while not stopping.is_set():
        batch: list[Record] = []
        size = chance.randint(SMALLEST, LARGEST)
        while len(batch) < size and (some := await reader.fetch(max_wait=0.1, max_bytes=10 * (size - len(batch)))):
            batch += some
        if batch:
            copies = [Message(HEADS, COPY, record.value, partition) for record in batch]
            progress = [Message(HEADS, PROGRESS, str(reader.position).encode(), partition)]
            for messages in (copies, progress) if apart else ([*copies, *progress],):
                await writer.commit(messages)


async def _progress(bus: Bus, partition: int, claim: Position) -> int:
    step = 4 * LARGEST
    while True:
        start = max(0, claim.offset - step)
        found = [record for record in await _read_to(bus, partition, start, claim.offset) if record.key == PROGRESS]
        if found or not start:
            return int(found[-1].value) if found else 0
        step *= 4


async def _read_to(bus: Bus, partition: int, start: int, end: int) -> list[Record]:
    reader = bus.reader(HEADS, partition, start)
    found: list[Record] = []
    try:
        while not found or found[-1].offset < end:
            found += await reader.fetch(max_wait=1.0)
    finally:
        await reader.close()
    return found


@dataclass
class Outcome:
    """The reader's observations over all kinds of restarts.

    Attributes:
        copied: number of records copied once and in order.
        wrong: number of wrong records of each kind: ``twice``, ``missing`` and ``out of order``.
        bounces: number of restarts, by target and kind.
        transactions: number of transactions that copied.
    """

    copied: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    bounces: Counter[str] = field(default_factory=Counter)
    transactions: int = 0


class Copying:
    """One way to bounce."""

    def __init__(self, cluster: Cluster, bus: Bus, connection: KafkaConnection, chance: random.Random, *, apart: bool) -> None:
        """Start with nothing running.

        Args:
            cluster: the cluster whose brokers are restarted.
            bus: writes the input and reads the copies.
            connection: how the copying processes connect.
            chance: the source of randomness.
            apart: see ``copy``.
        """
        self._cluster = cluster
        self._bus = bus
        self._arguments = [
            sys.executable,
            "-m",
            "tufline_testing.proofs.copy_matrix",
            "--copy",
            cluster.bootstrap,
            connection.prefix,
            *(["--progress-apart"] * apart),
        ]
        self._chance = chance
        self._copiers: list[asyncio.subprocess.Process] = []
        self._input: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self._seen: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self._transactions = 0
        self._news = asyncio.Condition()

    async def run(self, records: int, bounces: int, target: str, how: str, outcome: Outcome) -> None:
        """Copy while brokers or clients are restarted.

        Args:
            records: how many to copy.
            bounces: number of restarts.
            target: ``brokers`` or ``clients``.
            how: ``hard`` or ``clean``.
            outcome: receives the counts.
        """
        self._copiers = [await self._start(partition) for partition in range(PARTITIONS)]
        readers = [asyncio.create_task(self._read(partition)) for partition in range(PARTITIONS)]
        try:
            for number in range(bounces):
                partition = self._chance.randrange(PARTITIONS)
                before = len(self._seen[partition])
                await self._append(range(records * number // bounces, records * (number + 1) // bounces))
                await self._copied_more(partition, before)
                await asyncio.sleep(self._chance.uniform(0.0, LATER_SECONDS))
                await self._bounce(target, partition, signal.SIGKILL if how == "hard" else signal.SIGTERM)
                outcome.bounces[f"{target} {how}"] += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS), self._news:
                    await self._news.wait_for(lambda: all(map(_is_as_long, self._seen, self._input)))
        finally:
            for copier in self._copiers:
                with contextlib.suppress(ProcessLookupError):
                    copier.terminate()
            await asyncio.gather(*(copier.wait() for copier in self._copiers))
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        self._judge(outcome)

    async def _copied_more(self, partition: int, before: int) -> None:
        # A restart while nothing is copied proves little.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COPYING_SECONDS), self._news:
                await self._news.wait_for(lambda: len(self._seen[partition]) > before)

    async def _start(self, partition: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*self._arguments, "--partition", str(partition), "0", "0")

    async def _append(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), APPEND):
            sent = [Message(ARTIFACTS, "k", f"{number}".encode(), number % PARTITIONS) for number in numbers[start : start + APPEND]]
            await self._bus.append(sent)
            for message in sent:
                self._input[message.partition].append(message.value)

    async def _bounce(self, target: str, partition: int, number: int) -> None:
        if target == "brokers":
            broker = self._chance.choice(self._cluster.brokers)
            await asyncio.to_thread(broker.kill, number)
            await asyncio.sleep(self._chance.uniform(0.0, 2.0))
            await asyncio.to_thread(broker.start)
            return
        self._copiers[partition].send_signal(number)
        if number == signal.SIGTERM:
            await self._copiers[partition].wait()
        killed, self._copiers[partition] = self._copiers[partition], await self._start(partition)
        await killed.wait()
        await asyncio.sleep(self._chance.uniform(0.0, 2.0))

    async def _read(self, partition: int) -> None:
        reader = self._bus.reader(HEADS, partition, 0)
        while True:
            try:
                found = await reader.fetch(max_wait=1.0)
            except BusError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._seen[partition] += [record.value for record in found if record.key == COPY]
            self._transactions += sum(record.key == PROGRESS for record in found)
            async with self._news:
                self._news.notify_all()

    def _judge(self, outcome: Outcome) -> None:
        outcome.transactions += self._transactions
        for given, seen in zip(self._input, self._seen, strict=True):
            counts = Counter(seen)
            outcome.wrong["twice"] += sum(count - 1 for count in counts.values())
            outcome.wrong["missing"] += len(set(given) - set(seen))
            outcome.wrong["out of order"] += sum(int(later) < int(earlier) for earlier, later in itertools.pairwise(seen))
            outcome.copied += len(seen) if seen == given else 0


def _is_as_long(seen: list[bytes], given: list[bytes]) -> bool:
    return len(seen) >= len(given)


@asynccontextmanager
async def _bus(cluster: Cluster, prefix: str) -> AsyncIterator[tuple[Bus, KafkaConnection]]:
    connection = KafkaConnection(cluster.bootstrap, prefix, {})
    async with TopicAdmin(connection, TOPICS, BROKERS) as admin:
        await admin.apply()
    bus = await open_kafka(connection, TOPICS, max_pending_bytes=16_000_000)
    try:
        yield bus, connection
    finally:
        await bus.close()


async def copy_matrix(
    cluster: Cluster, records: int, seed: int, *, apart: bool = False, bounces: int = BOUNCES, matrix: Sequence[tuple[str, str]] = MATRIX
) -> Outcome:
    """Copy once for each kind of restart.

    Args:
        cluster: a cluster of three brokers.
        records: number of records to copy each time.
        seed: determines what is bounced, and when.
        apart: see ``copy``.
        bounces: number of restarts of each kind.
        matrix: the kinds of restarts.

    Returns:
        The reader's observations.
    """
    outcome = Outcome()
    for target, how in matrix:
        async with _bus(cluster, f"{target}-{how}-{time.time_ns()}.") as (bus, connection):
            copying = Copying(cluster, bus, connection, random.Random(f"{seed} {target} {how}"), apart=apart)
            await copying.run(records, bounces, target, how, outcome)
    return outcome


def main() -> int:
    """Start brokers, copy, and print one line."""
    parser = argparse.ArgumentParser(description="copy records in transactions while brokers and clients are bounced")
    parser.add_argument("records", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--progress-apart", action="store_true", help="make the classic mistake, and expect to detect it")
    parser.add_argument("--copy", nargs=2, metavar=("SERVERS", "PREFIX"), help=argparse.SUPPRESS)
    parser.add_argument("--partition", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if options.copy:
        servers, prefix = options.copy
        asyncio.run(copy(servers, prefix, options.partition, apart=options.progress_apart))
        return 0
    began = time.monotonic()
    matrix = MISTAKEN if options.progress_apart else MATRIX
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory) / "kafka", BROKERS)
        try:
            cluster.start()
            outcome = asyncio.run(copy_matrix(cluster, options.records, options.seed, apart=options.progress_apart, matrix=matrix))
        except MissingPartError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()
    wrong = ", ".join(f"{count} {what}" for what, count in outcome.wrong.items())
    bounces = ", ".join(f"{what} {count}" for what, count in outcome.bounces.items())
    print(
        f"copy matrix{' with progress apart' * options.progress_apart}: {len(matrix)} times {options.records} records, "
        f"seed {options.seed}: {wrong}; {outcome.transactions} transactions; bounced {bounces}; {time.monotonic() - began:.0f} s"
    )
    if options.progress_apart:
        return 0 if outcome.wrong["twice"] or outcome.wrong["missing"] else 1
    return 0 if outcome.copied == len(matrix) * options.records else 1


if __name__ == "__main__":
    sys.exit(main())
