"""Following receipts, on the embedded bus: who waits is never left waiting, and what may have been missed is not vouched for."""

import asyncio
from pathlib import Path

import pytest

from helpers.log import eventually
from tufline import cursor, records, topics
from tufline.bus import Message, Position
from tufline.bus.embedded import open_embedded
from tufline.cursor import Cursor, Task
from tufline.errors import BusError, RecordError
from tufline.receipts import ChangeReceipt
from tufline.receipts_follower import Receipts
from tufline.records import Changes, Remove
from tufline_ingest.recent import Recent

RECEIPT = Message(topics.RECEIPTS, "r", records.encode(ChangeReceipt(offset=0, index=0, path="a", outcome="not_found")), 0)


async def test_who_waits_is_told_when_the_following_ends(tmp_path: Path) -> None:
    """What was read before the end is had; who waits for more gets an error, also where waiting began before."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    receipts = Receipts(bus, 0, 0)
    following = asyncio.create_task(receipts.follow(lambda _: None))
    await bus.append([RECEIPT])
    await receipts.caught_up()
    assert [one.path for one in receipts.remarks[0]] == ["a"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await receipts.caught_up()
    await bus.append([RECEIPT])
    async with asyncio.timeout(20):
        with pytest.raises(BusError, match="not followed any more"):
            await receipts.caught_up()
        other = Receipts(bus, 0, await bus.end(topics.RECEIPTS, 0))
        await bus.append([Message(topics.RECEIPTS, "r", b"no receipt", 0)])
        waiting = asyncio.create_task(other.caught_up())
        with pytest.raises(RecordError):
            await other.follow(lambda _: None)
        with pytest.raises(BusError, match="not followed any more"):
            await waiting
    await bus.close()


async def test_what_came_before_the_receipts_are_followed_is_not_known(tmp_path: Path) -> None:
    """Where receipts may have been missed, this process does not say that nothing was remarked."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    recent = Recent(bus)
    message = Message(topics.ARTIFACTS, "r", records.encode(Changes(request="r", admin=0, changes=[Remove("a")])), 0)

    def cursor_of(position: Position) -> Cursor:
        return Cursor(cursor.FORMAT, Task.REMOVE, bus.log_id, position.time, {0: [position.offset]})

    before = await bus.append([message])
    await bus.append([RECEIPT])
    running = asyncio.create_task(recent.run())

    async def is_followed() -> bool:
        after = await bus.append([message])
        recent.accepted([message], after)
        return recent.knows(cursor_of(after[0]))

    await eventually(is_followed)
    recent.accepted([message], before)  # its answer came late
    assert not recent.knows(cursor_of(before[0]))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.close()
