"""Rejected records: what is kept of them, and how they are replayed, one by one or all."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest

from tufline.bus import Bus, Message
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.bus.headers import Headers, pairs_of
from tufline.errors import FencedError, InvalidInputError
from tufline.records import rejected, topics
from tufline_ingest.inbox.reject import KEPT_BYTES
from tufline_testing.inbox import (
    NOT_TEXT,
    PARTITIONS,
    all_moved,
    change,
    changes_on_log,
    event,
    event_receipts,
    moving,
    numbers,
    raw,
    structured,
)
from tufline_testing.log import read_all


async def test_a_record_too_large_to_keep(bus: EmbeddedBus) -> None:
    """If a record is too large to append again, only its start is kept, marked as truncated, and it can't be replayed."""
    large = Message(topics.INBOX, "k", b"v" * (KEPT_BYTES + 1), 0, {"h": "1"})
    wide = Message(topics.INBOX, "k" * 5000, b"v", 0, {"h": "x" * KEPT_BYTES})
    async with moving(bus):
        await bus.append([large, wide, structured(event(change("a", 5)))])
        await all_moved(bus)
    assert numbers(await changes_on_log(bus)) == [5]
    first, second = [one async for one in rejected.each(bus, 0)]
    assert (first.is_cut, first.own_headers) == (True, [("h", "1")])
    assert len(first.record.value) < KEPT_BYTES
    assert first.record.headers[rejected.CUT_HEADER] == str(KEPT_BYTES + 4)
    assert (second.is_cut, second.own_headers, len(second.record.key)) == (True, [], 1000)
    with pytest.raises(InvalidInputError, match="only the start of the record"):
        await rejected.replay(bus, 0, first.record.offset)
    assert await rejected.replay_all(bus) == (0, 2)
    assert await places(bus) == [(0, first.record.offset), (0, second.record.offset)]


async def test_replay(bus: EmbeddedBus) -> None:
    """A replayed record arrives in the inbox unchanged, without ingest's headers; if it is valid by now, it is accepted."""
    sha512 = change("a", 5, hashes={"sha512": "ab" * 64})
    message = Message(
        topics.INBOX, NOT_TEXT, structured(event(sha512)).value, 1, Headers([("x", NOT_TEXT), ("x", "2"), (rejected.REASON_HEADER, "mine")])
    )
    async with moving(bus, hash_algorithms=("sha256",)):
        await bus.append([message])
        await all_moved(bus)
    (one,) = [one async for one in rejected.each(bus, 1)]
    async with moving(bus, hash_algorithms=("sha256", "sha512")):
        await rejected.replay(bus, 1, one.record.offset)
        await all_moved(bus)
    first, again = await read_all(bus, topics.INBOX, 1)
    assert (again.key, again.value, pairs_of(again.headers)) == (first.key, first.value, pairs_of(first.headers))
    assert numbers(await changes_on_log(bus)) == [5]


async def places(bus: Bus) -> list[tuple[int, int]]:
    """Return the places of the waiting rejected records."""
    every_partition = range(bus.partitions(topics.REJECTED))
    return [(one.record.partition, one.record.offset) for partition in every_partition async for one in rejected.waiting(bus, partition)]


async def test_replay_all_takes_each_original_once(bus: EmbeddedBus) -> None:
    """However often everything is replayed, each original is listed once, with its latest rejection, until it is accepted."""
    sha512 = [structured(event(change("a", 5, hashes={"sha512": "ab" * 64}), id=str(number)), number % 2) for number in range(20)]
    bad = [raw(b"bad %d" % number) for number in range(20)]
    with patch.object(rejected, "BATCH_BYTES", 1500):
        await bus.append([one for pair in zip(sha512, bad, strict=True) for one in pair])
        for life in range(5):
            async with moving(bus, hash_algorithms=("sha256",)):
                await all_moved(bus)
            assert len(await places(bus)) == 40, life
            assert await rejected.replay_all(bus) == (40, 0)
            assert await places(bus) == []
        async with moving(bus, hash_algorithms=("sha256",)):
            await all_moved(bus)
        async with moving(bus, hash_algorithms=("sha256", "sha512")):
            for expected in (40, 20):
                assert await rejected.replay_all(bus) == (expected, 0)
                await all_moved(bus)
    waiting = [one async for one in rejected.waiting(bus, 0)]
    assert sorted(one.record.value for one in waiting) == sorted(one.value for one in bad)
    receipts = await event_receipts(bus)
    assert sum(receipt.outcome == "accepted" for receipt in receipts) == 20
    assert not any(receipt.outcome == "duplicate" for receipt in receipts)
    newest = {record.value: record.offset for record in await read_all(bus, topics.INBOX)}
    assert {one.record.value: one.offset for one in waiting} == {one.value: newest[one.value] for one in bad}


async def test_a_replayed_record_is_no_longer_listed(bus: EmbeddedBus) -> None:
    """A single record can be replayed, even twice, and leaves the list; the records before and after it stay."""
    async with moving(bus):
        await bus.append([raw(b"%d" % number) for number in range(5)])
        await all_moved(bus)
    first = (await places(bus))[0][1]
    offsets = [record.offset for record in await read_all(bus, topics.REJECTED)]
    assert offsets[0] == first
    for number in (3, 1, 3):
        await rejected.replay(bus, 0, offsets[number])
    assert await places(bus) == [(0, offsets[number]) for number in (0, 2, 4)]
    assert [record.value for record in await read_all(bus, topics.INBOX)][5:] == [b"3", b"1", b"3"]
    for nowhere in ((0, 99), (PARTITIONS, 0)):
        with pytest.raises(InvalidInputError, match="there is no rejected record"):
            await rejected.replay(bus, *nowhere)


async def test_of_two_who_replay_the_first_is_stopped(bus: EmbeddedBus) -> None:
    """If another process starts a replay, the first can't replay a record a second time: it is fenced."""
    async with moving(bus):
        await bus.append([raw(b"%d" % number, ("x", "y" * 100)) for number in range(4)])
        await all_moved(bus)
    taking = rejected.waiting

    async def slowly(*where: Any) -> AsyncIterator[rejected.Rejected]:
        async for one in taking(*where):
            yield one
            await bus.writer(rejected.REPLAYER)

    with patch.object(rejected, "waiting", slowly), patch.object(rejected, "BATCH_BYTES", 1), pytest.raises(FencedError):
        await rejected.replay_all(bus)
    assert await rejected.replay_all(bus) == (4, 0)
    assert [record.value for record in await read_all(bus, topics.INBOX)][4:] == [b"0", b"1", b"2", b"3"]
