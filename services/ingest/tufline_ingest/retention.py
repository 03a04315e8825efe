"""How long ``artifacts`` is kept: until it is live, and thirty days at least, so that a task can be asked for and a mistake be looked into.

A log can't know what is live; ingest does, from ``published``.
"""

import asyncio
from datetime import timedelta
from typing import Final

from tufline import topics
from tufline.bus import Bus
from tufline.clock import Clock
from tufline_ingest.live import Live

KEPT: Final = timedelta(days=30)
INTERVAL_SECONDS: Final = 3600.0


async def trim_once(bus: Bus, live: Live, clock: Clock) -> None:
    """Let the log drop what is live and old.

    Args:
        bus: the log.
        live: what the origin shows.
        clock: the wall clock.
    """
    published = live.published
    if published is None:
        return
    limit = int((clock() - KEPT).timestamp() * 1000)
    for partition, covered in enumerate(published.vector.artifacts):
        old = await bus.offset_at(topics.ARTIFACTS, partition, limit)
        await bus.trim(topics.ARTIFACTS, partition, min(covered, old))


async def run(bus: Bus, live: Live, clock: Clock) -> None:
    """Let the log drop what is live and old, for ever.

    Args:
        bus: the log.
        live: what the origin shows.
        clock: the wall clock.
    """
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        await trim_once(bus, live, clock)
