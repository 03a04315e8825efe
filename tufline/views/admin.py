"""The state of ``admin``, kept up with the log: what the repository is, and which trust was submitted."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tufline import records
from tufline.bus import Bus, Record
from tufline.bus.follow import follow
from tufline.errors import LogDamagedError
from tufline.records import topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust.admin_state import AdminState, fold

_log = structlog.get_logger(__name__)


class AdminFollower:
    """Keeps a service's ``AdminState`` up with the log."""

    def __init__(self, bus: Bus, passed: PassedOver | None = None) -> None:
        """Begin with the empty state.

        Args:
            bus: to read ``admin`` from.
            passed: takes the records that can't be read.
        """
        self._bus = bus
        self._passed = passed or PassedOver(Health(), topics.ADMIN)
        self.known = asyncio.Event()
        """Set once the state is that of the whole log, and not of its beginning."""
        self._changed = asyncio.Condition()
        self.state = AdminState()

    async def run(self) -> None:
        """Apply every record of ``admin``, for ever; after a failure, from where it stopped.

        Raises:
            BusError: one that trying again can't fix.
            LogDamagedError: if records are gone that were not applied: without them nobody knows what the repository is.
        """
        if (start := await self._bus.start(topics.ADMIN, 0)) > self.state.next_offset:
            gone = f"the records of {topics.ADMIN} from offset {self.state.next_offset} to {start - 1} are gone from the log"
            raise LogDamagedError(f"{gone}, and nobody knows the repository without them: restore the log from a backup")
        await follow(self._bus, topics.ADMIN, 0, self.state.next_offset, self._apply, self.known.set, self._passed)

    async def _apply(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self._passed.decode(records.admin_decoder, record)
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
