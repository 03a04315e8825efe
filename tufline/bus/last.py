"""Finding the newest record of a partition, for read models that need no more than that."""

from collections.abc import Callable
from typing import Final

from tufline.bus import Bus, Record
from tufline.bus.scan import scan
from tufline.runtime.passed_over import PassedOver

FIRST_STEP: Final = 64
"""How many offsets before the end the search begins; it goes back in growing steps."""


async def last_record(
    bus: Bus, topic: str, partition: int, wanted: Callable[[Record], bool] = lambda _: True, passed: PassedOver | None = None
) -> Record | None:
    """Find the newest record, going back from the end.

    Args:
        bus: to read from.
        topic: without the prefix.
        partition: from 0.
        wanted: which records count.
        passed: takes damaged records; without it they are an error.

    Returns:
        The newest one that is wanted, or None.

    Raises:
        RecordUnreadableError: at a damaged record, without ``passed``.
        BusError: if the bus can't be read now.
    """
    end = await bus.end(topic, partition)
    step = FIRST_STEP
    while True:
        start = max(0, end - step)
        found = None
        async for batch in scan(bus, topic, partition, start, end, passed=passed):
            found = next((record for record in reversed(batch) if wanted(record)), found)
        if found is not None or start == 0:
            return found
        step *= 8
