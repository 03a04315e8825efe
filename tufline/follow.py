"""Following a topic: a read model that one task keeps up with the log, and that others wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tufline import records, topics
from tufline.admin import AdminState, fold
from tufline.bus import Bus, Record
from tufline.bus.last import last_record
from tufline.errors import BusError, LogDamagedError
from tufline.health import Health
from tufline.passed_over import PassedOver
from tufline.records import Published

POLL_SECONDS = 30.0
"""How long one fetch waits; only how soon a lost wake-up would be noticed hangs on it."""

RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


async def follow(
    bus: Bus,
    topic: str,
    partition: int,
    offset: int,
    apply: Callable[[Sequence[Record]], Awaitable[None]],
    caught_up: Callable[[], None] = lambda: None,
    passed: PassedOver | None = None,
) -> None:
    """Apply every record of a partition, for ever.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        offset: where to begin.
        apply: awaited with the next records, in order; what it raises ends the following.
        caught_up: called once, when all that was there in the beginning has been applied.
        passed: takes damaged records; the following goes on past them, also without it.

    Raises:
        BusError: one that trying again can't mend.
    """
    passed = passed or PassedOver(Health(), topic)
    reader = bus.reader(topic, partition, offset)
    end: int | None = None
    is_caught_up = False
    try:
        while True:
            try:
                end = await bus.end(topic, partition) if end is None else end
                batch = await passed.fetch(reader, max_wait=POLL_SECONDS if is_caught_up else 0.0)
            except BusError as error:
                if not error.retriable:
                    raise
                _log.warning("follow.retry", topic=topic, partition=partition, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if batch:
                await apply(batch)
            # The end may lie above the last record: then what comes next is nothing.
            if not is_caught_up and (not batch or reader.position >= end):
                is_caught_up = True
                caught_up()
    finally:
        await reader.close()


async def last_published(bus: Bus, origin: str, passed: PassedOver) -> tuple[int, Published] | None:
    """Find what an origin shows, as its publisher said last.

    Args:
        bus: to read from.
        origin: its name.
        passed: takes the records that can't be read.

    Returns:
        The offset in ``published`` and the record; None if there is none that can be read.

    Raises:
        BusError: if the log can't be read now.
    """
    found: tuple[int, Published] | None = None

    def take(record: Record) -> bool:
        nonlocal found
        content = passed.decode(records.published_decoder, record) if record.key == origin else None
        if content is not None:
            found = record.offset, content
        return content is not None

    await last_record(bus, topics.PUBLISHED, 0, take, passed)
    return found


async def follow_origin(
    bus: Bus,
    origin: str,
    apply: Callable[[Published], Awaitable[None]],
    caught_up: Callable[[], None] = lambda: None,
    passed: PassedOver | None = None,
) -> None:
    """Follow what an origin shows, for ever, beginning with what it shows now.

    Args:
        bus: to read from.
        origin: its name.
        apply: awaited with what it shows; where it has moved on meanwhile, with the newest alone.
        caught_up: called once, when what it shows now has been applied, or there is nothing.
        passed: takes the records that can't be read.

    Raises:
        BusError: one that trying again can't mend.
    """
    passed = passed or PassedOver(Health(), origin)
    end = await bus.end(topics.PUBLISHED, 0)
    last = await last_published(bus, origin, passed)

    async def take(batch: Sequence[Record]) -> None:
        ours = (passed.decode(records.published_decoder, record) for record in reversed(batch) if record.key == origin)
        newest = next((content for content in ours if content is not None), None)
        if newest is not None:
            await apply(newest)

    await follow(bus, topics.PUBLISHED, 0, end if last is None else last[0], take, caught_up, passed)


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
