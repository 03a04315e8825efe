"""Readers, scans and lookups return every record once, and nothing else."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

import pytest

from tufline.bus import Record
from tufline.bus.follow import follow
from tufline.bus.scan import last_record, scan
from tufline.errors import RecordGoneError, RecordUnreadableError
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_testing.bus_contract import DEADLINE_SECONDS, PLAIN, all_of, message
from tufline_testing.buses import BusSetup


async def test_read_makes_sure_of_the_record(setup: BusSetup) -> None:
    """A record is returned by its offset only if its key and hash match the request."""
    (position,) = await setup.bus.append([message("value", key="right")])
    right = sha256(b"value").hexdigest()
    assert await setup.bus.read(PLAIN, 0, position.offset, key="right", sha256=right) == b"value"
    for offset, key, digest in (
        (position.offset, "wrong", right),
        (position.offset, "right", sha256(b"other").hexdigest()),
        (position.offset + 1, "right", right),
    ):
        with pytest.raises(RecordGoneError):
            await setup.bus.read(PLAIN, 0, offset, key=key, sha256=digest)


async def test_unreadable_record_is_an_error_of_its_own(setup: BusSetup) -> None:
    """An undecodable record raises an error with its place until the reader is moved past it; no other record is hidden."""
    for name in ("before", "damaged", "after"):
        await setup.bus.append([message(name, key=name)])
    before, damaged, after = await all_of(setup.bus)
    bus = await setup.spoil(damaged)
    for start in (0, damaged.offset):
        reader = bus.reader(PLAIN, 0, start)
        found: list[Record] = []
        errors: list[RecordUnreadableError] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(errors) < 2:
                try:
                    found += await reader.fetch(max_wait=DEADLINE_SECONDS)
                except RecordUnreadableError as error:
                    errors.append(error)
        assert {(error.topic, error.partition, error.offset) for error in errors} == {(PLAIN, 0, damaged.offset)}
        assert f"{PLAIN}/0 offset {damaged.offset}" in str(errors[0])
        assert found == [before][start:]
        assert reader.position <= damaged.offset
        reader.seek(errors[0].offset + 1)
        assert await reader.fetch(max_wait=DEADLINE_SECONDS) == [after]
        await reader.close()


async def test_an_unreadable_record_is_skipped_and_reported(setup: BusSetup) -> None:
    """A scan and a follower return all records but the one that can't be decoded, and health names that one."""
    for name in ("before", "damaged", "after"):
        await setup.bus.append([message(name, key=name)])
    before, damaged, after = await all_of(setup.bus)
    bus = await setup.spoil(damaged)
    with pytest.raises(RecordUnreadableError):
        assert [batch async for batch in scan(bus, PLAIN, 0)]
    health = Health()
    found = [record async for batch in scan(bus, PLAIN, 0, passed=PassedOver(health, "scan")) for record in batch]
    assert found == [before, after]
    assert await last_record(bus, PLAIN, 0, lambda record: record.key == "before", PassedOver(health, "last")) == before
    followed: list[Record] = []
    is_known = asyncio.Event()

    async def take(batch: Sequence[Record]) -> None:
        followed.extend(batch)

    following = asyncio.create_task(follow(bus, PLAIN, 0, 0, take, is_known.set, PassedOver(health, "follow")))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await is_known.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert followed == [before, after]
    assert health.ready
    for part in ("scan.records", "last.records", "follow.records"):
        assert f"{PLAIN}/0 offset {damaged.offset}" in health.warnings[part]


async def test_reading_one_record_beside_an_unreadable_one(setup: BusSetup) -> None:
    """A reader of an undecodable record gets an error without waiting; concurrent readers of other records get theirs."""
    for name in ("before", "damaged", "after"):
        await setup.bus.append([message(name, key=name)])
    found = await all_of(setup.bus)
    bus = await setup.spoil(found[1])
    asked = [bus.read(PLAIN, 0, record.offset, key=record.key, sha256=sha256(record.value).hexdigest()) for record in found]
    async with asyncio.timeout(DEADLINE_SECONDS):
        before, error, after = await asyncio.gather(*asked, return_exceptions=True)
    assert (before, after) == (b"before", b"after")
    assert isinstance(error, RecordUnreadableError)
    assert (error.topic, error.partition, error.offset) == (PLAIN, 0, found[1].offset)


async def test_seek(setup: BusSetup) -> None:
    """A reader continues from wherever it is moved to, also backwards, whatever it had buffered."""
    positions = [(await setup.bus.append([message(str(number))]))[0] for number in range(5)]
    reader = setup.bus.reader(PLAIN, 0, 0)
    assert len(await reader.fetch(max_wait=DEADLINE_SECONDS, max_bytes=1)) == 1
    for number in (3, 0, 4):
        reader.seek(positions[number].offset)
        assert reader.position == positions[number].offset
        (record,) = await reader.fetch(max_wait=DEADLINE_SECONDS, max_bytes=1)
        assert record.value == str(number).encode()


async def test_end_is_above_all(setup: BusSetup) -> None:
    """The end is above every visible record, and 0 if there never was a record."""
    assert await setup.bus.end(PLAIN, 0) == 0
    (position,) = await setup.bus.append([message("a")])
    assert await setup.bus.end(PLAIN, 0) > position.offset
    assert (await setup.reopen()) is setup.bus
    assert await setup.bus.end(PLAIN, 0) > position.offset


async def test_last_record(setup: BusSetup) -> None:
    """The newest record of a kind is found, however far from the end it is."""
    assert await last_record(setup.bus, PLAIN, 0) is None
    await setup.bus.append([message(str(number), key="rare" if number == 3 else "k") for number in range(2000)])
    newest = await last_record(setup.bus, PLAIN, 0)
    rare = await last_record(setup.bus, PLAIN, 0, lambda record: record.key == "rare")
    assert newest is not None
    assert rare is not None
    assert (newest.value, rare.value) == (b"1999", b"3")
    assert await last_record(setup.bus, PLAIN, 0, lambda record: record.key == "none") is None


async def test_scan_reads_all_there_is(setup: BusSetup) -> None:
    """A scan returns every record up to the end, however many fetches it needs, and none that arrives meanwhile."""
    assert [batch async for batch in scan(setup.bus, PLAIN, 0)] == []
    positions = [*await setup.bus.append([message(f"{number}/{'x' * 500}") for number in range(300)])]
    writer = await setup.bus.writer("w")
    positions += await writer.commit([message("the end of a transaction")])
    reader = setup.bus.reader(PLAIN, 0, positions[-1].offset)
    assert await reader.fetch(max_wait=DEADLINE_SECONDS), "what is committed becomes visible, perhaps a moment later"
    await reader.close()
    found, batches = [], 0
    async for batch in scan(setup.bus, PLAIN, 0, max_bytes=10_000):
        batches += 1
        found += [record.offset for record in batch]
        await setup.bus.append([message("later")])
    assert found == [position.offset for position in positions]
    assert batches > 10
    middle, last = positions[100].offset, positions[200].offset
    some = [record.offset async for batch in scan(setup.bus, PLAIN, 0, middle, last) for record in batch]
    assert some == [position.offset for position in positions[100:200]]
    end = await setup.bus.end(PLAIN, 0)
    assert [batch async for batch in scan(setup.bus, PLAIN, 0, end, end + 5, max_wait=0.01)] == []


async def test_fetch_waits_and_wakes(setup: BusSetup) -> None:
    """A fetch at the end returns nothing after its wait, and wakes immediately when a record arrives; its position only grows."""
    reader = setup.bus.reader(PLAIN, 0, 0)
    assert await reader.fetch(max_wait=0) == []
    assert await reader.fetch(max_wait=0.01) == []
    waiting = asyncio.create_task(reader.fetch(max_wait=DEADLINE_SECONDS))
    await asyncio.sleep(0)
    await setup.bus.append([message("other", partition=1)])
    await setup.bus.append([message("a")])
    async with asyncio.timeout(DEADLINE_SECONDS / 2):
        (record,) = await waiting
    assert (record.value, reader.position) == (b"a", record.offset + 1)
    await reader.close()


async def test_fetch_is_bounded_but_gives_at_least_one(setup: BusSetup) -> None:
    """A fetch returns about as many bytes as requested, and never nothing if there is a record, even one of 4 MB."""
    big = "x" * 4_000_000
    await setup.bus.append([message(big), message("y" * 600), message("z" * 600), message("end")])
    for reopened in (False, True):
        bus = await setup.reopen() if reopened else setup.bus
        reader = bus.reader(PLAIN, 0, 0)
        sizes = []
        while batch := await reader.fetch(max_wait=0, max_bytes=1000):
            sizes.append([len(record.value) for record in batch])
        assert sizes == [[4_000_000], [600], [600, 3]]


@pytest.mark.parametrize("start", [0, 7, 500, 995])
async def test_reading_from_anywhere(setup: BusSetup, start: int) -> None:
    """A reader returns every record from its offset on, whether recent or old, and continues with new ones."""
    big = "x" * 30_000
    positions = await setup.bus.append([message(f"{number}/{big}") for number in range(1000)])
    bus = await setup.reopen() if start % 2 else setup.bus
    reader = bus.reader(PLAIN, 0, positions[start].offset)
    found: list[str] = []
    while batch := await reader.fetch(max_wait=0):
        found += [record.value.decode().partition("/")[0] for record in batch]
    await bus.append([message("new/")])
    found += [record.value.decode().partition("/")[0] for record in await reader.fetch(max_wait=1)]
    assert found == [*map(str, range(start, 1000)), "new"]
