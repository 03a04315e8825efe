"""Partitions move from process to process, under load and without: nothing is abandoned, lost, or read back without need."""

import asyncio
import json
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from tufline.bus import Message
from tufline.bus.topic import Cleanup, Topic
from tufline.runtime.health import Health
from tufline.runtime.partitions import own_partitions
from tufline_testing.buses import KafkaSetup
from tufline_testing.log import read_all
from tufline_testing.server import artifact, wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Service, Stack

pytestmark = pytest.mark.slow

BINS = 8
PARTITIONS = 4
TOPICS = {"plain": Topic("plain", 1, Cleanup.KEEP)}
ENDED_SECONDS = 5.0
"""The broker may need twice this time to notice that a transaction was abandoned."""


@pytest.fixture
def stack(kafka: Cluster, tmp_path: Path) -> Iterator[Stack]:
    """Run ingest, a publisher, and the signers that the test starts."""
    settings = {
        "TUFLINE_KAFKA__PREFIX": f"r{time.time_ns()}.",
        "TUFLINE_BUS__PARTITIONS": str(PARTITIONS),
        "TUFLINE_KAFKA__SESSION_TIMEOUT": "10",
    }
    with Stack(tmp_path, kafka, BINS, settings) as made:
        made.prepare()
        for name in ("ingest", "publisher"):
            made.start(name)
        yield made


def add(stack: Stack, paths: range, length: int) -> str:
    body = {"artifacts": [artifact(f"p/{number}", length) for number in paths]}
    task: str = stack.api.request("POST", "/api/v1/artifacts/", body, patient=True)["data"]["task_id"]
    return task


def await_live(stack: Stack, task: str) -> None:
    assert stack.api.wait_for_task(task, time.monotonic() + 60)["status"]


def owned(service: Service) -> set[str]:
    """Return the partitions of the bins that a signer has taken over."""
    return {part for part, problem in service.parts().items() if part.removeprefix("signer.bins.").isdigit() and not problem}


def are_shared(*signers: Service) -> bool:
    """Return whether the signers own all partitions, equally distributed."""
    return all(len(owned(signer)) == PARTITIONS / len(signers) for signer in signers)


def takeovers(service: Service) -> int:
    """Count how often a signer has taken a partition over."""
    lines = service.log.read_text().rpartition("\n")[0].splitlines()  # the last one may be half-written
    return sum(json.loads(line)["event"] == "bins.ready" for line in lines if line.startswith("{"))


def bins_read_back(service: Service) -> float:
    with urllib.request.urlopen(f"{service.url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("tufline_signer_bins_read_back_total "))


@pytest.mark.parametrize("seed", range(3))
async def test_a_cancelled_commit_leaves_no_transaction_open(kafka: Cluster, seed: int) -> None:
    """A cancelled commit, as on revocation, is committed or aborted once the cancellation returns, and visible whole or not at all."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    bus = await setup.open()
    chance = random.Random(seed)
    ends = [
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level=level, enable_auto_commit=False)
        for level in ("read_committed", "read_uncommitted")
    ]
    place = setup._connection.place("plain", 0)
    try:
        for consumer in ends:
            await consumer.start()
        for number in range(8):
            writer = await bus.writer("w")
            batch = [Message("plain", "k", f"{number}".encode() * 1000) for _ in range(100)]
            committing = asyncio.create_task(writer.commit(batch))
            await asyncio.sleep(chance.uniform(0, 0.1))
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)
            await writer.close()
            async with asyncio.timeout(ENDED_SECONDS):
                while len({(await consumer.end_offsets([place]))[place] for consumer in ends}) > 1:
                    await asyncio.sleep(0.02)
        values = [record.value for record in await read_all(bus, "plain")]
        assert {values.count(value) for value in values} <= {100}
    finally:
        for consumer in ends:
            await consumer.stop()
        await setup.end()


def test_replicas_come_and_go_under_load(stack: Stack) -> None:
    """While signers join and leave properly, all changes become live with their last content, and every signer exits with 0."""
    stack.start("signer")
    stack.bootstrap()
    tasks: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            tasks.append(add(stack, range(len(tasks) % 7, 40, 7), 1 + len(tasks)))
            stop.wait(0.1)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        for _ in range(3):
            stack.start("signer")
            signers = [service for service in stack.services if service.name == "signer" and service.process.poll() is None]
            wait_until(partial(are_shared, *signers), "the signers do not share the partitions")
            assert signers[0].stop() == 0
            wait_until(partial(are_shared, signers[1]), "not all partitions go to who is left")
    finally:
        stop.set()
        sending.join()
    for task in tasks:
        await_live(stack, task)
    for number in range(40):
        last = max(index for index in range(len(tasks)) if number in range(index % 7, 40, 7))
        assert stack.api.request("GET", f"/api/v1/artifacts/p/{number}")["length"] == 1 + last


def test_a_restarted_signer_gets_its_partitions_back(stack: Stack) -> None:
    """With an instance id, a restarted signer owns its partitions again, and the other one does not take over anything."""
    names = [{"TUFLINE_KAFKA__INSTANCE_ID": name} for name in ("a", "b")]
    first, second = (stack.start("signer", **name) for name in names)
    stack.bootstrap()
    wait_until(partial(are_shared, first, second), "the signers do not share the partitions")
    before, disturbed = owned(first), takeovers(second)
    assert first.stop() == 0
    again = stack.start("signer", **names[0])
    wait_until(lambda: owned(again) == before, "it does not get back what it owned")
    await_live(stack, add(stack, range(40), 1))
    assert takeovers(second) == disturbed
    assert "rebalancing" not in second.log.read_text().partition("bins.ready")[2].rpartition("bins.ready")[2]


def test_bins_in_memory_stay_over_a_rebalance(stack: Stack) -> None:
    """A signer that loses and regains partitions reads no bin back from the log, as long as no other signer has written it."""
    first = stack.start("signer")
    stack.bootstrap()
    await_live(stack, add(stack, range(80), 1))
    assert bins_read_back(first) == 0
    second = stack.start("signer")
    wait_until(partial(are_shared, first, second), "the signers do not share the partitions")
    assert second.stop() == 0
    wait_until(partial(are_shared, first), "the first one does not get all back")
    await_live(stack, add(stack, range(80), 2))
    assert bins_read_back(first) == 0
    third = stack.start("signer")
    wait_until(partial(are_shared, first, third), "the signers do not share the partitions")
    await_live(stack, add(stack, range(80), 3))
    assert bins_read_back(third) == BINS / 2  # it has never had them
    assert third.stop() == 0
    wait_until(partial(are_shared, first), "the first one does not get all back")
    await_live(stack, add(stack, range(80), 4))
    assert bins_read_back(first) == BINS / 2  # those that the third one wrote meanwhile


@pytest.mark.parametrize("error", [RuntimeError("a fault of the client"), KafkaError("the broker went away")])
async def test_no_error_ends_a_membership(kafka: Cluster, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The member releases its partitions, says so in health, also if it has none, and joins again; leaving still ends it at once."""
    failing = asyncio.Event()
    poll = AIOKafkaConsumer.getmany

    async def getmany(consumer: AIOKafkaConsumer, **options: Any) -> Any:
        if failing.is_set():
            raise error
        return await poll(consumer, **options)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    setup, working = KafkaSetup(kafka.bootstrap, TOPICS), set[int]()
    await setup.create()
    bus = await setup.open()
    healths = [Health(), Health()]  # of one partition, so one member is on standby

    async def work(partition: int) -> None:
        working.add(partition)
        try:
            await asyncio.Event().wait()
        finally:
            working.discard(partition)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.05)

    members = [asyncio.create_task(own_partitions(bus, "group", "plain", "work.{}".format, work, health)) for health in healths]
    try:
        await until(lambda: working == {0} and all("group.group" in one.parts and not one.problems.get("group.group") for one in healths))
        failing.set()
        await until(lambda: not working and all("joining the group" in one.problems.get("group.group", "") for one in healths))
        failing.clear()
        await until(lambda: working == {0} and not any("group.group" in one.problems for one in healths))
    finally:
        for member in members:
            member.cancel()
        await asyncio.wait(members, timeout=60)
        await bus.close()
    assert not working
