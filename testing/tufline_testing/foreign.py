"""Writes records to a real Kafka as foreign producers may: any bytes in any field, including those that client libraries prevent."""

import asyncio
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

ForeignHeaders = Sequence[tuple[bytes, bytes | None]]


class _Name(str):
    """Text that encodes to the bytes from which it was created."""

    __slots__ = ("raw",)

    raw: bytes

    def encode(self, *_: object) -> bytes:
        return self.raw


def _name(raw: bytes) -> _Name:
    made = _Name("")
    made.raw = raw
    return made


async def produce(servers: str, topic: str, *records: tuple[bytes | None, bytes | None, ForeignHeaders], partition: int = 0) -> None:
    """Write records (key, value, headers) as one batch to a topic, given by its full name."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1_000_000)
    for number, (key, value, headers) in enumerate(records):
        assert builder.append(number, 1, key, value, [(_name(name), content) for name, content in headers]) is not None
    batch = bytes(builder.build())
    client = AIOKafkaClient(bootstrap_servers=servers)
    await client.bootstrap()
    try:
        await client._wait_on_metadata(topic)

        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        async with asyncio.timeout(20):
            response = await client.send(leader, ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])]))
        assert response.topics[0][1][0][1] == 0, response
    finally:
        await client.close()
