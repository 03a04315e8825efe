"""Comparing the machine's clock with the log's: each service reports when the two differ.

In: the times of records that the process appends. Out: a warning in the process's health and in its log. The process continues: its
decisions depend on ``ReferenceClock``, so it need not stop when its machine's clock is wrong.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from tufline.bus import Bus, Message, Position
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health

EVERY_SECONDS: Final = 60.0
"""How often the two clocks are compared."""

_log = structlog.get_logger(__name__)


async def append(bus: Bus, messages: Sequence[Message], clock: ReferenceClock) -> Sequence[Position]:
    """Append records, and learn the log's time from them.

    Args:
        bus: the log.
        messages: the messages to append.
        clock: learns the time that the log gave the records.

    Returns:
        The positions of the records.

    Raises:
        BusError: if the records can't be appended.
    """
    sent = clock.monotonic()
    positions = await bus.append(messages)
    if positions:
        clock.observe(positions[-1].time, sent)
    return positions


async def watch_clock(clock: ReferenceClock, service: str, health: Health) -> None:
    """Report how the machine's clock differs from the log's, until cancelled.

    Args:
        clock: the service's clock.
        service: the service's name; the warning is the part ``<service>.clock``.
        health: the process's health.
    """
    reported: str | None = None
    while True:
        problem = clock.problem
        health.warn(f"{service}.clock", problem)
        if (problem is None) != (reported is None):
            event = "clock.agrees" if problem is None else "clock.differs"
            _log.warning(event, service=service, seconds=clock.difference.total_seconds(), problem=problem)
        reported = problem
        await asyncio.sleep(EVERY_SECONDS)
