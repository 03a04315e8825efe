"""Reading what a partition holds now: from an offset to the end, however many fetches that takes.

A fetch returns as much as the bus likes: on Kafka about 2 MiB of the log, compacted or not. So one fetch is never all there is, and the
newest record of a key is known only at the end. The end may lie above the last record (on Kafka the marker of a transaction takes an
offset); there a fetch that does not wait and returns nothing says that there is nothing left below the end.

Every reader that has an end is built on this; what has none (a worker's input, a read model) uses ``tufline.bus.follow``.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from tufline.bus import DEFAULT_FETCH_BYTES, Bus, Reader, Record
from tufline.errors import RecordUnreadableError

FIRST_STEP: Final = 64
"""How many offsets before the end the search for a newest record starts; it goes back in growing steps."""


class DamagedRecords(Protocol):
    """Is told of the records that a reader passes over because their bytes can't be decoded (``tufline.runtime.passed_over``)."""

    def damaged(self, error: RecordUnreadableError) -> None:
        """Take note of one.

        Args:
            error: that the reader raised at it.
        """


async def fetch_past_damaged(
    reader: Reader, passed: DamagedRecords, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES
) -> Sequence[Record]:
    """Fetch the next records, past those that are damaged.

    Args:
        reader: of a partition.
        passed: is told of the damaged records.
        max_wait: as for ``Reader.fetch``.
        max_bytes: as for ``Reader.fetch``.

    Returns:
        As ``Reader.fetch``.

    Raises:
        BusError: if the bus can't be read now.
    """
    while True:
        try:
            return await reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
        except RecordUnreadableError as error:
            passed.damaged(error)
            reader.seek(error.offset + 1)


async def scan(
    bus: Bus,
    topic: str,
    partition: int,
    start: int = 0,
    end: int | None = None,
    *,
    max_wait: float = 0.0,
    max_bytes: int = DEFAULT_FETCH_BYTES,
    passed: DamagedRecords | None = None,
) -> AsyncGenerator[Sequence[Record], None]:
    """Read a partition from an offset to an end.

    Whoever leaves the loop early closes the generator (``contextlib.aclosing``), and with it the reader.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        start: the lowest offset of interest.
        end: the offset to stop at (exclusive); without it, the end as it is when the reading starts.
        max_wait: how long to wait for a record below ``end``, in seconds: 0 where ``end`` was visible when it was asked for, more where it
            is known from elsewhere and may become visible a moment later.
        max_bytes: about how many bytes of values one batch may have.
        passed: takes damaged records; without it they are an error.

    Yields:
        Batches of records, none of them empty, in the order of their offsets, all of them below ``end``.

    Raises:
        RecordUnreadableError: at a damaged record, without ``passed``.
        BusError: if the bus can't be read now.
    """
    end = await bus.end(topic, partition) if end is None else end
    reader = bus.reader(topic, partition, start)
    fetch = reader.fetch if passed is None else partial(fetch_past_damaged, reader, passed)
    try:
        while reader.position < end and (batch := await fetch(max_wait=max_wait, max_bytes=max_bytes)):
            if below := batch if batch[-1].offset < end else [record for record in batch if record.offset < end]:
                yield below
    finally:
        await reader.close()


async def last_record(
    bus: Bus, topic: str, partition: int, wanted: Callable[[Record], bool] = lambda _: True, passed: DamagedRecords | None = None
) -> Record | None:
    """Find the newest record, going back from the end.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        wanted: which records count.
        passed: takes damaged records; without it they are an error.

    Returns:
        The newest one that is wanted, or None.

    Raises:
        RecordUnreadableError: at a damaged record, without ``passed``.
        BusError: if the bus can't be read now.
    """
    end = await bus.end(topic, partition)
    step = FIRST_STEP
    while True:
        start = max(0, end - step)
        found = None
        async for batch in scan(bus, topic, partition, start, end, passed=passed):
            found = next((record for record in reversed(batch) if wanted(record)), found)
        if found is not None or start == 0:
            return found
        step *= 8
