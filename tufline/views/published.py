"""The current commit of an origin: the newest one that its publisher recorded in ``published``."""

from collections.abc import Awaitable, Callable, Sequence

from tufline import records
from tufline.bus import Bus, Record
from tufline.bus.follow import follow
from tufline.bus.scan import last_record
from tufline.records import Published, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver


async def last_published(bus: Bus, origin: str, passed: PassedOver) -> tuple[int, Published] | None:
    """Find the newest commit that the publisher of an origin recorded.

    Args:
        bus: the log.
        origin: the origin's name, which is the key of its records.
        passed: notified of records that can't be read, which are skipped.

    Returns:
        The record and its offset in ``published``; None if no readable one exists.

    Raises:
        BusError: if the bus is temporarily unavailable.
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
    """Follow the commits that are published at an origin until cancelled, starting with the current one.

    Args:
        bus: the log.
        origin: the origin's name, which is the key of its records.
        apply: awaited with a newly published commit; if several were published meanwhile, only with the newest.
        caught_up: called once, when the current commit has been applied, or if there is none.
        passed: notified of records that can't be read, which are skipped.

    Raises:
        BusError: if a retry can't help.
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
