"""How long the log keeps what was announced."""

from datetime import datetime, timedelta
from pathlib import Path

from helpers.virtual_time import START
from tufline import topics
from tufline.bus import Message
from tufline.bus.embedded import open_embedded
from tufline.records import FileRef, Published, Vector
from tufline_ingest.live import Live
from tufline_ingest.retention import trim_once

FILE = FileRef(1, 0, "")


class Time:
    """A clock that is set."""

    now = START

    def __call__(self) -> datetime:
        return self.now


async def test_artifacts_stay_until_live_and_old(tmp_path: Path) -> None:
    """A record of artifacts goes only when it is both live and older than thirty days; one that is not live stays, however old it is."""
    clock = Time()
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2), clock=clock)
    for _ in range(3):
        await bus.append([Message(topics.ARTIFACTS, "k", b"v", partition) for partition in range(2)])
        clock.now += timedelta(days=20)
    live = Live(bus, "origin")
    await trim_once(bus, live, clock)
    live.published = Published(origin="origin", timestamp=FILE, snapshot=FILE, vector=Vector([3, 1], 1), next_offset=1)
    await trim_once(bus, live, clock)
    await bus.maintain()
    await bus.close()
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2))
    kept = []
    for partition in range(2):
        reader = bus.reader(topics.ARTIFACTS, partition, 0)
        kept.append([record.offset for record in await reader.fetch(max_wait=0)])
    await bus.close()
    assert kept == [[2], [1, 2]]
