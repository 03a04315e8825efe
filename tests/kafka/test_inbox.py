"""The inbox on a real Kafka: other producers, the client, hostile records, and workers that die."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tufline.bus.headers import ESCAPE, pairs_of
from tufline.client.events import Client, Event, add, remove
from tufline.config.settings import Config, KafkaConfig
from tufline.errors import ConfigError, EventRejectedError
from tufline.records import rejected, topics
from tufline.runtime.open_bus import open_bus
from tufline_testing.foreign import ForeignHeaders, produce
from tufline_testing.inbox import DIGEST, change, changes_on_log, event, event_receipts, every, is_moved, numbers, structured
from tufline_testing.server import Running, lengths, run_tufline, wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Stack

pytestmark = pytest.mark.slow

PARTITIONS = 2
HASHES = {"sha256": DIGEST}


@pytest.fixture
def stack(kafka: Cluster, tmp_path: Path) -> Iterator[Stack]:
    """Run the services on the test's own topics, with a bootstrapped repository."""
    prefix = f"i{time.time_ns()}."
    settings = {"TUFLINE_KAFKA__PREFIX": prefix, "TUFLINE_BUS__PARTITIONS": str(PARTITIONS), "TUFLINE_KAFKA__SESSION_TIMEOUT": "2"}
    with Stack(tmp_path, kafka, 8, settings) as made:
        made.prepare()
        made.begin()
        yield made


def config_of(stack: Stack) -> Config:
    """Return a producer's configuration: the prefix, but neither partitions nor replicas."""
    prefix = KafkaConfig(prefix=stack.settings["TUFLINE_KAFKA__PREFIX"])
    return Config().model_copy(update={"kafka": prefix})


def url_of(stack: Stack) -> str:
    return f"kafka:{stack.cluster.bootstrap}"


def seen(stack: Stack, tmp_path: Path, *paths: str) -> dict[str, int]:
    """Ask an unmodified TUF client."""
    ingest = stack.services[0]
    running = Running(ingest.process, ingest.url, stack.metadata, "", stack.keys / "root.json", ingest.log)
    return lengths(running, tmp_path / f"client{time.time_ns()}", paths)


async def until_all_is_live(stack: Stack) -> None:
    """Wait until everything that was accepted is live."""
    await asyncio.to_thread(wait_until, lambda: stack.api.request("GET", "/api/v1/status")["backlog"] == 0, "nothing waits")


async def until_moved(config: Config, url: str) -> None:
    """Wait until all of the inbox is moved."""
    whole = config.model_copy(update={"bus": config.bus.model_copy(update={"url": url})})
    async with open_bus(whole, as_client=True) as bus, asyncio.timeout(60):
        while not await is_moved(bus):
            await asyncio.sleep(0.1)


async def test_published_by_the_client_is_live(stack: Stack, tmp_path: Path) -> None:
    """When the client's publish returns, a TUF client sees all of the event; a rejected one is an error, a repeated one the same task."""
    async with Client(url_of(stack), config_of(stack)) as client:
        first = Event("repo", [add("a", 1, HASHES), add("b", 2, HASHES)])
        outcome = await client.publish(first)
        assert await asyncio.to_thread(seen, stack, tmp_path, "a", "b") == {"a": 1, "b": 2}
        many = await asyncio.gather(*(client.publish(Event(f"r{number}", [add(f"p/{number}", number, HASHES)])) for number in range(50)))
        assert len({one.task for one in many}) == 50
        mixed = await client.publish(Event("repo", [remove("b"), remove("never"), add("a", 1, HASHES)]))
        assert {receipt.path: receipt.outcome for receipt in mixed.receipts} == {"never": "not_found", "a": "unchanged"}
        with pytest.raises(EventRejectedError, match="the path is absolute"):
            await client.publish(Event("repo", [add("/", 1, HASHES)]))
        again = await client.publish(first)
        assert (again.is_duplicate, again.task) == (True, outcome.task)
    # Each partition ends with the marker of an inbox transaction, which does not count as a record that could become live.
    await until_all_is_live(stack)
    expected = {"a": 1, **{f"p/{number}": number for number in range(0, 50, 7)}}
    assert await asyncio.to_thread(seen, stack, tmp_path, "b", *expected) == expected


async def test_other_producers_in_both_modes(stack: Stack, tmp_path: Path) -> None:
    """Events of the official SDK, sent by a plain Kafka producer in structured and binary mode, become live."""
    topic = f"{stack.settings['TUFLINE_KAFKA__PREFIX']}inbox"
    async with AIOKafkaProducer(bootstrap_servers=stack.cluster.bootstrap, compression_type="gzip") as producer:
        for number, mode in enumerate((to_structured, to_binary), 1):
            attributes = {"type": "tufline.artifacts.v1", "source": "urn:x", "id": f"{number}", "datacontenttype": "application/json"}
            made = mode(CloudEvent(attributes=attributes, data={"changes": [change(f"m/{number}", number)]}), JSONFormat(), None)
            await producer.send_and_wait(topic, made.value, headers=list(made.headers.items()))
    await until_moved(config_of(stack), url_of(stack))
    async with Client(url_of(stack), config_of(stack)) as client:
        await client.publish(Event("after", [add("after", 9, HASHES)]))
    await until_all_is_live(stack)
    assert await asyncio.to_thread(seen, stack, tmp_path, "m/1", "m/2", "after") == {"m/1": 1, "m/2": 2, "after": 9}


async def test_hostile_records(stack: Stack, tmp_path: Path) -> None:
    """Records with any bytes, also in header names, and one too large to append again, are rejected; their neighbours become live."""
    config, url = config_of(stack), url_of(stack)
    topic = f"{config.kafka.prefix}inbox"
    headers: ForeignHeaders = [(b"a", b"1"), (b"\xff name", b"\xfe"), (b"a", None), (b"", b"")]
    good = structured(event(change("good", 7)))
    value = (b"content-type", b"application/cloudevents+json")
    for partition in range(PARTITIONS):
        plain: ForeignHeaders = []
        hostile = [(b"\xff\x00", b"\x80", headers), (None, None, plain), (None, b"{}", [(b"ce_id", b"\xff")])]
        await produce(stack.cluster.bootstrap, topic, *hostile, (b"k", good.value, [value, (b"\xc3", b"")]), partition=partition)
    async with AIOKafkaProducer(bootstrap_servers=stack.cluster.bootstrap, compression_type="gzip", max_request_size=2**26) as producer:
        await producer.send_and_wait(topic, b" " * 20_000_000, partition=0)
    async with Client(url, config) as client:
        for source in range(8):
            await client.publish(Event(f"s{source}", [add(f"s/{source}", source, HASHES)]))
    assert await asyncio.to_thread(seen, stack, tmp_path, "good", "s/7") == {"good": 7, "s/7": 7}
    whole = config.model_copy(update={"bus": config.bus.model_copy(update={"url": url})})
    async with open_bus(whole, as_client=True) as bus:
        for partition in range(PARTITIONS):
            found = [rejected.parse(record) for record in await every(bus, topics.REJECTED) if record.partition == partition]
            assert [one.record.value for one in found[:3]] == [b"\x80", b"", b"{}"]
            assert found[0].record.key.encode(errors=ESCAPE) == b"\xff\x00"
            pairs = [(name, text.encode(errors=ESCAPE)) for name, text in found[0].own_headers]
            assert pairs == [("a", b"1"), ("\\xff name", b"\xfe"), ("a", b""), ("", b"")]
            assert "not JSON" in found[0].reason
        assert [one.is_cut for one in (rejected.parse(record) for record in await every(bus, topics.REJECTED))].count(True) == 1
        there = len(await every(bus, topics.INBOX))
        assert len(await event_receipts(bus)) == there
        listed = await asyncio.to_thread(run_tufline, "rejected", "list", cwd=tmp_path, env=stack.environment())
        assert len(listed.stdout.splitlines()) == 7, listed.stderr
        place = ["--partition", "1", "--offset", str(found[0].record.offset)]
        replayed = await asyncio.to_thread(run_tufline, "rejected", "replay", *place, cwd=tmp_path, env=stack.environment())
        assert replayed.returncode == 0, replayed.stderr
        again = (await every(bus, topics.INBOX))[-1]
        assert (again.value, [name for name, _ in pairs_of(again.headers)]) == (b"\x80", ["a", "\\xff name", "a", ""])


async def test_moved_once_when_ingest_is_killed(stack: Stack, tmp_path: Path) -> None:
    """While ingest is killed repeatedly and another stands by, each event is on the log once, and each source's last one is live."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"seed {seed}")  # noqa: T201 (to play it again)
    chance = random.Random(seed)
    config, url = config_of(stack), url_of(stack)
    sent = 0

    async def send(client: Client) -> None:
        nonlocal sent
        pause = chance.random() / 20
        for _ in range(40):
            sent += 1
            event_of = Event(f"s{sent % 4}", [add(f"k/{sent % 4}", 1000 + sent, HASHES)], id=str(sent))
            sending.append(asyncio.create_task(client.publish(event_of, seconds=100)))
            await asyncio.sleep(pause)

    sending: list[asyncio.Task[object]] = []
    async with Client(url, config) as client:
        for _ in range(3):
            await asyncio.to_thread(stack.start, "ingest")
            sender = asyncio.create_task(send(client))
            await asyncio.sleep(chance.random())
            working = next(one for one in stack.services if one.name == "ingest" and one.process.poll() is None)
            await asyncio.to_thread(working.stop, signal.SIGKILL)
            await sender
        await asyncio.gather(*sending)
    whole = config.model_copy(update={"bus": config.bus.model_copy(update={"url": url})})
    async with open_bus(whole, as_client=True) as bus:
        assert numbers(await changes_on_log(bus)) == [1000 + number for number in range(1, sent + 1)]
        receipts = await event_receipts(bus)
        assert len(receipts) == len({(receipt.partition, receipt.offset) for receipt in receipts}) == len(await every(bus, topics.INBOX))
    newest = {f"k/{number % 4}": 1000 + number for number in range(sent - 3, sent + 1)}
    assert await asyncio.to_thread(seen, stack, tmp_path, *newest) == newest


async def test_the_wrong_prefix(kafka: Cluster) -> None:
    """A client whose prefix belongs to no repository gets an error."""
    config = Config().model_copy(update={"kafka": KafkaConfig(prefix="nothing.")})
    with pytest.raises(ConfigError, match=r"the topic nothing\.inbox does not exist: check kafka\.prefix"):
        async with Client(f"kafka:{kafka.bootstrap}", config):
            pass
