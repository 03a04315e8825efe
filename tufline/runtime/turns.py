"""Dividing long work on an event loop into short turns, so that other tasks can run in between.

A turn is measured by the size of the work and not by the clock, so that every run of a simulation has the same schedule.
"""

import asyncio
from typing import Final

TURN_BYTES: Final = 100_000
"""How many bytes of JSON are processed in one turn: about 10 ms of work, 25 ms in the worst case."""

ITEM_BYTES: Final = 200
"""The fixed cost of an item, in bytes of JSON."""

MAX_VALUES: Final = 500_000
"""The most commas in a JSON document that is decoded in one call; that takes about 40 ms, during which no other task runs."""


class Turns:
    """Counts the work done, and lets other tasks run after each turn."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        """Start a turn."""
        self._done = 0

    async def take(self, size: int = 0) -> None:
        """Count a processed item.

        Args:
            size: the item's size in bytes of JSON.
        """
        self._done += ITEM_BYTES + size
        if self._done >= TURN_BYTES:
            self._done = 0
            await asyncio.sleep(0)
