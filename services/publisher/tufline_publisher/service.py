"""The publisher as a service: one process at a time publishes the log to an origin; others wait to take over.

In: ``metadata``. Out: the origin, ``published``.
"""

from typing import Final

from tufline.bus import Bus
from tufline.clock import Clock, utc_now
from tufline.config.settings import PublisherConfig
from tufline.origin.store import Store
from tufline.records import topics
from tufline.reference_clock import DEFAULT_TOLERANCE_SECONDS, ReferenceClock
from tufline.runtime import clock_watch
from tufline.runtime.health import Health
from tufline.runtime.partitions import own_partitions
from tufline.runtime.task_groups import all_of
from tufline_publisher.errors import FilesLostError
from tufline_publisher.publisher import Publisher

PART: Final = "publisher"


def part(origin: str) -> str:
    """Return the name under which health and logs report the work on an origin.

    Args:
        origin: name of the origin.

    Returns:
        ``publisher.`` and the origin's name.
    """
    return f"{PART}.{origin}"


async def run(
    bus: Bus,
    config: PublisherConfig,
    store: Store,
    *,
    clock: Clock = utc_now,
    clock_tolerance: float = DEFAULT_TOLERANCE_SECONDS,
    health: Health,
) -> None:
    """Publish to one origin, until cancelled.

    Args:
        bus: the log.
        config: this publisher's settings.
        store: the origin.
        clock: the wall clock.
        clock_tolerance: a larger difference between the machine's clock and the log's, in seconds, is reported as a problem.
        health: where the publisher reports problems.
    """
    name = part(config.origin)
    reference = ReferenceClock(clock, clock_tolerance)
    from_start = False

    async def work(_: int) -> None:
        nonlocal from_start
        publisher = Publisher(bus, config, store, name, reference, health, from_start=from_start)
        from_start = False
        try:
            await publisher.run()
        except FilesLostError:
            from_start = True
            raise

    await all_of(
        clock_watch.watch_clock(reference, PART, health),
        own_partitions(bus, name, topics.METADATA, lambda _: name, work, health),
    )
