"""A client that is cancelled while it connects to a real Kafka leaves no connection open."""

import asyncio
import gc
import warnings

import pytest
from aiokafka import AIOKafkaConsumer

from tufline.bus.kafka.client import finish_start, stop_consumer
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.buses import KafkaSetup
from tufline_testing.log import eventually
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.tcp_proxy import proxy

pytestmark = pytest.mark.slow

TOPICS = {"plain": Topic("plain", 2, Cleanup.KEEP)}


class HeldAfter(asyncio.Event):
    """Lets some answers of the broker pass at once, and the next ones when it is set."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self._left = answers
        self.reached = asyncio.Event()

    async def wait(self) -> bool:  # type: ignore[override]
        self._left -= 1
        if self._left < 0:
            self.reached.set()
            await super().wait()
        return True


@pytest.mark.parametrize("answers", [0, 1])
async def test_a_cancelled_start_closes_its_connection(kafka: Cluster, answers: int) -> None:
    """A client that is cancelled before the broker's first or second answer has no connection once it is stopped."""
    async with proxy(int(kafka.bootstrap.rpartition(":")[2])) as between:
        held = between.answers = HeldAfter(answers)
        consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{between.port}")
        starting = asyncio.create_task(finish_start(consumer.start))
        await held.reached.wait()
        starting.cancel()
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await stop_consumer(consumer)

        async def is_closed() -> bool:
            return not between.writers

        await eventually(is_closed)


@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.01, 0.03])
async def test_a_cancelled_member_is_gone_when_the_bus_is_closed(kafka: Cluster, seconds: float) -> None:
    """However soon a member is cancelled while it joins its group, closing the bus closes its connections too."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()

    async def ignore(_: frozenset[int]) -> None:
        pass

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        bus = await setup.open()
        joining = asyncio.create_task(bus.join("group", "plain", ignore, ignore))
        await asyncio.sleep(seconds)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        await bus.close()
        del bus, joining
        gc.collect()
    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []
