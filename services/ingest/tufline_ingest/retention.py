"""How long ``artifacts`` and ``inbox`` are kept.

Records of ``artifacts`` are kept until they are live, and at least thirty days, so that clients can ask for tasks and operators can
investigate mistakes. Records of ``inbox`` are kept until they are moved, and at least seven days.

The log can't know which records are live, or moved; ingest knows it from ``published`` and ``inbox-progress``. The age of a record is
judged by the log's clock or this machine's clock, whichever is behind. A process that has appended nothing does not know the log's time, so
it deletes nothing, and leaves that to the processes that own a partition of ``inbox``, which have appended their claims.
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
from tufline_ingest.views.published import PublishedView

KEPT: Final = timedelta(days=30)
INBOX_KEPT: Final = timedelta(days=7)
INTERVAL_SECONDS: Final = 3600.0


async def trim_once(bus: Bus, view: PublishedView, clock: Clock, passed: PassedOver | None = None) -> None:
    """Let the log delete records that are live, or moved, and old enough.

    Args:
        bus: the log.
        view: the published state of the origin.
        clock: the earlier of the log's time and the machine's.
        passed: notified of records of ``inbox-progress`` that can't be read.
    """
    await _trim_inbox(bus, clock, passed or PassedOver(Health(), topics.INBOX_PROGRESS))
    published = view.published
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


async def run(bus: Bus, view: PublishedView, clock: ReferenceClock, passed: PassedOver, others: Sequence[PassedOver] = ()) -> None:
    """Let the log delete old records, until cancelled.

    Args:
        bus: the log.
        view: the published state of the origin.
        clock: the wall clock, compared with the log's time.
        passed: notified of records of ``inbox-progress`` that can't be read.
        others: the records that other parts of the process skipped: those that are gone from the log are no longer a problem.
    """
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        # By a clock that is ahead, a record that has just become live would be old.
        if clock.is_known:
            await trim_once(bus, view, clock.earliest, passed)
        for one in (passed, *others):
            await one.drop_gone(bus)
