"""The records that compaction, retention and trims delete, and those that they keep."""

import asyncio
from hashlib import sha256

import pytest

from tufline.bus import Position
from tufline.bus.headers import ESCAPE
from tufline.errors import RecordGoneError
from tufline_testing.bus_contract import AGED, COMPACTED, PLAIN, all_of, message, values
from tufline_testing.buses import BusSetup


async def test_compaction_by_keys_of_any_bytes(setup: BusSetup) -> None:
    """Compaction distinguishes keys that are not UTF-8."""
    keys = [b"\xff".decode(errors=ESCAPE), b"\xfe".decode(errors=ESCAPE)]
    await setup.bus.append([message(f"{number}", COMPACTED, key=keys[number % 2]) for number in range(6)])
    await setup.later(3 * setup.lag)
    await setup.reopen()
    await setup.bus.append([message("end", COMPACTED, key="end")])
    await setup.maintain()
    assert await values(setup.bus, COMPACTED) == ["4", "5", "end"]


async def test_compaction_keeps_the_newest_and_the_lag(setup: BusSetup) -> None:
    """The newest record of each key stays indefinitely; an older one stays for the lag, and is deleted after it."""
    await setup.bus.append([message("a1", COMPACTED, key="a"), message("b1", COMPACTED, key="b")])
    (second,) = await setup.bus.append([message("a2", COMPACTED, key="a")])
    await setup.maintain()
    assert await values(setup.bus, COMPACTED) == ["a1", "b1", "a2"]
    await setup.later(1.02 * setup.lag)
    await setup.bus.append([message("a3", COMPACTED, key="a")])
    await setup.maintain()
    kept = await values(await setup.reopen(), COMPACTED)
    assert kept[0] == "b1"
    assert kept[-1] == "a3"
    assert "a1" not in kept
    await setup.later(1000 * setup.retention)
    await setup.maintain()
    assert await values(setup.bus, COMPACTED) == ["b1", "a3"]
    with pytest.raises(RecordGoneError):
        await setup.bus.read(COMPACTED, 0, second.offset, key="a", sha256=sha256(b"a2").hexdigest())


async def test_compaction_of_what_came_together(setup: BusSetup) -> None:
    """Of several records of one key in one append, or in concurrent appends, only the newest stays."""
    await setup.bus.append([message(f"a{number}", COMPACTED, key="a") for number in range(5)])
    await asyncio.gather(*(setup.bus.append([message(f"b{number}", COMPACTED, key="b")]) for number in range(5)))
    before = await values(setup.bus, COMPACTED)
    await setup.later(3 * setup.lag)
    await setup.bus.append([message("c", COMPACTED, key="c")])
    await setup.maintain()
    assert await values(setup.bus, COMPACTED) == ["a4", before[-1], "c"]


async def test_retention_by_time(setup: BusSetup) -> None:
    """A record of a topic with a retention is deleted when that time is over, and not earlier; other topics keep their records."""
    old, _ = await setup.bus.append([message("old", AGED), message("kept")])

    def is_due(position: Position) -> bool:  # on a busy machine, more time passes than the test asks for
        return setup.milliseconds - position.time >= 1000 * setup.retention

    await setup.later(0.6 * setup.retention)
    (new,) = await setup.bus.append([message("new", AGED)])
    await setup.maintain()
    assert await values(setup.bus, AGED) == ["old", "new"] or is_due(old)
    await setup.later(0.5 * setup.retention)
    await setup.maintain()
    left = await values(setup.bus, AGED)
    assert left == ["new"] or (left == [] and is_due(new))
    await setup.later(1000 * setup.retention)
    await setup.maintain()
    assert await values(setup.bus, AGED) == []
    assert await values(setup.bus) == ["kept"]


async def test_trim_allows_to_drop(setup: BusSetup) -> None:
    """A trim deletes nothing at or above its offset; a reader from 0 starts at the first remaining record; offsets are not reused."""
    positions = await setup.bus.append([message(str(number)) for number in range(1200)])
    await setup.bus.trim(PLAIN, 0, positions[1000].offset)
    await setup.maintain()
    left = await values(setup.bus)
    assert left[-200:] == [str(number) for number in range(1000, 1200)]
    await setup.bus.trim(PLAIN, 0, positions[-1].offset + 1)
    await setup.maintain()
    bus = await setup.reopen()
    (position,) = await bus.append([message("new")])
    assert position.offset > positions[-1].offset
    assert (await values(bus))[-1] == "new"


async def test_start_is_below_what_is_left_and_above_what_is_gone(setup: BusSetup) -> None:
    """The start is at or below every remaining record and above every deleted one; if none remains, it is the end."""
    assert await setup.bus.start(PLAIN, 1) == await setup.bus.end(PLAIN, 1)
    writer = await setup.bus.writer("w")
    for number in range(6):  # in transactions, whose markers may have offsets too
        await writer.commit([message(f"{number}", partition=1)])
    offsets = [record.offset for record in await all_of(setup.bus, PLAIN, 1)]
    assert await setup.bus.start(PLAIN, 1) <= offsets[0]
    await setup.bus.trim(PLAIN, 1, offsets[3])
    await setup.maintain()
    assert offsets[2] < await setup.bus.start(PLAIN, 1) <= offsets[3]
    assert await values(setup.bus, PLAIN, 1) == ["3", "4", "5"]
    await setup.bus.trim(PLAIN, 1, await setup.bus.end(PLAIN, 1))
    await setup.maintain()
    assert await setup.bus.start(PLAIN, 1) == await setup.bus.end(PLAIN, 1) > offsets[-1]


async def test_trim_keeps_the_newest_of_a_key(setup: BusSetup) -> None:
    """A trim, too, keeps the newest record of each key in a compacted topic."""
    positions = await setup.bus.append([message("a", COMPACTED, key="a"), message("b", COMPACTED, key="b")])
    await setup.bus.trim(COMPACTED, 0, positions[-1].offset + 1)
    await setup.maintain()
    assert await values(setup.bus, COMPACTED) == ["a", "b"]


async def test_offset_at_a_time(setup: BusSetup) -> None:
    """Reading from the offset of a time returns exactly the records of that time and later."""
    times = []
    for number in range(10):
        times.append(setup.milliseconds)
        await setup.bus.append([message(f"{number}/{part}") for part in range(3)])
        await setup.later(setup.tick)
    for number, time in enumerate(times):
        for asked in (time, time - int(500 * setup.tick)):
            offset = await setup.bus.offset_at(PLAIN, 0, asked)
            assert (await values(setup.bus, offset=offset))[0] == f"{number}/0"
    late = await setup.bus.offset_at(PLAIN, 0, setup.milliseconds)
    assert late == await setup.bus.end(PLAIN, 0)
    assert await setup.bus.offset_at(PLAIN, 1, times[0]) == await setup.bus.end(PLAIN, 1)


async def test_offset_at_a_time_whose_records_are_gone(setup: BusSetup) -> None:
    """If the records of a time are deleted, its offset is that of the first remaining record, or the end if there is none."""
    positions = [(await setup.bus.append([message(str(number))]))[0] for number in range(10)]
    for offset in (positions[5].offset, positions[-1].offset + 1):
        await setup.bus.trim(PLAIN, 0, offset)
        await setup.maintain()
        left = [record.offset for record in await all_of(setup.bus)]
        first = left[0] if left else await setup.bus.end(PLAIN, 0)
        assert await setup.bus.offset_at(PLAIN, 0, 0) == first
