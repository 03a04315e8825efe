"""Following a partition: one task applies every record to a read model as it appears."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tufline.bus import Bus, Record
from tufline.bus.scan import DamagedRecords, fetch_past_damaged
from tufline.errors import BusError, RecordUnreadableError

POLL_SECONDS = 30.0
"""How long one fetch waits. A new record ends the wait, so this matters only if the bus missed waking the reader."""

RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class _Logged:
    """Logs damaged records, for a follower that reports no health."""

    def damaged(self, error: RecordUnreadableError) -> None:
        _log.error("follow.passed_over", what=str(error))


async def follow(
    bus: Bus,
    topic: str,
    partition: int,
    offset: int,
    apply: Callable[[Sequence[Record]], Awaitable[None]],
    caught_up: Callable[[], None] = lambda: None,
    passed: DamagedRecords | None = None,
) -> None:
    """Apply every record of a partition, until cancelled.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        offset: where to start.
        apply: awaited with the next records, in order; an exception that it raises ends the loop.
        caught_up: called once, when every record that was visible at the start has been applied.
        passed: notified of each damaged record, which is skipped; without it they are only logged.

    Raises:
        BusError: if a retry can't help.
    """
    passed = passed or _Logged()
    reader = bus.reader(topic, partition, offset)
    end: int | None = None
    is_caught_up = False
    try:
        while True:
            try:
                end = await bus.end(topic, partition) if end is None else end
                batch = await fetch_past_damaged(reader, passed, max_wait=POLL_SECONDS if is_caught_up else 0.0)
            except BusError as error:
                if not error.retriable:
                    raise
                _log.warning("follow.retry", topic=topic, partition=partition, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if batch:
                await apply(batch)
            # The end may lie above the last record: then the fetch returns nothing.
            if not is_caught_up and (not batch or reader.position >= end):
                is_caught_up = True
                caught_up()
    finally:
        await reader.close()
