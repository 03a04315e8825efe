"""A transaction's marker that Kafka's log cleaner has emptied, on a real broker."""

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tufline.bus import Message
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.buses import KafkaSetup
from tufline_testing.log import eventually
from tufline_testing.servers.kafka_cluster import Cluster

pytestmark = pytest.mark.slow

TOPICS = {"compact": Topic("compact", 1, Cleanup.COMPACT)}
CONTROL = 1 << 5
"""The attribute of a batch that holds a marker, and no records."""


def emptied_markers(data: Path, topic: str) -> Iterator[int]:
    """Read the offsets of markers without content from the broker's files."""
    for segment in sorted((data / f"{topic}-0").glob("*.log")):
        content = segment.read_bytes()
        at = 0
        while at + 61 <= len(content):
            offset, length = struct.unpack_from(">qi", content, at)
            (attributes,) = struct.unpack_from(">h", content, at + 21)
            (count,) = struct.unpack_from(">i", content, at + 57)
            if attributes & CONTROL and count == 0:
                yield offset
            at += 12 + length


async def leave_open(connection: KafkaConnection, writer_id: str) -> None:
    """Write in a transaction, and let a producer of the same id end it: its marker is the newest that the broker knows of this producer."""
    place = connection.place("compact", 0)
    arguments = {**connection.arguments, "transactional_id": f"{connection.prefix}{writer_id}"}
    abandoned, successor = AIOKafkaProducer(**arguments), AIOKafkaProducer(**arguments)
    await abandoned.start()
    await abandoned.begin_transaction()
    await abandoned.send_and_wait(place.topic, b"never committed", b"key", place.partition)
    await successor.start()
    await successor.stop()
    await abandoned.client.close()
    await asyncio.gather(abandoned.stop(), return_exceptions=True)


@pytest.mark.timeout(180)
async def test_an_emptied_marker_is_read_over(kafka: Cluster) -> None:
    """Once the cleaner has emptied the marker of an aborted transaction, the records before and after it are still read."""
    setup = KafkaSetup(kafka.bootstrap, TOPICS)
    await setup.create()
    connection = setup._connection
    async with TopicAdmin(connection, TOPICS, 1) as admin:
        await admin.set("compact", {"delete.retention.ms": "100", "min.compaction.lag.ms": "0"})
    bus = await setup.open()
    data = kafka.brokers[0].directory / "data"
    place = connection.place("compact", 0)
    await bus.append([Message("compact", "before", b"1", 0)])
    await leave_open(connection, "abandoned")

    async def is_emptied() -> bool:
        # The cleaner leaves the newest segment alone, and needs new records to run again.
        await bus.append([Message("compact", "after", b"2", 0)])
        await asyncio.sleep(2 * setup.SEGMENT_SECONDS)
        return bool([*emptied_markers(data, place.topic)])

    await eventually(is_emptied, 120)
    reader = bus.reader("compact", 0, 0)
    found: dict[str, bytes] = {}
    while reader.position < await bus.end("compact", 0):
        found |= {record.key: record.value for record in await reader.fetch(max_wait=1)}
    assert found == {"before": b"1", "after": b"2"}
    await reader.close()
    await setup.end()
