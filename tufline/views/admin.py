"""The state of ``admin``, kept up to date with the log: the repository's settings, and its submitted trust metadata."""

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
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState, Bootstrapped

_log = structlog.get_logger(__name__)


def _fold(state: AdminState, record: Record) -> AdminState:
    following = fold(state, record)
    if following.routing is not None and following.routing is not state.routing:
        following.routing.index()
    return following


class AdminFollower:
    """Keeps a service's ``AdminState`` up to date with the log."""

    def __init__(self, bus: Bus, passed: PassedOver | None = None) -> None:
        """Start with the empty state.

        Args:
            bus: the log that has ``admin``.
            passed: notified of records that can't be read, which are skipped.
        """
        self._bus = bus
        self._passed = passed or PassedOver(Health(), topics.ADMIN)
        self.known = asyncio.Event()
        """Set once every record that was visible at the start has been applied."""
        self._changed = asyncio.Condition()
        self.state = AdminState()

    async def run(self) -> None:
        """Apply every record of ``admin``, until cancelled. Called again after a failure, it continues where it stopped.

        Raises:
            BusError: if a retry can't help.
            LogDamagedError: if records are gone that were not applied, without which the state of the repository is unknown.
        """
        if (start := await self._bus.start(topics.ADMIN, 0)) > self.state.next_offset:
            gone = f"the records of {topics.ADMIN} from offset {self.state.next_offset} to {start - 1} are gone from the log"
            raise LogDamagedError(f"{gone}, and the repository's state is unknown without them: restore the log from a backup")
        await follow(self._bus, topics.ADMIN, 0, self.state.next_offset, self._apply, self.known.set, self._passed)

    async def _apply(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self._passed.decode(records.admin_decoder, record)
            # In a thread: root and targets may be large, and each new signature is verified over its whole version.
            self.state = await asyncio.to_thread(_fold, self.state, record)
            if reason := self.state.refused.get(record.offset):
                _log.error("admin.refused", offset=record.offset, key=record.key, reason=reason)
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, condition: Callable[[AdminState], bool]) -> AdminState:
        """Wait until the state meets a condition.

        Args:
            condition: called with the current state, and again after each change.

        Returns:
            The first state that met it.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self.state))
            return self.state

    @property
    def repository(self) -> Bootstrapped:
        """The repository; call ``wait_for_bootstrap`` first.

        Raises:
            RuntimeError: if the repository is not bootstrapped.
        """
        found = self.state.bootstrapped
        if found is None:
            raise RuntimeError("the state of a repository was read before its bootstrap: await wait_for_bootstrap first")
        return found

    async def wait_for_bootstrap(self, condition: Callable[[Bootstrapped], bool] = lambda _: True) -> Bootstrapped:
        """Wait until the repository is bootstrapped, and meets a condition.

        Args:
            condition: called with the repository, and again after each change.

        Returns:
            The repository that met it.
        """
        async with self._changed:
            while (found := self.state.bootstrapped) is None or not condition(found):
                await self._changed.wait()
            return found
