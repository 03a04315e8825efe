"""Shows that no transaction on Kafka tears, even if requests arrive late or twice: ``transactions SCHEDULES SEED [--without-renewal]``.

Each schedule is a short life of Tufline's writer on a real broker, behind a proxy that delays, doubles and reorders its requests
(``kafka_proxy``): transactions over several partitions, some of which the caller aborts, takeovers by claim and progress, old writers that
wake up, and appends in between. In the end, every record that readers see is compared with the result that each caller got:

- torn: only some of a transaction's records are visible;
- lost: an acknowledged record is not visible;
- forked: a record that was refused, or counted as refused after a takeover, is visible; or a record is repeated or out of order.

``--without-renewal`` makes the mistake that this proof is about: the writer continues under an epoch whose requests may still be on their
way. Then the program succeeds if transactions do tear.
"""

import argparse
import asyncio
import json
import logging
import math
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from tufline.bus import Bus, Message, Position, Record, Writer
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.epoch import Epoch
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import BusError, FencedError
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.kafka_proxy import KafkaProxy, Lane, kafka_proxy
from tufline_testing.servers.parts import MissingPartError
from tufline_testing.servers.ports import free_port

ARTIFACTS, METADATA, HEADS = "artifacts", "metadata", "heads"
TOPICS: Final = {name: Topic(name, 2, Cleanup.KEEP) for name in (ARTIFACTS, METADATA, HEADS)}
TRANSACTIONS: Final = 8
"""Number of transactions that a schedule commits."""

APPENDS: Final = 4
RATES: Final = {"EndTxn": 10.0, "InitProducerId": 5.0, "AddPartitionsToTxn": 4.0, "Produce": 4.0}
"""Percentage of requests that are delayed, and of those that are doubled."""

TAKEN_OVER: Final = 0.05
GIVEN_UP: Final = 0.15
"""Fraction of the writer's steps that are takeovers from a live writer, and of those that are transactions aborted by their caller."""

LANES: Final = 4
"""Number of schedules played concurrently, each by its own client; they wait most of the time."""

PATIENCE_SECONDS: Final = 120.0
"""A schedule that takes longer than this, in seconds, has stopped permanently."""

CLAIM: Final = "claim"


class GivenUpError(Exception):
    """The caller's ``then`` fails on purpose."""


@dataclass
class Attempt:
    """A transaction, and the result that its caller got.

    Attributes:
        name: unique name of the attempt.
        number: number of transactions committed before it.
        size: number of its records.
        told: ``committed``, ``refused``, or ``unknown`` until a takeover finds out.
    """

    name: str
    number: int
    size: int
    told: str = "unknown"


@dataclass
class Outcome:
    """The findings of one or more schedules.

    Attributes:
        schedules: number of schedules played.
        torn: attempts that are only partly visible.
        lost: acknowledged records that are not visible.
        forked: records visible although refused, repeated, or out of order.
    """

    schedules: int = 0
    torn: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    forked: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Add the findings of other schedules."""
        self.schedules += other.schedules
        self.torn += other.torn
        self.lost += other.lost
        self.forked += other.forked

    def __str__(self) -> str:
        """The number of each kind of finding."""
        return f"{self.schedules} schedules: {len(self.torn)} torn, {len(self.lost)} lost, {len(self.forked)} forked"

    @property
    def is_clean(self) -> bool:
        """Whether there are no findings."""
        return not (self.torn or self.lost or self.forked)


class Schedule:
    """One life of a writer."""

    def __init__(self, bus: Bus, seed: str) -> None:
        """Start a schedule.

        Args:
            bus: a bus behind a proxy.
            seed: seed of all random choices, which also names the writer.
        """
        self._bus = bus
        self._seed = seed
        self._chance = random.Random(seed)
        self._attempts: list[Attempt] = []
        self._appended: dict[str, str] = {}
        self._claims = 0
        self._starts: dict[tuple[str, int], int] = {}

    async def play(self, proxy: KafkaProxy, client: str) -> Outcome:
        """Play the schedule.

        Args:
            proxy: the proxy, which disturbs requests until everything is committed.
            client: the id of the bus's client.

        Returns:
            The findings.
        """
        for topic, of in TOPICS.items():
            self._starts |= {(topic, number): await self._bus.end(topic, number) for number in range(of.partitions)}
        proxy.lanes[client] = Lane(random.Random(f"proxy {self._seed}"), RATES)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._append())
            group.create_task(self._write())
        await proxy.settle(client)
        writer, claims = await self._take_over(list(self._starts))
        await writer.close()
        seen = [record for place, claim in claims.items() for record in await self._read(place, claim)]
        return self._judge(seen)

    async def _append(self) -> None:
        for number in range(APPENDS):
            name = f"{self._seed} append {number}"
            message = Message(ARTIFACTS, "k", name.encode(), number % 2)
            try:
                await self._bus.append([message])
            except BusError:
                self._appended[name] = "unknown"
            else:
                self._appended[name] = "committed"

    async def _write(self) -> None:
        writer: Writer | None = None
        progress = 0
        while progress < TRANSACTIONS:
            drawn = self._chance.random()
            if writer is None or drawn < TAKEN_OVER:
                old = writer
                writer, _ = await self._take_over([(HEADS, 0)])
                progress = 1 + max((one.number for one in self._attempts if one.told == "committed"), default=-1)
                if old is not None:
                    await self._attempt(old, progress)
                    await old.close()
            elif not await self._attempt(writer, progress, gives_up=drawn < TAKEN_OVER + GIVEN_UP):
                await writer.close()
                writer = None
            progress += bool(self._attempts and self._attempts[-1].told == "committed" and self._attempts[-1].number == progress)
        if writer is not None:
            await writer.close()

    async def _attempt(self, writer: Writer, number: int, *, gives_up: bool = False) -> bool:
        """Try a transaction.

        Returns:
            Whether the writer can be used again.
        """
        places = [(METADATA, self._chance.randrange(2)) for _ in range(self._chance.randint(1, 3))]
        later = [(HEADS, 0), *((HEADS, 1) for _ in range(self._chance.randrange(2)))]
        attempt = Attempt(f"{self._seed} attempt {len(self._attempts)}", number, len(places) + len(later))
        self._attempts.append(attempt)

        def message(part: int, place: tuple[str, int]) -> Message:
            return Message(place[0], "k", json.dumps([attempt.name, number, part]).encode(), place[1])

        def then(_: Sequence[Position]) -> list[Message]:
            if gives_up:
                raise GivenUpError
            return [message(len(places) + part, place) for part, place in enumerate(later)]

        try:
            await writer.commit([message(part, place) for part, place in enumerate(places)], then)
        except GivenUpError:
            attempt.told = "refused"
            return True
        except FencedError:
            attempt.told = "refused"
            return False
        except BusError:
            return False
        attempt.told = "committed"
        return True

    async def _take_over(self, places: Sequence[tuple[str, int]]) -> tuple[Writer, dict[tuple[str, int], Position]]:
        """Take over as the services do: claim, and read up to the claim, to learn the result of every transaction.

        Args:
            places: topics and partitions to claim.

        Returns:
            The writer and the claims.
        """
        while True:
            self._claims += 1
            claim = f"{CLAIM} {self._seed} {self._claims}".encode()
            try:
                writer = await self._bus.writer(self._seed)
            except BusError:
                continue
            try:
                claims = await writer.commit([Message(topic, CLAIM, claim, partition) for topic, partition in places])
                found = dict(zip(places, claims, strict=True))
                known = {_parts(record)[0] for record in await self._read((HEADS, 0), found[HEADS, 0]) if record.key != CLAIM}
            except BusError:
                await writer.close()
                continue
            for attempt in self._attempts:
                if attempt.told == "unknown":
                    attempt.told = "committed" if attempt.name in known else "refused"
            return writer, found

    async def _read(self, place: tuple[str, int], claim: Position) -> list[Record]:
        reader = self._bus.reader(*place, self._starts[place])
        found: list[Record] = []
        try:
            while not found or found[-1].offset < claim.offset:
                found += await reader.fetch(max_wait=1.0)
        finally:
            await reader.close()
        return [record for record in found if record.offset < claim.offset]

    def _judge(self, seen: Sequence[Record]) -> Outcome:
        outcome = Outcome(1)
        parts: dict[str, Counter[int]] = defaultdict(Counter)
        appends = Counter[str]()
        numbers: list[int] = []
        for record in seen:
            if record.topic == ARTIFACTS:
                appends[record.value.decode()] += 1
            elif record.key != CLAIM:
                name, number, part = _parts(record)
                parts[name][part] += 1
                if (record.topic, record.partition) == (HEADS, 0):
                    numbers.append(number)
        for attempt in self._attempts:
            found = parts.pop(attempt.name, Counter())
            what = f"{attempt.name}, told {attempt.told}, shows {len(found)} of {attempt.size}"
            if found and len(found) < attempt.size:
                outcome.torn.append(what)
            elif not found and attempt.told == "committed":
                outcome.lost.append(what)
            elif (found and attempt.told == "refused") or any(count > 1 for count in found.values()):
                outcome.forked.append(what)
        outcome.lost += [name for name, told in self._appended.items() if told == "committed" and name not in appends]
        outcome.forked += [f"{name} is seen {count} times" for name, count in appends.items() if count > 1]
        outcome.forked += [f"nobody wrote {name}" for name in parts]
        if numbers != list(range(TRANSACTIONS)):
            outcome.forked.append(f"{self._seed}: the numbers are {numbers}")
        return outcome


def _parts(record: Record) -> tuple[str, int, int]:
    name, number, part = json.loads(record.value)
    return name, number, part


async def play(
    cluster: Cluster, port: int, schedules: int, seed: int, *, until_torn: bool = False, seconds: float = math.inf
) -> tuple[Outcome, KafkaProxy]:
    """Play schedules.

    Args:
        cluster: a cluster of one broker, which advertises the port.
        port: port of the proxy.
        schedules: number of schedules.
        seed: seed of all schedules.
        until_torn: whether to stop at the first torn transaction.
        seconds: after this time no further schedule is started.

    Returns:
        The findings of all schedules, and the proxy with its counts.
    """
    total = Outcome()
    numbers = iter(range(schedules))
    ends = time.monotonic() + seconds

    async def play_some(lane: int) -> None:
        connection = KafkaConnection(f"127.0.0.1:{port}", f"t{seed}-{lane}-{time.time_ns()}.", {})
        async with TopicAdmin(connection, TOPICS, 1) as admin:
            await admin.apply()
        for number in numbers:
            async with asyncio.timeout(PATIENCE_SECONDS):
                bus = await open_kafka(connection, TOPICS, max_pending_bytes=1_000_000)
                try:
                    schedule = Schedule(bus, f"{seed}.{number}")
                    found = await schedule.play(proxy, connection.arguments["client_id"])
                finally:
                    await bus.close()
            total.add(found)
            if (until_torn and total.torn) or time.monotonic() > ends:
                return

    async with kafka_proxy(cluster.brokers[0].port, port) as proxy, asyncio.TaskGroup() as group:
        for lane in range(LANES):
            group.create_task(play_some(lane))
    return total, proxy


def settings(port: int) -> dict[str, str]:
    """Make a broker send its clients to a proxy.

    Args:
        port: port of the proxy.

    Returns:
        Settings for the cluster.
    """
    return {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}


def without_renewal() -> None:
    """Let writers continue under a spent epoch, as they did before docs/adr/0007."""
    Epoch.is_spent = property(lambda _: False)  # type: ignore[assignment, method-assign]


def main() -> int:
    """Play schedules, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("schedules", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--without-renewal", action="store_true", help="make the mistake, and expect transactions to tear")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="start no further schedule after this time; the result has the number played"
    )
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if options.without_renewal:
        without_renewal()
    port, began = free_port(), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory) / "kafka", settings=settings(port))
        try:
            cluster.start()
            outcome, proxy = asyncio.run(play(cluster, port, options.schedules, options.seed, seconds=60 * options.minutes))
        except MissingPartError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()
    for what in (*outcome.torn, *outcome.lost, *outcome.forked):
        print(f"  {what}")
    harm = ", ".join(f"{what} {count}" for what, count in proxy.totals.items())
    by_request = ", ".join(f"{name} {what} {count}" for (name, what), count in sorted(proxy.counts.items()))
    print(
        f"transactions{' without renewal' * options.without_renewal}: seed {options.seed}, {outcome}; "
        f"requests {harm} ({by_request}); {time.monotonic() - began:.0f} s"
    )
    if options.without_renewal:
        return 0 if outcome.torn else 1
    return 0 if outcome.is_clean and all(proxy.totals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
