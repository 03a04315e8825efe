"""What an origin shows: the newest commit that its publisher recorded in ``published``."""

from collections.abc import Awaitable, Callable, Sequence

from tufline import records
from tufline.bus import Bus, Record
from tufline.bus.follow import follow
from tufline.bus.scan import last_record
from tufline.records import Published, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver


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
