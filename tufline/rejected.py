"""Topic ``rejected``: reading what ingest rejected, and bringing it to ``inbox`` again.

A record is the inbox record byte for byte, with headers of ingest's behind its own.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from tufline import topics
from tufline.bus import Bus, Message, Record
from tufline.bus.headers import make_headers, pairs_of
from tufline.errors import InvalidInputError

REASON_HEADER: Final = "tufline-reason"
TOPIC_HEADER: Final = "tufline-topic"
PARTITION_HEADER: Final = "tufline-partition"
OFFSET_HEADER: Final = "tufline-offset"
CUT_HEADER: Final = "tufline-cut"
"""Size of the whole record, in bytes, where only the beginning is kept."""

OURS: Final = frozenset({REASON_HEADER, TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER, CUT_HEADER})


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected record.

    Attributes:
        record: as it stands in ``rejected``.
        reason: why it was rejected.
        partition: of ``inbox``.
        offset: in it.
        is_cut: whether only its beginning was kept.
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


def understand(record: Record) -> Rejected:
    """Read the headers of a rejected record.

    Args:
        record: of ``rejected``.

    Returns:
        What they say.
    """
    headers = record.headers
    is_cut = pairs_of(headers)[-1][0] == CUT_HEADER
    return Rejected(record, headers[REASON_HEADER], int(headers[PARTITION_HEADER]), int(headers[OFFSET_HEADER]), is_cut)


async def each(bus: Bus, partition: int, offset: int = 0) -> AsyncIterator[Rejected]:
    """Read what is rejected now and still kept.

    Args:
        bus: the log.
        partition: of ``rejected``.
        offset: the lowest of interest.

    Yields:
        Each record, in order; none that comes meanwhile.

    Raises:
        BusError: if the log can't be read now.
    """
    end = await bus.end(topics.REJECTED, partition)
    reader = bus.reader(topics.REJECTED, partition, offset)
    try:
        while reader.position < end and (batch := await reader.fetch(max_wait=0)):
            for record in batch:
                if record.offset < end:
                    yield understand(record)
    finally:
        await reader.close()


async def replay(bus: Bus, rejected: Rejected) -> None:
    """Append a rejected record to ``inbox`` again, without ingest's headers.

    Args:
        bus: the log.
        rejected: what to bring back.

    Raises:
        InvalidInputError: if only its beginning was kept.
        BusError: if the outcome is unknown; it may be in ``inbox``.
    """
    record = rejected.record
    if rejected.is_cut:
        where = f"partition {record.partition} offset {record.offset}"
        raise InvalidInputError(f"of the record at {where} only the beginning was kept: its producer has to send it again")
    await bus.append([Message(topics.INBOX, record.key, record.value, rejected.partition, make_headers(rejected.own_headers))])
