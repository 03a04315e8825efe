"""Reading one record of a real Kafka by its offset, even if brokers and other producers make that hard."""

import asyncio
from hashlib import sha256

import pytest

from tufline.bus import Message
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.buses import KafkaSetup
from tufline_testing.foreign import produce
from tufline_testing.servers.kafka_cluster import Cluster

pytestmark = pytest.mark.slow

TOPICS = {"plain": Topic("plain", 1, Cleanup.KEEP)}
DEADLINE_SECONDS = 30.0


async def test_foreign_bytes_behind_a_record_do_not_hide_it(kafka: Cluster) -> None:
    """A record is found even if another producer's record in the same fetch has a header name that is not UTF-8."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    bus = await setup.open()
    try:
        (position,) = await bus.append([Message("plain", "k", b"ours")])
        await produce(kafka.bootstrap, setup._connection.place("plain", 0).topic, (b"k", b"theirs", [(b"\xff\xfe", b"x")]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            for offset, value in ((position.offset, b"ours"), (position.offset + 1, b"theirs")):
                assert await bus.read("plain", 0, offset, key="k", sha256=sha256(value).hexdigest()) == value
    finally:
        await setup.end()


async def test_a_leader_that_is_behind_is_not_believed(kafka: Cluster) -> None:
    """A leader that does not have a record yet, for example right after an election, does not mean that the record is gone."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    bus = await setup.open()
    try:
        (position,) = await bus.append([Message("plain", "k", b"first")])
        reading = asyncio.create_task(bus.read("plain", 0, position.offset + 1, key="k", sha256=sha256(b"second").hexdigest()))
        # The reader can't distinguish a record that does not exist yet from one that the leader has not seen yet.
        await asyncio.wait([reading], timeout=0.5)
        await bus.append([Message("plain", "k", b"second")])
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reading == b"second"
    finally:
        await setup.end()
