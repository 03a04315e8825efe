"""Shared by the contract tests of the bus: topics of every kind, and functions that write and read records in one line."""

from typing import Final

from tufline.bus import Bus, Message, Record
from tufline.bus.topic import Cleanup, Topic
from tufline_testing.buses import FILLER

PLAIN, SECOND, COMPACTED, AGED = "plain", "second", "compacted", "aged"

TOPICS: Final = {
    topic.name: topic
    for topic in (
        Topic(PLAIN, 4, Cleanup.KEEP),
        Topic(SECOND, 1, Cleanup.KEEP),
        Topic(COMPACTED, 1, Cleanup.COMPACT),
        Topic(AGED, 1, Cleanup.DELETE),
    )
}

DEADLINE_SECONDS: Final = 20.0
"""How long a test waits for what should happen within moments, in seconds."""


def message(value: str, topic: str = PLAIN, partition: int = 0, key: str = "k", **headers: str) -> Message:
    """Make a message with a text as its value."""
    return Message(topic, key, value.encode(), partition, headers)


async def all_of(bus: Bus, topic: str = PLAIN, partition: int = 0, offset: int = 0) -> list[Record]:
    """Read a partition from an offset to its end."""
    reader = bus.reader(topic, partition, offset)
    found: list[Record] = []
    try:
        while batch := await reader.fetch(max_wait=0, max_bytes=5000):
            found += [record for record in batch if record.key != FILLER]
    finally:
        await reader.close()
    return found


async def values(bus: Bus, topic: str = PLAIN, partition: int = 0, offset: int = 0) -> list[str]:
    """Read the values of a partition from an offset to its end, as texts."""
    return [record.value.decode() for record in await all_of(bus, topic, partition, offset)]
