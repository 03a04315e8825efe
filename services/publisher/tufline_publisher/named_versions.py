"""The heads as a publisher reads them: the newest version of each role, and the offset of its file in ``metadata``.

A publisher follows ``metadata``. It reads ``heads`` when it starts, to find the root and targets whose keys verify everything else.
"""

from collections.abc import Iterable
from typing import Final

from tuf.api.metadata import Root, Targets

from tufline import records
from tufline.bus import Bus
from tufline.bus.scan import scan
from tufline.records import Head, topics
from tufline.runtime.passed_over import PassedOver

WAIT_SECONDS: Final = 30.0
"""How long one wait for the first root and targets lasts, in seconds; it only bounds the delay after a lost wake-up."""

TRUST: Final = frozenset({Root.type, Targets.type})
"""The roles that name the keys of all other roles."""


async def read_heads(bus: Bus, partitions: Iterable[int], passed: PassedOver) -> dict[str, Head]:
    """Read the newest head of every role.

    Args:
        bus: the log.
        partitions: partitions of ``heads`` to read.
        passed: collects the heads that can't be decoded.

    Returns:
        Role name to head.

    Raises:
        BusError: if the log is temporarily unavailable.
    """
    heads: dict[str, Head] = {}
    for partition in partitions:
        async for batch in scan(bus, topics.HEADS, partition, passed=passed):
            for record in batch:
                content = passed.decode(records.heads_decoder, record)
                if isinstance(content, Head):
                    heads[record.key] = content
    return heads


async def wait_for_trust(bus: Bus, passed: PassedOver) -> dict[str, Head]:
    """Wait until the log has a root and targets.

    Args:
        bus: the log.
        passed: collects the heads that can't be decoded.

    Returns:
        Role name to newest head, for the top-level roles including ``TRUST``.

    Raises:
        BusError: if the log is temporarily unavailable.
    """
    partition = topics.commit_partition(bus.partitions(topics.HEADS))
    while True:
        end = await bus.end(topics.HEADS, partition)
        heads = await read_heads(bus, [partition], passed)
        if heads.keys() >= TRUST:
            return heads
        reader = bus.reader(topics.HEADS, partition, end)
        try:
            await reader.fetch(max_wait=WAIT_SECONDS)
        finally:
            await reader.close()
