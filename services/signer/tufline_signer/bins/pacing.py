"""How fast bins are renewed: with half of the time left free."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BUSY_SECONDS: Final = 0.05
"""How soon to ask again for a turn at renewing."""


class Pace:
    """Leaves half of the time free: who renews everything at once must not hold up what is new, nor leave the publisher behind."""

    def __init__(self) -> None:
        """Begin with nothing under way."""
        self._is_working = False
        self._next = 0.0

    @property
    def wait(self) -> float:
        """How long to wait before there may be more work, in seconds."""
        return BUSY_SECONDS if self._is_working else max(0.0, self._next - asyncio.get_running_loop().time())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work; then there is a pause as long as the work.

        Yields:
            Nothing.
        """
        loop = asyncio.get_running_loop()
        began, self._is_working = loop.time(), True
        try:
            yield
        finally:
            self._is_working = False
            self._next = 2 * loop.time() - began
