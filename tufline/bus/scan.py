"""Reading the current content of a partition: from an offset to the end, with as many fetches as needed.

The bus decides how much one fetch returns: on Kafka about 2 MiB of the log, compacted or not. So one fetch may return only a part, and the
newest record of a key is known only at the end. The end may lie above the last record, because on Kafka the marker of a transaction takes
an offset. So the scan also ends when a fetch that does not wait returns nothing: then no record is left below the end.

Every read up to an end uses this module. A read model, which reads on indefinitely, uses ``tufline.bus.follow``.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from tufline.bus import DEFAULT_FETCH_BYTES, Bus, Reader, Record
from tufline.errors import RecordUnreadableError

FIRST_STEP: Final = 64
"""How many offsets before the end ``last_record`` starts its search. If it finds nothing, it goes back further in growing steps."""


class DamagedRecords(Protocol):
    """Notified of records that are skipped because their bytes can't be decoded; see ``tufline.runtime.passed_over``."""

    def damaged(self, error: RecordUnreadableError) -> None:
        """Note a skipped record.

        Args:
            error: what the reader raised; it names the record's topic, partition and offset.
        """


async def fetch_past_damaged(
    reader: Reader, passed: DamagedRecords, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES
) -> Sequence[Record]:
    """Fetch the next records, and skip damaged ones.

    Args:
        reader: where to read; its position moves past the damaged records.
        passed: notified of each damaged record.
        max_wait: see ``Reader.fetch``.
        max_bytes: see ``Reader.fetch``.

    Returns:
        Records as from ``Reader.fetch``.

    Raises:
        BusError: if the bus is temporarily unavailable.
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

    A caller that leaves the loop early must close the generator (``contextlib.aclosing``), which closes the reader.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        start: the lowest offset to read.
        end: the offset to stop at (exclusive); by default the partition's end when the scan starts.
        max_wait: how long to wait for a record below ``end``, in seconds. 0 if ``end`` came from ``Bus.end``; more if ``end`` came from
            elsewhere, so that the records below it may become visible a moment later.
        max_bytes: about how many bytes of values one batch may have.
        passed: notified of damaged records, which are skipped; without it they are an error.

    Yields:
        Non-empty batches of records below ``end``, in the order of their offsets.

    Raises:
        RecordUnreadableError: at a damaged record, if ``passed`` is not set.
        BusError: if the bus is temporarily unavailable.
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
    """Find the newest record, searching back from the end.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        wanted: whether a record matches; by default every record does.
        passed: notified of damaged records, which are skipped; without it they are an error.

    Returns:
        The newest matching record, or None.

    Raises:
        RecordUnreadableError: at a damaged record, if ``passed`` is not set.
        BusError: if the bus is temporarily unavailable.
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
