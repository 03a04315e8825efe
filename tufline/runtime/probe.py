"""Asking the bus now and then whether it answers, for whoever asks the process whether it is ready.

What the services wait for on the bus may be long in coming also when all is well, so their waiting says nothing.
"""

import asyncio
from typing import Final

import structlog

from tufline.bus import Bus
from tufline.errors import BusError
from tufline.records import topics
from tufline.runtime.health import Health

EVERY_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
"""After so long without an answer the bus counts as out of reach: longer than brokers take to give a partition to another one, mostly."""

_log = structlog.get_logger(__name__)


async def keep_probing(bus: Bus, url: str, part: str, health: Health) -> None:
    """Say whether the bus answers, for ever.

    Args:
        bus: open.
        url: where it is, as configured.
        part: under which the health says it.
        health: of the process.
    """
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await bus.end(topics.ADMIN, 0)
        except (BusError, TimeoutError) as error:
            reason = str(error) or f"nothing came in {ANSWER_SECONDS:g} s"
            if not health.problems.get(part):
                _log.warning("bus.unreachable", url=url, error=reason)
            health.problem(part, f"{url} does not answer ({reason}): is it up, and can it be reached from here?")
        else:
            if health.problems.get(part):
                _log.info("bus.reachable", url=url)
            health.ok(part)
        await asyncio.sleep(EVERY_SECONDS)
