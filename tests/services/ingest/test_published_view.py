"""Ingest regards the newest publication that it has read as live."""

import asyncio
from functools import partial
from pathlib import Path

from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.records import FileRef, Published, Vector, topics
from tufline_ingest.views.published import PublishedView
from tufline_testing.log import (
    eventually,
)
from tufline_testing.publishing import PARTITIONS


async def test_late_record_of_a_publication(tmp_path: Path) -> None:
    """Live changes stay live: a record that an older publisher appends late to ``published`` does not affect its followers."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), threads=False)
    live = PublishedView(bus, "origin")

    def published(version: int, *artifacts: int) -> Message:
        shown = FileRef(version, version, "0" * 64)
        content = Published(origin="origin", timestamp=shown, snapshot=shown, vector=Vector([*artifacts], 1), next_offset=version)
        return Message(topics.PUBLISHED, "origin", records.encode(content))

    following = asyncio.create_task(live.run())
    await live.published_known.wait()
    late = ((2, 4, 5), (3, 5, 4), (2, 9, 9))
    for version, *artifacts in ((3, 5, 5), *late, (3, 6, 5), *late, (4, 6, 6)):
        await bus.append([published(version, *artifacts)])
        # Each is followed on its own: a batch counts by its newest record.
        reached = (version, *artifacts)
        if reached not in late:
            await eventually(partial(is_shown, live, reached))
        else:
            before = shows(live)
            for _ in range(20):
                await asyncio.sleep(0)
                assert shows(live) == before
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()


async def is_shown(live: PublishedView, expected: tuple[int, ...]) -> bool:
    """Return whether something is live."""
    await asyncio.sleep(0)
    return shows(live) == expected


def shows(live: PublishedView) -> tuple[int, ...]:
    """Return what is live: version of the timestamp, then the vector."""
    return (0,) if live.published is None else (live.published.timestamp.version, *live.published.vector.artifacts)
