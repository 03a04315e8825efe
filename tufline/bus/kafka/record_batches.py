"""Fetching from Kafka without a consumer: for single records by their offsets, and for records that aiokafka's consumer can't read.

When aiokafka's consumer meets a header's name that is not UTF-8, or a damaged batch, it raises an error and drops the records that it
fetched together with it; then it reads them again and fails again, indefinitely. ``read_without_consumer`` reads on from there, with
aiokafka's own reader over a buffer that decodes any bytes as text. A record that can't be decoded at all raises ``DamagedError`` with its
offset; the records before and after it can be read.
"""

import asyncio
import gzip
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import cramjam
from aiokafka import ConsumerRecord, TopicPartition, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint_py

RETRY_SECONDS: Final = 0.1

FETCH_BYTES: Final = 1024 * 1024
"""How much one request fetches at most; the batch that contains its offset is returned whole in any case."""

READ_UNCOMMITTED: Final = 0
READ_COMMITTED: Final = 1

LENGTH_END: Final = 12
"""How many bytes of a batch come before the part that its length counts: its offset (8 bytes) and the length itself (4 bytes)."""

UNDECODABLE: Final = (
    errors.CorruptRecordException,
    errors.UnsupportedCodecError,
    cramjam.DecompressionError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    EOFError,
    struct.error,
    gzip.BadGzipFile,
    zlib.error,
    SystemError,
)
"""The exceptions that aiokafka's batch readers may raise for invalid bytes. The compiled reader raises ``SystemError`` for a negative
length."""


WRONG_CHECKSUM: Final = "a batch has a wrong checksum"
NO_BATCH: Final = "a batch has a wrong length"


class DamagedError(Exception):
    """The next record can't be decoded.

    Args:
        offset: the record's offset.
        reason: the decoder's message.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"offset {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class Fetched(NamedTuple):
    """The answer to a fetch.

    Attributes:
        data: whole batches, perhaps followed by a part of one.
        aborted: producer id and first offset of each aborted transaction in them.
        high_watermark: the offset below which all replicas in sync have every record, as far as this leader knows. A new leader may lag.
    """

    data: bytes
    aborted: Sequence[tuple[int, int]]
    high_watermark: int


async def fetch(client: AIOKafkaClient, place: TopicPartition, offset: int, isolation: int) -> Fetched:
    """Fetch from an offset on, and wait for the partition's leader if there is none.

    Args:
        client: a started client.
        place: topic (with the prefix) and partition.
        offset: the lowest to fetch.
        isolation: ``READ_COMMITTED`` or ``READ_UNCOMMITTED``.

    Returns:
        The leader's answer.

    Raises:
        KafkaError: if a retry can't help.
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
                code, fetched = _only_partition(response)
                if code is errors.NoError:
                    return fetched
                if not code.retriable or code is errors.OffsetOutOfRangeError:
                    raise code(place)
        await client.force_metadata_update()
        await asyncio.sleep(RETRY_SECONDS)


def _only_partition(response: Any) -> tuple[type[errors.KafkaError], Fetched]:
    ((_, ((_, code, high_watermark, *rest, data),)),) = response.topics
    aborted = next((one for one in rest if isinstance(one, list)), [])
    return errors.for_code(code), Fetched(bytes(data or b""), aborted, high_watermark)


async def read_without_consumer(
    client: AIOKafkaClient, place: TopicPartition, offset: int
) -> "tuple[list[ConsumerRecord[bytes, bytes]], int]":
    r"""Read the next committed records, whatever bytes the names of their headers hold.

    Args:
        client: a started client.
        place: topic (with the prefix) and partition.
        offset: the lowest to read.

    Returns:
        The records, and the offset to continue at. A byte of a name that is not UTF-8 is written as ``\xff``.

    Raises:
        DamagedError: if the first record can't be decoded.
        KafkaError: if a retry can't help.
    """
    return read_committed(await fetch(client, place, offset, READ_COMMITTED), place, offset)


def read_committed(fetched: Fetched, place: TopicPartition, offset: int) -> "tuple[list[ConsumerRecord[bytes, bytes]], int]":
    """Decode the committed records of an answer, whatever bytes the names of their headers hold.

    Args:
        fetched: the answer to a fetch from ``offset`` on.
        place: topic (with the prefix) and partition.
        offset: the lowest to return.

    Returns:
        The records, and the offset to continue at.

    Raises:
        DamagedError: if the first record can't be decoded.
    """
    data, aborted, high_watermark = fetched
    batches = _Batches(data)
    read = _PartitionRecords(place, batches, aborted, offset, None, None, check_crcs=False, isolation_level=READ_COMMITTED)
    found: list[ConsumerRecord[bytes, bytes]] = []
    reason = NO_BATCH
    try:
        found.extend(read)
    except UNDECODABLE as error:
        reason = f"{type(error).__name__}: {error}"
    if data and read.next_fetch_offset == offset:
        raise _damaged(batches.first_offset, offset, high_watermark, reason)
    return found, read.next_fetch_offset


def read_uncommitted(fetched: Fetched, offset: int) -> tuple[dict[int, tuple[bytes, bytes]], int]:
    """Decode the records of an answer, including those of open and aborted transactions.

    Args:
        fetched: the answer to a fetch from ``offset`` on.
        offset: the lowest to return.

    Returns:
        Key and value of each record, by its offset; and the offset (exclusive) up to which these are all the records.

    Raises:
        DamagedError: if the first record can't be decoded.
    """
    batches = _Batches(fetched.data)
    # aiokafka's own reader is much faster, and fails only on rare records.
    for some in (MemoryRecords(fetched.data), batches):
        found: dict[int, tuple[bytes, bytes]] = {}
        reached = offset
        reason = NO_BATCH
        try:
            while some.has_next():
                batch = some.next_batch()
                if some is not batches and not batch.validate_crc():
                    raise errors.CorruptRecordException(WRONG_CHECKSUM)
                if not batch.is_control_batch:
                    found.update({record.offset: (bytes(record.key or b""), bytes(record.value or b"")) for record in batch})
                reached = batch.next_offset
        except UNDECODABLE as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            break
    if fetched.data and reached == offset:
        raise _damaged(batches.first_offset, offset, fetched.high_watermark, reason)
    return found, reached


def _damaged(first_offset: int, offset: int, high_watermark: int, reason: str) -> DamagedError:
    # A batch may start below the requested offset. The batch's own offset may be damaged too, so it is ignored if it is out of range.
    return DamagedError(first_offset if offset < first_offset < high_watermark else offset, reason)


class _PartitionRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types here
    """aiokafka's reader, which in addition skips a transaction's marker that Kafka's log cleaner has emptied, as Kafka's own client does.

    The cleaner keeps the batch without its record for as long as the broker remembers the producer.
    """

    def _contains_abort_marker(self, next_batch: Any) -> bool:
        return bool(next_batch._num_records > 0 and super()._contains_abort_marker(next_batch))  # noqa: SLF001 (there is no public way)


class _Batches:
    """The batches of an answer, with the interface of aiokafka's ``MemoryRecords``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.first_offset = 0

    def _length(self) -> int:
        return LENGTH_END + int.from_bytes(self._data[LENGTH_END - 4 : LENGTH_END], "big")

    def has_next(self) -> bool:
        return LENGTH_END <= len(self._data) >= self._length()

    def next_batch(self) -> Any:
        end = self._length()
        self.first_offset = int.from_bytes(self._data[:8], "big")
        batch = _CheckedBatch(self._data[:end])
        self._data = self._data[end:]
        if not batch.validate_crc():
            raise errors.CorruptRecordException(WRONG_CHECKSUM)
        iter(batch)  # decompresses it
        batch._buffer = _AnyText(batch._buffer)  # noqa: SLF001 (there is no public way; the contract's tests cover it)
        return batch


class _CheckedBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka has no types here
    def _read_msg(self) -> Any:
        # aiokafka's compiled decoder of numbers reads beyond the end of the buffer, which can end the process.
        return super()._read_msg(decode_varint_py)


class _AnyText(bytearray):
    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _AnyText(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
