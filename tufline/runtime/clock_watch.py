"""The machine's clock against the log's, for every service that has one: reported while the two differ.

In: the times of records that the process appends. Out: a warning of the process's health and of its log. The process goes on meanwhile:
what it decides, it decides by ``ReferenceClock``, and a wrong clock of one machine is no reason to stop all of them.
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
    """Append records, and learn from them what time it is by the log.

    Args:
        bus: the log.
        messages: to append.
        clock: takes note of the time that the log gives them.

    Returns:
        Where the records are.

    Raises:
        BusError: if the bus can't append them.
    """
    sent = clock.monotonic()
    positions = await bus.append(messages)
    if positions:
        clock.observe(positions[-1].time, sent)
    return positions


async def watch_clock(clock: ReferenceClock, service: str, health: Health) -> None:
    """Report how the machine's clock differs from the log's, until cancelled.

    Args:
        clock: of the service.
        service: its name: the part of the health is ``<service>.clock``.
        health: of the process.
    """
    said = ""
    while True:
        problem = clock.problem
        health.warn(f"{service}.clock", problem)
        if bool(problem) != bool(said):
            event = "clock.differs" if problem else "clock.agrees"
            _log.warning(event, service=service, seconds=clock.difference.total_seconds(), problem=problem)
        said = problem
        await asyncio.sleep(EVERY_SECONDS)
