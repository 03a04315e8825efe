"""The error and the log lines of a writer whose id another writer takes over, on a real Kafka."""

import asyncio
import gc
import logging
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from typing import Any

import pytest

from tufline.bus import Message, Position
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import BusError, FencedError
from tufline_testing.buses import KafkaSetup
from tufline_testing.log import read_all
from tufline_testing.servers.kafka_cluster import Cluster

pytestmark = pytest.mark.slow

TOPICS = {name: Topic(name, 2, Cleanup.KEEP) for name in ("plain", "second")}


def become_the_writer(setup: KafkaSetup) -> None:
    """Take over the id ``w`` as another process would: with a separate event loop."""

    async def take() -> None:
        bus = await open_kafka(setup._connection, TOPICS, max_pending_bytes=1000)
        await bus.writer("w")
        await bus.close()

    thread = threading.Thread(target=lambda: asyncio.run(take()))
    thread.start()
    thread.join()


@pytest.mark.parametrize("moment", ["between transactions", "within one, before more is sent", "within one, before its end"])
async def test_a_fenced_writer_makes_no_noise(kafka: Cluster, caplog: pytest.LogCaptureFixture, moment: str) -> None:
    """Whenever another writer takes over, the old one gets one error, none of its records is visible, and no library logs more."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    bus = await setup.open()
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    try:
        writer = await bus.writer("w")
        await writer.commit([Message("plain", "k", b"seen")])

        def then(_: Sequence[Position]) -> list[Message]:
            if moment.startswith("within"):
                become_the_writer(setup)
            return [Message("second", "k", b"more", number) for number in range(2)] if "more" in moment else []

        if moment.startswith("between"):
            become_the_writer(setup)
        with caplog.at_level(logging.WARNING), pytest.raises(FencedError):
            await writer.commit([Message("plain", "k", b"never seen"), Message("plain", "k", b"nor this", 1)], then)
        with pytest.raises(BusError):
            await writer.commit([Message("plain", "k", b"nor that")])
        await writer.close()
        del writer
        gc.collect()
        await asyncio.sleep(0)
        assert unread == []
        assert [record.getMessage() for record in caplog.records] == []
        assert [record.value for record in await bus.reader("plain", 0, 0).fetch(max_wait=0)] == [b"seen"]
    finally:
        await setup.end()


async def test_a_frozen_process_that_wakes_can_not_write(kafka: Cluster) -> None:
    """A process that was paused at work, and wakes after another one took over, is refused, and none of its later writes is visible."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    bus = await setup.open()
    arguments = ("-m", "tufline_testing.writer_process", kafka.bootstrap, setup._connection.prefix, "plain")
    zombie = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, stderr=PIPE)
    try:
        assert zombie.stdout is not None
        assert await zombie.stdout.readline() == b"writing\n"
        zombie.send_signal(signal.SIGSTOP)
        writer = await bus.writer("w")
        await writer.commit([Message("plain", "k", b"new")])
        zombie.send_signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            said, noise = await zombie.communicate()
        assert said.startswith(b"FencedError at "), said
        assert noise == b""
        await writer.commit([Message("plain", "k", b"newer")])
        values = [record.value.decode() for record in await read_all(bus, "plain")]
        assert values == [*map(str, range(len(values) - 2)), "new", "newer"]
    finally:
        if zombie.returncode is None:
            zombie.kill()
            await zombie.wait()
        await setup.end()
