"""Probing whether the bus answers, for the readiness of the process.

A service may wait a long time for records although the bus works, so a waiting service does not show that the bus is down.
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
"""A bus that does not answer for this long counts as unreachable. Moving a partition to another broker usually takes less."""

_log = structlog.get_logger(__name__)


async def keep_probing(bus: Bus, url: str, part: str, health: Health) -> None:
    """Report whether the bus answers, until cancelled.

    Args:
        bus: the open bus.
        url: its configured URL, for messages.
        part: the name of the bus's part in the health.
        health: the process's health.
    """
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await bus.end(topics.ADMIN, 0)
        except (BusError, TimeoutError) as error:
            reason = str(error) or f"no answer within {ANSWER_SECONDS:g} s"
            if part not in health.problems:
                _log.warning("bus.unreachable", url=url, error=reason)
            health.problem(part, f"{url} does not answer ({reason}): check that it is up and can be reached from here")
        else:
            if part in health.problems:
                _log.info("bus.reachable", url=url)
            health.ok(part)
        await asyncio.sleep(EVERY_SECONDS)
