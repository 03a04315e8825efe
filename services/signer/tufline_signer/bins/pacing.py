"""How fast bins are renewed: renewal uses at most half of the time."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BUSY_SECONDS: Final = 0.05
"""How long to wait before asking again for a turn to renew, in seconds."""


class RenewalPace:
    """Keeps half of the time free: renewing everything at once must neither delay new changes nor outpace the publisher."""

    def __init__(self) -> None:
        """Start idle."""
        self._is_working = False
        self._next = 0.0

    @property
    def wait(self) -> float:
        """How long to wait before the next renewal may start, in seconds."""
        return BUSY_SECONDS if self._is_working else max(0.0, self._next - asyncio.get_running_loop().time())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Measure the work inside the block; a pause of the same length follows it.

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
