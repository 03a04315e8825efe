"""How long the log keeps announced changes."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import Clock, utc_now
from tufline.records import CLAIM_KEY, Claim, FileRef, InboxProgress, Published, Vector, topics
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_ingest import retention
from tufline_ingest.retention import trim_once
from tufline_ingest.views.published import PublishedView
from tufline_testing.inbox import service
from tufline_testing.log import eventually, read_all
from tufline_testing.simulation.virtual_time import START, run_virtual

FILE = FileRef(1, 0, "")


class Time:
    """A clock that is set."""

    now = START

    def __call__(self) -> datetime:
        return self.now


async def kept(tmp_path: Path, topic: str) -> list[list[int]]:
    """Return the offsets that are left in each partition."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2))
    found = [[record.offset for record in await read_all(bus, topic, partition)] for partition in range(2)]
    await bus.close()
    return found


async def test_artifacts_stay_until_live_and_old(tmp_path: Path) -> None:
    """A record of artifacts is deleted only when it is live and older than thirty days; one that is not live stays, however old it is."""
    clock = Time()
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2), clock=clock)
    for _ in range(3):
        await bus.append([Message(topics.ARTIFACTS, "k", b"v", partition) for partition in range(2)])
        clock.now += timedelta(days=20)
    live = PublishedView(bus, "origin")
    await trim_once(bus, live, clock)
    live.published = Published(origin="origin", timestamp=FILE, snapshot=FILE, vector=Vector([3, 1], 1), next_offset=1)
    await trim_once(bus, live, clock)
    await bus.maintain()
    await bus.close()
    assert await kept(tmp_path, topics.ARTIFACTS) == [[2], [1, 2]]


async def test_the_inbox_stays_until_moved_and_old(tmp_path: Path) -> None:
    """A record of the inbox is deleted only when it is moved and older than seven days; one that is not moved stays, however old it is."""
    clock = Time()
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2), clock=clock)
    live = PublishedView(bus, "origin")
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


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(days=40)], ids=["right", "ahead"])
def test_a_clock_that_is_ahead_deletes_nothing_early(tmp_path: Path, ahead: timedelta) -> None:
    """Live records stay for thirty days of the log's time, whatever this machine's clock; before the log's time is known, all stay."""

    async def main(log_clock: Clock) -> None:
        bus = await open_embedded(tmp_path / "log.db", topics.topics(2), clock=log_clock, threads=False)
        await bus.append([Message(topics.ARTIFACTS, "k", b"v", 0)])
        live = PublishedView(bus, "origin")
        live.published = Published(origin="origin", timestamp=FILE, snapshot=FILE, vector=Vector([1, 0], 1), next_offset=1)
        clock = ReferenceClock(lambda: log_clock() + ahead)
        running = asyncio.create_task(retention.run(bus, live, clock, PassedOver(Health(), "retention")))

        async def start_after(days: float) -> int:
            await asyncio.sleep(timedelta(days=days).total_seconds())
            await bus.maintain()
            return await bus.start(topics.ARTIFACTS, 0)

        assert await start_after(1) == 0
        began = clock.monotonic()
        (position,) = await bus.append([Message(topics.INBOX, "k", b"v", 0)])
        clock.observe(position.time, began)
        assert await start_after(28) == 0
        assert await start_after(2) == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()

    run_virtual(main)


async def test_an_owner_of_the_inbox_learns_the_time_of_the_log(tmp_path: Path) -> None:
    """A process that owns a partition of the inbox knows the log's time from its claim, before anything is announced."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(2))
    clock = ReferenceClock(utc_now)
    assert not clock.is_known
    moving = asyncio.create_task(service(bus, clock=clock))
    await eventually(lambda: asyncio.sleep(0, clock.is_known))
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await bus.close()
