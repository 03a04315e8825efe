"""How long ``artifacts`` and ``inbox`` are kept.

``artifacts``: until it is live, and thirty days at least, so that a task can be asked for and a mistake be looked into. ``inbox``: until it
is moved, and seven days at least.

A log can't know what is live, or moved; ingest does, from ``published`` and ``inbox-progress``. How old a record is says the log's clock
as well as this machine's, whichever is behind. A process that has appended nothing does not know the log's: it drops nothing, and leaves
that to those that own a partition of ``inbox``, who have appended their claim.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from tufline.bus import Bus
from tufline.clock import Clock, milliseconds_of
from tufline.records import topics
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.views.lost_input import progress_of
from tufline_ingest.views.published import Live

KEPT: Final = timedelta(days=30)
INBOX_KEPT: Final = timedelta(days=7)
INTERVAL_SECONDS: Final = 3600.0


async def trim_once(bus: Bus, live: Live, clock: Clock, passed: PassedOver | None = None) -> None:
    """Let the log drop what is live, or moved, and old.

    Args:
        bus: the log.
        live: what the origin shows.
        clock: what time it is at least.
        passed: takes the records of ``inbox-progress`` that can't be read.
    """
    await _trim_inbox(bus, clock, passed or PassedOver(Health(), topics.INBOX_PROGRESS))
    published = live.published
    if published is None:
        return
    limit = milliseconds_of(clock() - KEPT)
    for partition, covered in enumerate(published.vector.artifacts):
        old = await bus.offset_at(topics.ARTIFACTS, partition, limit)
        await bus.trim(topics.ARTIFACTS, partition, min(covered, old))


async def _trim_inbox(bus: Bus, clock: Clock, passed: PassedOver) -> None:
    limit = milliseconds_of(clock() - INBOX_KEPT)
    for partition in range(bus.partitions(topics.INBOX)):
        moved = await progress_of(bus, topics.INBOX, partition, passed)
        if moved > 0:
            old = await bus.offset_at(topics.INBOX, partition, limit)
            await bus.trim(topics.INBOX, partition, min(moved, old))


async def run(bus: Bus, live: Live, clock: ReferenceClock, passed: PassedOver, others: Sequence[PassedOver] = ()) -> None:
    """Let the log drop what it may, until cancelled.

    Args:
        bus: the log.
        live: what the origin shows.
        clock: the wall clock, held against the log's.
        passed: takes the records of ``inbox-progress`` that can't be read.
        others: what other parts of the process passed over: what of it is gone from the log is no problem any more.
    """
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        # By a clock that is ahead, what has just become live would be old.
        if clock.is_known:
            await trim_once(bus, live, clock.earliest, passed)
        for one in (passed, *others):
            await one.drop_gone(bus)
