"""Following a topic: a read model that one task keeps up with the log, and that others wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tufline.bus import Bus, Record
from tufline.bus.scan import DamagedRecords, fetch_past_damaged
from tufline.errors import BusError, RecordUnreadableError

POLL_SECONDS = 30.0
"""How long one fetch waits; only how soon a lost wake-up would be noticed hangs on it."""

RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class _Logged:
    """Passes over damaged records for a follower whom nobody asks for its health."""

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
    """Apply every record of a partition, for ever.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        offset: where to begin.
        apply: awaited with the next records, in order; what it raises ends the following.
        caught_up: called once, when all that was there in the beginning has been applied.
        passed: takes damaged records; the following goes on past them, also without it.

    Raises:
        BusError: one that trying again can't mend.
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
            # The end may lie above the last record: then what comes next is nothing.
            if not is_caught_up and (not batch or reader.position >= end):
                is_caught_up = True
                caught_up()
    finally:
        await reader.close()
