"""Each event of the inbox is applied once, even if it is sent again, a process dies at any point, or two processes run at once."""

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.records import Add, topics
from tufline_ingest.inbox import dedupe, inbox_worker
from tufline_testing.inbox import (
    PARTITIONS,
    all_moved,
    change,
    changes_on_log,
    event,
    event_receipts,
    every,
    is_moved,
    moving,
    numbers,
    open_inbox,
    raw,
    service,
    structured,
)
from tufline_testing.log import announce_bootstrap, bootstrap_record, read_all
from tufline_testing.paused import StubbornBus
from tufline_testing.simulation.mortal import MortalLoop, live
from tufline_testing.simulation.virtual_time import run_virtual


async def test_an_event_sent_again(bus: EmbeddedBus) -> None:
    """The same source and id is the same event: accepted once, also within one batch; and each repetition names the first one's task."""
    first = structured(event(change("a", 1), id="1"))
    async with moving(bus):
        await bus.append(
            [first, first, structured(event(change("a", 2), id="2")), structured(event(change("a", 3), id="1", source="other"))]
        )
        await all_moved(bus)
        await bus.append([first])
        await all_moved(bus)
    receipts = await event_receipts(bus)
    assert [receipt.outcome for receipt in receipts] == ["accepted", "duplicate", "accepted", "accepted", "duplicate"]
    assert receipts[0].task == receipts[1].task == receipts[4].task != receipts[2].task
    assert numbers(await changes_on_log(bus)) == [1, 2, 3]


async def test_a_rejected_event_may_be_sent_again(bus: EmbeddedBus) -> None:
    """A rejected event is not remembered: the fixed one is accepted under the same id."""
    async with moving(bus):
        await bus.append([structured(event(change("/a"), id="1")), structured(event(change("a", 5), id="1"))])
        await all_moved(bus)
    assert [receipt.outcome for receipt in await event_receipts(bus)] == ["rejected", "accepted"]


@pytest.mark.parametrize("together", [1, 50])
async def test_duplicates_are_known_after_a_takeover(bus: EmbeddedBus, together: int) -> None:
    """The next worker knows the configured number of accepted events, however many were in one transaction, but no older ones."""
    sent = [structured(event(change("a", number), id=str(number))) for number in range(300)]
    with patch.object(inbox_worker, "BATCH_EVENTS", together), patch.object(dedupe, "FIRST_STEP", 2):
        async with moving(bus, inbox_dedup_events=200):
            await bus.append(sent)
            await all_moved(bus)
        for _ in range(3):
            async with moving(bus, inbox_dedup_events=200):
                await bus.append([sent[250]])
                await all_moved(bus)
        await bus.maintain()
        async with moving(bus, inbox_dedup_events=200):
            await bus.append([sent[299], sent[103], sent[99]])
            await all_moved(bus)
    receipts = await event_receipts(bus)
    assert [receipt.outcome for receipt in receipts[300:]] == ["duplicate"] * 5 + ["accepted"]
    assert [receipt.task for receipt in receipts[300:305]] == [receipts[number].task for number in (250, 250, 250, 299, 103)]


def template(path: Path) -> None:
    """Make a log whose inbox has good events, bad ones and repetitions, in both partitions."""

    async def fill() -> None:
        bus = await open_inbox(path)
        for number in range(8):
            good = structured(event(change(f"p/{number}", 100 + number), change("all", 200 + number), id=str(number)), number % 2)
            await bus.append([good, raw(b"bad"), good])
        await bus.close()

    asyncio.run(fill())


async def check_moved_once(bus: EmbeddedBus) -> None:
    """Check that each event of a template is on the log once, in its order, and has its receipt."""
    found = await changes_on_log(bus)
    assert numbers(found) == [*range(100, 108), *range(200, 208)]
    for source in range(2):
        of_all = [one.length for one in found if isinstance(one, Add) and one.path == "all" and one.length % 2 == source]
        assert of_all == sorted(of_all), "an older event is put over a newer one"
    receipts = await event_receipts(bus)
    assert len(receipts) == len({(receipt.partition, receipt.offset) for receipt in receipts}) == 24
    assert len(await every(bus, topics.REJECTED)) == 8


def test_moved_once_wherever_the_process_dies(tmp_path: Path) -> None:
    """Whenever the process dies, even repeatedly, each event is moved once, together with everything that belongs to it."""
    (tmp_path / "template").mkdir()
    template(tmp_path / "template")
    deaths = 0
    turns, died = 0, True
    while died:
        turns += 1
        path = tmp_path / str(turns)
        path.mkdir()
        shutil.copy(tmp_path / "template" / "log.db", path / "log.db")
        with patch.object(inbox_worker, "BATCH_EVENTS", 3):
            died = move_all(path, turns)
            deaths += died
            move_all(path, turns + 7)
            move_all(path, float("inf"))
        shutil.rmtree(path)
    assert deaths > 30


def move_all(path: Path, turns: float) -> bool:
    """Live until all is moved, and check it; or die after some turns, and return that."""

    async def life(bus: EmbeddedBus) -> None:
        async with moving(bus):
            while not await is_moved(bus):
                await asyncio.sleep(0)
        await check_moved_once(bus)

    return live(MortalLoop(turns, 0.0), lambda: open_embedded(path / "log.db", topics.topics(PARTITIONS), threads=False), life)


@pytest.mark.parametrize("seed", range(20))
def test_two_at_once(tmp_path: Path, seed: int) -> None:
    """If two processes both hold the partitions, and their transactions arrive late, each event is nevertheless moved once."""
    template(tmp_path)
    chance = random.Random(seed)

    async def story(clock: Any) -> None:
        bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), clock=clock, threads=False)
        with patch.object(inbox_worker, "BATCH_EVENTS", 2):
            tasks = []
            for _ in range(3):
                tasks.append(asyncio.create_task(service(StubbornBus(bus, chance))))
                await asyncio.sleep(chance.choice([0, 0.001, 0.1, 3.0]))
            async with asyncio.timeout(3600):
                while not await is_moved(bus):
                    await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await check_moved_once(bus)
        await bus.close()

    run_virtual(story)


async def test_nothing_is_taken_before_the_bootstrap(tmp_path: Path) -> None:
    """Events that arrive before the bootstrap wait for it, and are accepted then."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    async with moving(bus):
        await bus.append([structured(event(change("a", 5)))])
        async with asyncio.timeout(20):
            while not await read_all(bus, topics.INBOX_PROGRESS):
                await asyncio.sleep(0.01)
        assert await every(bus, topics.ARTIFACTS) == await every(bus, topics.REJECTED) == []
        await announce_bootstrap(bus, bootstrap_record(tmp_path / "keys", PARTITIONS))
        await all_moved(bus)
    assert numbers(await changes_on_log(bus)) == [5]
    await bus.close()
