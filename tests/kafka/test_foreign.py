"""Foreign records on a real Kafka: a reader continues, whatever bytes they have."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tufline.bus import Bus, Message, Record
from tufline.bus.headers import ESCAPE, pairs_of
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.foreign import produce
from tufline_testing.servers.kafka_cluster import Cluster

pytestmark = pytest.mark.slow

PLAIN = "plain"
TOPICS = {PLAIN: Topic(PLAIN, 1, Cleanup.KEEP)}
BAD_NAME = b"caf\xe9 \xff"


@pytest.fixture
def connection(kafka: Cluster) -> KafkaConnection:
    """Provide the cluster, with the test's own prefix."""
    return KafkaConnection(kafka.bootstrap, f"f{time.time_ns()}.", {})


@pytest_asyncio.fixture
async def bus(connection: KafkaConnection) -> AsyncIterator[Bus]:
    """Open a bus with one topic."""
    async with TopicAdmin(connection, TOPICS, 1) as admin:
        await admin.apply()
    opened = await open_kafka(connection, TOPICS, max_pending_bytes=1_000_000)
    yield opened
    await opened.close()


async def test_a_name_that_is_not_utf8(connection: KafkaConnection, bus: Bus) -> None:
    """A header's name that is not UTF-8 affects nothing else: each record before, with and after it is read once, in order."""
    reader = bus.reader(PLAIN, 0, 0)
    topic = f"{connection.prefix}{PLAIN}"
    bad = (b"\xfe", b"bad", [(b"a", b"1"), (BAD_NAME, b"\xff"), (b"", None), (b"a", b"2")])
    expected: list[str] = []
    for batch in range(3):
        await produce(connection.servers, topic, (b"k", f"{batch} before".encode(), []), bad, bad, (None, None, [(b"a", b"x")]))
        writer = await bus.writer("w")
        await writer.commit([Message(PLAIN, "t", f"{batch} committed".encode())])
        await writer.close()
        expected += [f"{batch} before", "bad", "bad", "", f"{batch} committed"]
    found: list[Record] = []
    while batch_of := await reader.fetch(max_wait=1):
        found += batch_of
    assert [record.value.decode() for record in found] == expected
    assert [record.offset for record in found] == sorted({record.offset for record in found})
    read = found[1]
    assert read.key.encode(errors=ESCAPE) == bad[0]
    pairs = [(name, value.encode(errors=ESCAPE)) for name, value in pairs_of(read.headers)]
    assert pairs == [("a", b"1"), ("caf\\xe9 \\xff", b"\xff"), ("", b""), ("a", b"2")]
    assert found[3].key == ""
    late = bus.reader(PLAIN, 0, found[2].offset)
    assert (await late.fetch(max_wait=1))[:2] == found[2:4]


async def test_a_bad_name_in_an_aborted_transaction(connection: KafkaConnection, bus: Bus) -> None:
    """An aborted transaction of another producer stays invisible, even next to a record that aiokafka can't read."""
    producer = await bus.writer("foreign")

    def fail(_: object) -> list[Message]:
        raise ZeroDivisionError

    topic = f"{connection.prefix}{PLAIN}"
    await produce(connection.servers, topic, (b"k", b"first", [(BAD_NAME, b"1")]))
    with pytest.raises(ZeroDivisionError):
        await producer.commit([Message(PLAIN, "k", b"aborted")], fail)
    await produce(connection.servers, topic, (b"k", b"last", [(BAD_NAME, b"2")]))
    reader = bus.reader(PLAIN, 0, 0)
    found: list[Record] = []
    while batch := await reader.fetch(max_wait=1):
        found += batch
    assert [record.value for record in found] == [b"first", b"last"]
