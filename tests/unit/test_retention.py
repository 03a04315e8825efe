"""How long the log keeps what was announced."""

from datetime import datetime, timedelta
from pathlib import Path

from helpers.log import read_all
from helpers.virtual_time import START
from tufline import records, topics
from tufline.bus import Message
from tufline.bus.embedded import open_embedded
from tufline.records import CLAIM_KEY, Claim, FileRef, InboxProgress, Published, Vector
from tufline_ingest.live import Live
from tufline_ingest.retention import trim_once

FILE = FileRef(1, 0, "")


class Time:
    """A clock that is set."""

    now = START

    def __call__(self) -> datetime:
        return self.now


async def kept(tmp_path: Path, topic: str) -> list[list[int]]:
    """Give the offsets that are left in each partition."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2))
    found = [[record.offset for record in await read_all(bus, topic, partition)] for partition in range(2)]
    await bus.close()
    return found


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
    assert await kept(tmp_path, topics.ARTIFACTS) == [[2], [1, 2]]


async def test_the_inbox_stays_until_moved_and_old(tmp_path: Path) -> None:
    """A record of the inbox goes only when it is both moved and older than seven days; one that is not moved stays, however old it is."""
    clock = Time()
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2), clock=clock)
    live = Live(bus, "origin")
    for _ in range(4):
        await bus.append([Message(topics.INBOX, "", b"v", partition) for partition in range(2)])
        clock.now += timedelta(days=3)
    await trim_once(bus, live, clock)
    moved = {0: 4, 1: 1}
    for partition, offset in moved.items():
        for key, record in (("@1", InboxProgress(number=1, offset=offset, accepted={})), (CLAIM_KEY, Claim(writer="w"))):
            await bus.append([Message(topics.INBOX_PROGRESS, key, records.encode(record), partition)])
    await bus.maintain()
    before = [await bus.offset_at(topics.INBOX, partition, 0) for partition in range(2)]
    await trim_once(bus, live, clock)
    await bus.maintain()
    await bus.close()
    assert before == [0, 0]
    assert await kept(tmp_path, topics.INBOX) == [[2, 3], [1, 2, 3]]
