"""Topic ``rejected``: reading the records that ingest rejected, and replaying them to ``inbox``.

A record is the inbox record byte for byte, with ingest's headers after its own. A later mark tells which records were replayed. The outcome
of a replayed record is in ``receipts``, and if it is rejected again, that is another record here. So each original waits here once, however
often it is replayed, and all state is on the log.
"""

import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from tufline.bus import Bus, Message, Record, Writer
from tufline.bus.headers import ESCAPE, make_headers, pairs_of
from tufline.bus.scan import scan
from tufline.decoding import describe
from tufline.errors import InvalidInputError, RecordError
from tufline.records import topics

REASON_HEADER: Final = "tufline-reason"
TOPIC_HEADER: Final = "tufline-topic"
PARTITION_HEADER: Final = "tufline-partition"
OFFSET_HEADER: Final = "tufline-offset"
CUT_HEADER: Final = "tufline-cut"
"""The size of the whole record in bytes, if only its start was kept."""

REPLAYED_HEADER: Final = "tufline-replayed"
"""The only header of a mark: the first and the last offset of a replayed range. All records in it that were kept whole were replayed."""

OURS: Final = frozenset({REASON_HEADER, TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER, CUT_HEADER})

REPLAYER: Final = "rejected.replay"
"""The writer id for replaying: if two processes replay at once, the first is fenced."""

BATCH_BYTES: Final = 1_000_000
"""How many bytes are replayed in one transaction; a single record may be larger."""

_RANGE: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected record.

    Attributes:
        record: the record in ``rejected``.
        reason: why it was rejected.
        partition: the partition of ``inbox`` that it came from.
        offset: its offset in that partition.
        is_cut: whether only its start was kept.
    """

    record: Record
    reason: str
    partition: int
    offset: int
    is_cut: bool

    @property
    def own_headers(self) -> Sequence[tuple[str, str]]:
        """The headers that it had in ``inbox``."""
        pairs = list(pairs_of(self.record.headers))
        ours = OURS if self.is_cut else OURS - {CUT_HEADER}
        return pairs[: len(pairs) - len(ours)]


def size_of(record: Record) -> int:
    """Return the size of a record.

    Args:
        record: a record of ``inbox`` or ``rejected``.

    Returns:
        The bytes of its value, key and headers.
    """
    around = sum(len(name.encode()) + len(value.encode(errors=ESCAPE)) for name, value in pairs_of(record.headers))
    return len(record.value) + len(record.key.encode(errors=ESCAPE)) + around


def parse(record: Record) -> Rejected:
    """Parse the headers of a rejected record.

    Args:
        record: a record of ``rejected``.

    Returns:
        The record with the parsed headers.

    Raises:
        RecordError: if it does not have the headers that ingest writes.
    """
    headers = record.headers
    try:
        is_cut = pairs_of(headers)[-1][0] == CUT_HEADER
        return Rejected(record, headers[REASON_HEADER], int(headers[PARTITION_HEADER]), int(headers[OFFSET_HEADER]), is_cut)
    except (LookupError, ValueError) as error:
        raise RecordError(f"the record does not have the headers that ingest writes: {describe(error)}") from error


async def each(bus: Bus, partition: int, offset: int = 0) -> AsyncIterator[Rejected]:
    """Read all rejected records that are still kept, including replayed ones.

    Args:
        bus: the log.
        partition: the partition of ``rejected``, from 0.
        offset: the lowest to read.

    Yields:
        Each record, in order; none that was appended after the start.

    Raises:
        BusError: if the bus is temporarily unavailable.
    """
    async for record in _records(bus, partition, offset):
        if not _is_mark(record):
            try:
                yield parse(record)
            except RecordError as error:
                _log.error("rejected.unreadable", partition=partition, offset=record.offset, error=str(error))


async def waiting(bus: Bus, partition: int) -> AsyncIterator[Rejected]:
    """Read the rejected records that are still kept and were not replayed.

    Args:
        bus: the log.
        partition: the partition of ``rejected``, from 0.

    Yields:
        Each record, in order; none that was appended after the start.

    Raises:
        BusError: if the bus is temporarily unavailable.
    """
    # A mark comes after the records that it covers, so all marks are read first. One mark covers a whole batch, so they are few.
    marks = deque(sorted([_range(record) async for record in _records(bus, partition, 0) if _is_mark(record)]))
    async for one in each(bus, partition):
        while marks and marks[0][1] < one.record.offset:
            marks.popleft()
        if one.is_cut or not marks or one.record.offset < marks[0][0]:
            yield one


async def _records(bus: Bus, partition: int, offset: int) -> AsyncIterator[Record]:
    async with aclosing(scan(bus, topics.REJECTED, partition, offset)) as batches:
        async for batch in batches:
            for record in batch:
                yield record


def _is_mark(record: Record) -> bool:
    # The last header of a rejected record is always one of ``OURS``.
    pairs = pairs_of(record.headers)
    return bool(pairs) and pairs[-1][0] == REPLAYED_HEADER and _RANGE.fullmatch(pairs[-1][1]) is not None


def _range(mark: Record) -> tuple[int, int]:
    first, _, last = mark.headers[REPLAYED_HEADER].partition("-")
    return int(first), int(last)


async def replay(bus: Bus, partition: int, offset: int) -> None:
    """Append a rejected record to ``inbox`` again, without ingest's headers, and mark it, even if it is already marked.

    Args:
        bus: the log.
        partition: the partition of ``rejected``, from 0.
        offset: the record's offset.

    Raises:
        InvalidInputError: if there is no such record, or only its start was kept.
        BusError: if the outcome is unknown; a mark shows that it was replayed.
    """
    if partition < bus.partitions(topics.REJECTED):
        async for one in each(bus, partition, offset):
            if one.record.offset != offset:
                break
            if one.is_cut:
                where = f"partition {partition}, offset {offset}"
                raise InvalidInputError(f"only the start of the record at {where} was kept: its producer has to send it again")
            writer = await bus.writer(REPLAYER)
            try:
                await _commit(writer, [one])
            finally:
                await writer.close()
            return
    raise InvalidInputError(f"there is no rejected record at partition {partition}, offset {offset}: tufline rejected list shows them all")


async def replay_all(bus: Bus) -> tuple[int, int]:
    """Append all rejected records that were not replayed yet to ``inbox`` again, without ingest's headers, and mark them.

    Args:
        bus: the log.

    Returns:
        How many were replayed, and how many were not because only their start was kept.

    Raises:
        FencedError: if another process started to replay; run it again for the remaining records.
        BusError: if the outcome is unknown; marks show which records were replayed.
    """
    replayed = cut = 0
    writer = await bus.writer(REPLAYER)
    try:
        for partition in range(bus.partitions(topics.REJECTED)):
            batch: list[Rejected] = []
            size = 0
            async for one in waiting(bus, partition):
                if one.is_cut:
                    cut += 1
                    continue
                if batch and size + size_of(one.record) > BATCH_BYTES:
                    replayed += await _commit(writer, batch)
                    batch, size = [], 0
                batch.append(one)
                size += size_of(one.record)
            if batch:
                replayed += await _commit(writer, batch)
    finally:
        await writer.close()
    return replayed, cut


async def _commit(writer: Writer, batch: Sequence[Rejected]) -> int:
    """Replay records of one partition and mark them, in one transaction."""
    first, last = batch[0].record, batch[-1].record
    again = [Message(topics.INBOX, one.record.key, one.record.value, one.partition, make_headers(one.own_headers)) for one in batch]
    mark = Message(topics.REJECTED, "", b"", first.partition, {REPLAYED_HEADER: f"{first.offset}-{last.offset}"})
    await writer.commit([*again, mark])
    return len(batch)
