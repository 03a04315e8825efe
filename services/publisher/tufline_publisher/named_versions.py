"""The heads as a publisher reads them: which version of each role is the newest, and where in ``metadata`` its file is.

A publisher follows ``metadata``, and looks at ``heads`` when it starts, for the keys by which everything else is checked.
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
"""How long one wait for a first root and targets lasts; only how soon a lost wake-up would be noticed depends on it."""

TRUST: Final = frozenset({Root.type, Targets.type})
"""The roles that say who signs all others."""


async def read_heads(bus: Bus, partitions: Iterable[int], passed: PassedOver) -> dict[str, Head]:
    """Read the newest head of every role.

    Args:
        bus: the log.
        partitions: of ``heads``.
        passed: takes the heads that can't be read.

    Returns:
        Role name to head.

    Raises:
        BusError: if the log can't be read now.
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
        passed: takes the heads that can't be read.

    Returns:
        The newest head of each top-level role, ``TRUST`` among them.

    Raises:
        BusError: if the log can't be read now.
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
