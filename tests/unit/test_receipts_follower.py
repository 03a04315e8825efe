"""Following receipts on the embedded bus: no caller waits indefinitely, and nothing is claimed about receipts that may be missing."""

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from tufline import decoding, records
from tufline.bus import Message
from tufline.bus.embedded.bus import open_embedded
from tufline.errors import BusError, SchemaError
from tufline.records import topics
from tufline.records.receipts import ChangeReceipt
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.views.receipts import Receipts

DECODED = tracemalloc.Filter(True, decoding.__file__)
"""The memory of the receipts that are kept, including what was allocated to decode them."""

RECEIPT = Message(topics.RECEIPTS, "r", records.encode(ChangeReceipt(offset=0, index=0, path="a", outcome="not_found")), 0)


async def test_waiting_callers_get_an_error_when_the_following_ends(tmp_path: Path) -> None:
    """Receipts read before the end are returned; waiting for more raises an error, even if the waiting started before."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    receipts = Receipts(bus, 0, 0)
    following = asyncio.create_task(receipts.follow(lambda _: None))
    await bus.append([RECEIPT])
    await receipts.caught_up()
    assert [one.path for one in receipts.change_receipts([0]) or ()] == ["a"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await receipts.caught_up()
    await bus.append([RECEIPT])
    async with asyncio.timeout(20):
        with pytest.raises(BusError, match="no longer being followed"):
            await receipts.caught_up()
        other = Receipts(bus, 0, await bus.end(topics.RECEIPTS, 0))
        await bus.append([Message(topics.RECEIPTS, "r", b'{"v":99,"kind":"new"}', 0)])
        waiting = asyncio.create_task(other.caught_up())
        with pytest.raises(SchemaError):
            await other.follow(lambda _: None)
        with pytest.raises(BusError, match="no longer being followed"):
            await waiting
    await bus.close()


async def test_a_bad_receipt_ends_no_following(tmp_path: Path) -> None:
    """A follower skips an unreadable receipt, and health names it."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    health = Health()
    receipts = Receipts(bus, 0, 0, passed=PassedOver(health, "receipts"))
    following = asyncio.create_task(receipts.follow(lambda _: None))
    (position,) = await bus.append([Message(topics.RECEIPTS, "r", b"\xff", 0)])
    await bus.append([Message(topics.RECEIPTS, "other", RECEIPT.value, 0)])
    async with asyncio.timeout(20):
        await receipts.caught_up()
    assert [one.path for one in receipts.change_receipts([0]) or ()] == ["a"]
    assert f"offset {position.offset} of {topics.RECEIPTS}/0" in health.warnings["receipts.records"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()


async def test_nothing_is_claimed_about_receipts_that_may_be_missing(tmp_path: Path) -> None:
    """After an unreadable receipt nothing is claimed about the records that it may cover; later records are answered fully."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    receipts = Receipts(bus, 0, 0)
    following = asyncio.create_task(receipts.follow(lambda _: None))
    await bus.append([Message(topics.ARTIFACTS, "r", b"x", 0), Message(topics.RECEIPTS, "r", b"\xff", 0)])
    async with asyncio.timeout(20):
        await receipts.caught_up()
        assert receipts.change_receipts([0]) is None
        await bus.append([Message(topics.ARTIFACTS, "r", b"x", 0)])
        await receipts.caught_up()
    assert receipts.change_receipts([1]) == []
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()


async def test_receipts_take_bounded_memory(tmp_path: Path) -> None:
    """However many receipts arrive, their memory is bounded; forgotten receipts do not count as absent."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    receipts = Receipts(bus, 0, 0, most_bytes=2_000_000)
    following = asyncio.create_task(receipts.follow(lambda _: None))
    values = [
        [
            records.encode(ChangeReceipt(offset=record, index=number, path=f"p/{record}/{number}", outcome="unchanged"))
            for number in range(1000)
        ]
        for record in range(20)
    ]
    tracemalloc.start()
    for some in values:
        await bus.append([Message(topics.RECEIPTS, "r", value, 0) for value in some])
        await receipts.caught_up()
        assert receipts.memory <= 2_000_000
    kept = sum(one.size for one in tracemalloc.take_snapshot().filter_traces([DECODED]).statistics("filename"))
    tracemalloc.stop()
    assert 0 < kept < 3_000_000, "they use more memory than the estimate"
    assert receipts.change_receipts([0]) is None
    assert [one.index for one in receipts.change_receipts([19]) or ()] == list(range(1000))
    assert receipts.change_receipts([20]) == []
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()
