"""Transactions of Tufline's writer on a real Kafka, with requests that arrive late, twice, and after later ones (docs/adr/0007)."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tufline.bus import Message
from tufline.bus.kafka.epoch import Epoch
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import FencedError
from tufline_testing.buses import KafkaSetup
from tufline_testing.log import read_all
from tufline_testing.proofs import transactions
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.kafka_proxy import REQUESTS, Held, KafkaProxy, Lane, kafka_proxy
from tufline_testing.servers.ports import free_port

pytestmark = pytest.mark.slow

TOPICS = {name: Topic(name, 1, Cleanup.KEEP) for name in ("metadata", "heads")}
SCHEDULES = 20
DEADLINE_SECONDS = 60.0


@dataclass
class Proxied:
    """A broker behind a port on which a proxy may listen."""

    cluster: Cluster
    port: int


@pytest.fixture(scope="module")
def proxied(kafka_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """Run a broker that sends its clients to a proxy."""
    port = free_port()
    cluster = Cluster(tmp_path_factory.mktemp("kafka"), settings=transactions.settings(port))
    try:
        cluster.start()
        yield Proxied(cluster, port)
    finally:
        cluster.stop()


@asynccontextmanager
async def harmed(proxied: Proxied) -> AsyncIterator[tuple[KafkaSetup, KafkaProxy, Lane]]:
    """Open a bus behind a proxy that does not disturb anything yet."""
    async with kafka_proxy(proxied.cluster.brokers[0].port, proxied.port) as proxy:
        setup = KafkaSetup(f"127.0.0.1:{proxied.port}", TOPICS)
        await setup.create()
        lane = proxy.lanes[setup._connection.arguments["client_id"]] = Lane(random.Random(1), {})
        await setup.open()
        try:
            yield setup, proxy, lane
        finally:
            lane.rates = {}
            await setup.end()


def both(value: str) -> list[Message]:
    return [Message(topic, "k", value.encode()) for topic in TOPICS]


async def until_held(lane: Lane, name: str) -> Held:
    """Wait until a request is on its way, and hold it there."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (found := [held for held in lane.held if REQUESTS[held.request.key] == name]):
            await asyncio.sleep(0.001)
    lane.held.remove(found[0])
    return found[0]


async def test_no_transaction_tears(proxied: Proxied) -> None:
    """In schedules of late, doubled and reordered requests, every caller gets the true result of every transaction and append."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"seed {seed}")  # noqa: T201 (to play it again)
    outcome, proxy = await transactions.play(proxied.cluster, proxied.port, SCHEDULES, seed)
    assert outcome.is_clean, (seed, outcome.torn, outcome.lost, outcome.forked)
    assert all(proxy.totals.values()), proxy.counts


async def test_transactions_tear_without_renewal(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same schedules tear transactions of a writer that continues under a spent epoch: they would detect the mistake."""
    monkeypatch.setattr(Epoch, "is_spent", property(lambda _: False))
    outcome, _ = await transactions.play(proxied.cluster, proxied.port, 10 * SCHEDULES, 1, until_torn=True)
    assert outcome.torn


@pytest.mark.parametrize("late", ["commit", "abort"])
async def test_late_end_of_a_transaction_does_not_end_the_next(proxied: Proxied, late: str) -> None:
    """A request that arrives after its transaction is over and was retried does not affect the next one: the broker refuses it."""
    async with harmed(proxied) as (setup, proxy, lane):
        writer = await setup.bus.writer("w")
        await writer.commit(both("first"))

        def abort(_: Any) -> list[Message]:
            raise ZeroDivisionError

        lane.rates = {"EndTxn": 100.0}
        committing = asyncio.create_task(writer.commit(both("N"), abort if late == "abort" else None))
        held = await until_held(lane, "EndTxn")
        lane.rates = {}
        await asyncio.wait([committing])
        assert isinstance(committing.exception(), ZeroDivisionError if late == "abort" else type(None))

        def arrives(_: Any) -> list[Message]:
            # The transaction's requests so far have been answered; its next request arrives after the late one.
            lane.held.append(replace(held, due=0))
            if late == "commit":
                raise ZeroDivisionError
            return [Message("heads", "k", b"N+1")]

        committed = await asyncio.gather(writer.commit([Message("metadata", "k", b"N+1")], arrives), return_exceptions=True)
        assert isinstance(committed[0], ZeroDivisionError if late == "commit" else list)
        assert proxy.counts["EndTxn", "delayed"] == 1
        await writer.commit(both("N+2"))
        expected = ["first", "N" if late == "commit" else "N+1", "N+2"]
        for topic in TOPICS:
            assert [record.value.decode() for record in await read_all(setup.bus, topic)] == expected


async def test_spent_epoch_of_a_fenced_writer_is_not_renewed(proxied: Proxied) -> None:
    """A writer that was fenced before it got its next epoch can't fence its successor: it gets an error, and writes nothing."""
    async with harmed(proxied) as (setup, proxy, lane):
        successors = KafkaSetup(f"127.0.0.1:{proxied.port}", TOPICS)
        successors._connection = type(setup._connection)(setup._connection.servers, setup._connection.prefix, {"client_id": "successor"})
        writer = await setup.bus.writer("w")
        lane.rates = {"EndTxn": 100.0, "InitProducerId": 100.0}
        committing = asyncio.create_task(writer.commit(both("old")))
        await until_held(lane, "EndTxn")
        lane.rates = {"InitProducerId": 100.0}
        await committing
        await until_held(lane, "InitProducerId")
        proxy.lanes["successor"] = Lane(random.Random(1), {})
        bus = await successors.open()
        try:
            successor = await bus.writer("w")
            await successor.commit(both("new"))
            lane.rates = {}
            with pytest.raises(FencedError):
                await writer.commit(both("zombie"))
            await proxy.settle(setup._connection.arguments["client_id"])
            await successor.commit(both("newer"))
            for topic in TOPICS:
                assert [record.value.decode() for record in await read_all(bus, topic)] == ["old", "new", "newer"]
        finally:
            await bus.close()


async def test_closing_a_reader_whose_broker_is_gone(proxied: Proxied) -> None:
    """A reader that keeps trying to reach its broker can be closed, without cancelling the task that closes it."""
    async with harmed(proxied) as (setup, proxy, _):
        reader = setup.bus.reader("metadata", 0, 0)
        await setup.bus.append(both("first"))
        assert len(await reader.fetch(max_wait=DEADLINE_SECONDS)) == 1
        broker, proxy.target = proxy.target, free_port()  # where no server listens
        await proxy.close()
        consumer = reader._consumer  # type: ignore[attr-defined]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not consumer._fetcher._pending_tasks:
                await asyncio.sleep(0.01)
        await reader.close()
        proxy.target = broker


async def test_transactions_without_trouble_cost_no_renewal(proxied: Proxied) -> None:
    """While every request gets its answer, committed and aborted transactions need no additional requests."""
    async with harmed(proxied) as (setup, _, lane):
        writer = await setup.bus.writer("w")
        await writer.commit(both("first"))  # a broker that is still loading may have to be asked for an epoch twice
        before = len(lane.passed)

        def then(_: Any) -> list[Message]:
            raise ZeroDivisionError

        for number in range(10):
            await writer.commit(both(str(number)))
            with pytest.raises(ZeroDivisionError):
                await writer.commit(both(f"{number} given up"), then)
        keys = [int.from_bytes(content[:2], "big") for content in lane.passed[before:]]
        assert [keys.count(key) for key in (22, 26)] == [0, 20]
