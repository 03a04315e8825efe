"""Lives of a process that die at any turn of the event loop, without any clean-up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tufline.bus.embedded.bus import EmbeddedBus
from tufline_testing.simulation.virtual_time import VirtualTimeLoop


class Crash(BaseException):
    """The process dies here."""


class MortalLoop(VirtualTimeLoop):
    """An event loop that dies after a number of turns."""

    def __init__(self, turns: float, now: float) -> None:
        super().__init__()
        self.now = now
        self._turns = turns

    def _run_once(self) -> None:
        self._turns -= 1
        if self._turns < 0:
            raise Crash
        super()._run_once()  # type: ignore[misc]


def live(loop: MortalLoop, open_bus: Callable[[], Awaitable[EmbeddedBus]], life: Callable[[EmbeddedBus], Awaitable[None]]) -> bool:
    """Run a life of a process on a log, until it ends or the process dies; then close the log's file, as the operating system does.

    Args:
        loop: the loop of the process.
        open_bus: opens the log.
        life: what the process does.

    Returns:
        Whether the process died.

    Raises:
        Exception: what the life raises.
    """
    opened: list[EmbeddedBus] = []

    async def main() -> None:
        bus = await open_bus()
        opened.append(bus)
        await life(bus)

    asyncio.set_event_loop(loop)
    task = loop.create_task(main())
    _GRAVE.append((loop, task))
    try:
        with suppress(Crash):
            loop.run_until_complete(task)
            return False
        return True
    finally:
        for bus in opened:
            bus._log.close()
        asyncio.set_event_loop(None)


_GRAVE: list[Any] = []
"""Loops and tasks of ended lives. They are kept so that none of their code runs again, not even in the garbage collector."""
