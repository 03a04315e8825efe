"""Fetching from Kafka without a consumer: for single records by their offsets, and for records that aiokafka's consumer can't read.

A consumer that comes to a header's name that is not UTF-8 raises, throws away what came with it, and comes to the same record again, for
ever. ``read_hostile`` reads on from there, with aiokafka's own reader over a buffer that decodes whatever there is.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy

RETRY_SECONDS: Final = 0.1

FETCH_BYTES: Final = 1024 * 1024
"""How much one request brings along; the batch that its offset is in comes whole in any case."""

READ_UNCOMMITTED: Final = 0
READ_COMMITTED: Final = 1

LENGTH_END: Final = 12
"""A batch begins with its offset (8 bytes) and the length of what follows (4 bytes)."""


async def fetch(client: AIOKafkaClient, place: TopicPartition, offset: int, isolation: int) -> tuple[bytes, Sequence[tuple[int, int]]]:
    """Fetch what is at an offset, waiting for the partition's leader.

    Args:
        client: started.
        place: the partition.
        offset: the lowest of interest.
        isolation: ``READ_COMMITTED`` or ``READ_UNCOMMITTED``.

    Returns:
        The batches, and the aborted transactions in them: producer id and first offset.

    Raises:
        KafkaError: one that trying again can't mend.
    """
    topic, partition = place
    while True:
        await client._wait_on_metadata(topic)  # noqa: SLF001 (aiokafka has no public way to ask for one record)
        leader = client.cluster.leader_for_partition(place)
        if leader is not None and leader != -1:
            request = FetchRequest(0, 1, FETCH_BYTES, isolation, [(topic, [(partition, offset, FETCH_BYTES)])])
            try:
                response = await client.send(leader, request)
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
            else:
                code, aborted, data = _only_partition(response)
                if code is errors.NoError:
                    return data, aborted
                if not code.retriable or code is errors.OffsetOutOfRangeError:
                    raise code(place)
        await client.force_metadata_update()
        await asyncio.sleep(RETRY_SECONDS)


def _only_partition(response: Any) -> tuple[type[errors.KafkaError], Sequence[tuple[int, int]], bytes]:
    ((_, ((_, code, *rest, data),)),) = response.topics
    aborted = next((one for one in rest if isinstance(one, list)), [])
    return errors.for_code(code), aborted, data


async def read_hostile(client: AIOKafkaClient, place: TopicPartition, offset: int) -> "tuple[list[ConsumerRecord[bytes, bytes]], int]":
    r"""Read the next committed records, whatever their headers are called.

    Args:
        client: started.
        place: the partition.
        offset: the lowest of interest.

    Returns:
        The records, and the offset to go on from. A byte of a name that is not UTF-8 is written ``\xff``.

    Raises:
        KafkaError: one that trying again can't mend.
    """
    data, aborted = await fetch(client, place, offset, READ_COMMITTED)
    read = PartitionRecords(place, _Batches(data), aborted, offset, None, None, check_crcs=False, isolation_level=READ_COMMITTED)
    return list(read), read.next_fetch_offset


class _Batches:
    """The batches of an answer, as aiokafka's ``MemoryRecords`` gives them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _length(self) -> int:
        return LENGTH_END + int.from_bytes(self._data[LENGTH_END - 4 : LENGTH_END], "big")

    def has_next(self) -> bool:
        return LENGTH_END <= len(self._data) >= self._length()

    def next_batch(self) -> Any:
        end = self._length()
        batch = _DefaultRecordBatchPy(self._data[:end])
        self._data = self._data[end:]
        if not batch.validate_crc():
            raise errors.CorruptRecordException("a batch has a wrong checksum")
        iter(batch)  # decompresses it
        batch._buffer = _AnyText(batch._buffer)  # noqa: SLF001 (the only way in; the contract's tests go through it)
        return batch


class _AnyText(bytearray):
    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _AnyText(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
