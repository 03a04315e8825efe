"""Fetching from Kafka without a consumer: for single records by their offsets, and for records that aiokafka's consumer can't read.

A consumer that comes to a header's name that is not UTF-8, or to a damaged batch, raises, throws away what came with it, and comes to the
same record again, indefinitely. ``read_hostile`` reads on from there, with aiokafka's own reader over a buffer that decodes whatever there
is; what can't be decoded at all is one error that names its place (``DamagedError``), and does not touch what is before and after it.
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
"""How much one request brings along; the batch that its offset is in comes whole in any case."""

READ_UNCOMMITTED: Final = 0
READ_COMMITTED: Final = 1

LENGTH_END: Final = 12
"""A batch begins with its offset (8 bytes) and the length of what follows (4 bytes)."""

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
"""What aiokafka's readers of batches raise of bytes that are no batch: its compiled one raises ``SystemError`` for a negative length."""


WRONG_CHECKSUM: Final = "a batch has a wrong checksum"
NO_BATCH: Final = "a batch has a wrong length"


class DamagedError(Exception):
    """The next record can't be decoded.

    Args:
        offset: of it.
        reason: what the decoder says.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"offset {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class Fetched(NamedTuple):
    """An answer to a fetch.

    Attributes:
        data: whole batches, and perhaps a part of one.
        aborted: the aborted transactions in them: producer id and first offset.
        high_watermark: below which all replicas in sync have every record, as far as this leader knows: a new one may lag.
    """

    data: bytes
    aborted: Sequence[tuple[int, int]]
    high_watermark: int


async def fetch(client: AIOKafkaClient, place: TopicPartition, offset: int, isolation: int) -> Fetched:
    """Fetch what is at an offset, waiting for the partition's leader.

    Args:
        client: started.
        place: the partition.
        offset: the lowest of interest.
        isolation: ``READ_COMMITTED`` or ``READ_UNCOMMITTED``.

    Returns:
        What the leader gives.

    Raises:
        KafkaError: one that trying again can't fix.
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


async def read_hostile(client: AIOKafkaClient, place: TopicPartition, offset: int) -> "tuple[list[ConsumerRecord[bytes, bytes]], int]":
    r"""Read the next committed records, whatever their headers are called.

    Args:
        client: started.
        place: the partition.
        offset: the lowest of interest.

    Returns:
        The records, and the offset to go on from. A byte of a name that is not UTF-8 is written ``\xff``.

    Raises:
        DamagedError: if the first of them can't be decoded.
        KafkaError: one that trying again can't fix.
    """
    return read_committed(await fetch(client, place, offset, READ_COMMITTED), place, offset)


def read_committed(fetched: Fetched, place: TopicPartition, offset: int) -> "tuple[list[ConsumerRecord[bytes, bytes]], int]":
    """Decode the committed records of an answer, whatever their headers are called.

    Args:
        fetched: from ``offset`` on.
        place: the partition.
        offset: the lowest of interest.

    Returns:
        The records, and the offset to go on from.

    Raises:
        DamagedError: if the first of them can't be decoded.
    """
    data, aborted, high_watermark = fetched
    batches = _Batches(data)
    read = PartitionRecords(place, batches, aborted, offset, None, None, check_crcs=False, isolation_level=READ_COMMITTED)
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
    """Decode the records of an answer, those of open and aborted transactions too.

    Args:
        fetched: from ``offset`` on.
        offset: the lowest of interest.

    Returns:
        Offset to key and value; and the offset up to which (exclusive) that is all there is.

    Raises:
        DamagedError: if the first of them can't be decoded.
    """
    batches = _Batches(fetched.data)
    # aiokafka's own reader is much faster, and takes all but the rarest.
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
    # A batch may begin before what was asked for. Its offset may be damaged, too: then it is not believed.
    return DamagedError(first_offset if offset < first_offset < high_watermark else offset, reason)


class _Batches:
    """The batches of an answer, as aiokafka's ``MemoryRecords`` gives them."""

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
        batch._buffer = _AnyText(batch._buffer)  # noqa: SLF001 (the only way in; the contract's tests go through it)
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
