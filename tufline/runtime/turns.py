"""Long work on an event loop, in short turns: what takes long gives every other task its turn in between.

The turns go by the size of the work and not by the clock, so that a simulation plays the same schedule each time.
"""

import asyncio
from typing import Final

TURN_BYTES: Final = 100_000
"""How much JSON is worked through in one turn: about 10 ms, and 25 ms of the worst kind."""

ITEM_BYTES: Final = 200
"""What an item costs whatever its size is, in bytes of JSON."""

MAX_VALUES: Final = 500_000
"""The most commas in JSON that a decoder is given whole: it goes on for 40 ms then, and no other task has a turn meanwhile."""


class Turns:
    """Counts what is done, and gives the others their turn when it is enough."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        """Begin a turn."""
        self._done = 0

    async def take(self, size: int = 0) -> None:
        """Count an item that was worked through.

        Args:
            size: of it, in bytes of JSON.
        """
        self._done += ITEM_BYTES + size
        if self._done >= TURN_BYTES:
            self._done = 0
            await asyncio.sleep(0)
