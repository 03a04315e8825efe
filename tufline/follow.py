"""Following a topic: a read model that one task keeps up with the log, and that others wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tufline import topics
from tufline.bus import Bus, Record
from tufline.errors import BusError
from tufline.trust import AdminState, fold

POLL_SECONDS = 30.0
"""How long one fetch waits; only how soon a lost wake-up would be noticed hangs on it."""

RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


async def follow(bus: Bus, topic: str, partition: int, offset: int, apply: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
    """Apply every record of a partition, for ever.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        offset: where to begin.
        apply: awaited with the next records, in order; what it raises ends the following.

    Raises:
        BusError: one that trying again can't mend.
    """
    reader = bus.reader(topic, partition, offset)
    try:
        while True:
            try:
                batch = await reader.fetch(max_wait=POLL_SECONDS)
            except BusError as error:
                if not error.retriable:
                    raise
                _log.warning("follow.retry", topic=topic, partition=partition, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if batch:
                await apply(batch)
    finally:
        await reader.close()


class AdminFollower:
    """Keeps a service's ``AdminState`` up with the log."""

    def __init__(self, bus: Bus) -> None:
        """Begin with the empty state.

        Args:
            bus: to read ``admin`` from.
        """
        self._bus = bus
        self._changed = asyncio.Condition()
        self.state = AdminState()

    async def run(self) -> None:
        """Apply every record of ``admin``, for ever; after a failure, from where it stopped."""
        await follow(self._bus, topics.ADMIN, 0, self.state.next_offset, self._apply)

    async def _apply(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self.state = fold(self.state, record)
            if reason := self.state.refused.get(record.offset):
                _log.error("admin.refused", offset=record.offset, key=record.key, reason=reason)
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, condition: Callable[[AdminState], bool]) -> AdminState:
        """Wait until the state is as asked.

        Args:
            condition: on the state.

        Returns:
            The state that met it.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self.state))
            return self.state
