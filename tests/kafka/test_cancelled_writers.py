"""A task that is cancelled while it uses a real Kafka ends as cancelled, at whichever await it is; otherwise it would never end."""

import asyncio
import gc
import itertools
import warnings
from collections.abc import Iterator

import pytest

from tufline.bus import Message
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.buses import KafkaSetup
from tufline_testing.cancelling import cancelled_at_each_await
from tufline_testing.servers.kafka_cluster import Cluster

pytestmark = pytest.mark.slow

TOPICS = {"plain": Topic("plain", 1, Cleanup.KEEP)}


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    """Fail if a connection is still open after the test."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []


@pytest.fixture
async def setup(kafka: Cluster, nothing_left_open: None) -> KafkaSetup:
    """Create the topics of this test, and open the bus."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    await setup.open()
    return setup


async def test_a_cancelled_writer_is_cancelled(setup: KafkaSetup) -> None:
    """If the caller of a writer is cancelled while it opens, commits or closes, it ends as cancelled, and the next writer can write."""
    bus = setup.bus

    async def story() -> None:
        writer = await bus.writer("w")
        try:
            await writer.commit([Message("plain", "key", b"value", 0)])
        finally:
            await writer.close()

    lost = [n async for n, task in cancelled_at_each_await(story) if not task.cancelled()]
    assert lost == []
    await story()
    await setup.end()


async def test_a_cancelled_reader_is_cancelled(setup: KafkaSetup) -> None:
    """If the caller of a reader is cancelled while it connects, reads or closes, it ends as cancelled."""
    bus = setup.bus
    await bus.append([Message("plain", "key", b"value", 0)])

    async def story() -> None:
        reader = bus.reader("plain", 0, 0)
        try:
            assert await reader.fetch(max_wait=10)
        finally:
            await reader.close()

    lost = [n async for n, task in cancelled_at_each_await(story) if not task.cancelled()]
    assert lost == []
    await setup.end()


async def test_a_cancelled_bus_is_cancelled(setup: KafkaSetup) -> None:
    """A task that is cancelled while it opens or closes the bus ends as cancelled."""
    await setup.end()

    async def story() -> None:
        await setup.open()
        await setup.end()

    lost = [n async for n, task in cancelled_at_each_await(story) if not task.cancelled()]
    assert lost == []


async def test_a_writer_that_fails_while_its_partition_is_revoked_is_gone(setup: KafkaSetup) -> None:
    """A worker that is cancelled while its failed writer is closed ends; a frozen signer once woke up in this state, and never ended."""
    bus = setup.bus
    numbers = itertools.count(1)

    async def story() -> None:
        writer_id = f"w{next(numbers)}"
        writer = await bus.writer(writer_id)
        successor = await bus.writer(writer_id)
        try:
            with pytest.raises(Exception, match="another writer took over"):
                await writer.commit([Message("plain", "key", b"value", 0)])
        finally:
            await asyncio.gather(writer.close(), successor.close())

    lost = [n async for n, task in cancelled_at_each_await(story) if not task.cancelled()]
    assert lost == []
    await setup.end()
