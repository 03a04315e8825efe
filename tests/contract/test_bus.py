"""The contract of the bus, which every implementation must keep.

No test here may depend on the implementation, or on consecutive offsets.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from tufline.bus import Bus, Message, Position, Record
from tufline.bus.follow import follow
from tufline.bus.headers import ESCAPE, Headers, pairs_of
from tufline.bus.scan import last_record, scan
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import BusError, FencedError, RecordGoneError, RecordUnreadableError
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_testing.buses import FILLER, BusSetup, EmbeddedSetup, KafkaSetup

PLAIN, SECOND, COMPACTED, AGED = "plain", "second", "compacted", "aged"
TOPICS = {
    topic.name: topic
    for topic in (
        Topic(PLAIN, 4, Cleanup.KEEP),
        Topic(SECOND, 1, Cleanup.KEEP),
        Topic(COMPACTED, 1, Cleanup.COMPACT),
        Topic(AGED, 1, Cleanup.DELETE),
    )
}
DEADLINE_SECONDS = 20.0


@pytest_asyncio.fixture(params=["embedded", "embedded-inline", pytest.param("kafka", marks=pytest.mark.slow)])
async def setup(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BusSetup]:
    """Provide each implementation in turn, empty."""
    made: BusSetup
    if request.param == "kafka":
        cluster = request.getfixturevalue("kafka")
        made = KafkaSetup(cluster.bootstrap, TOPICS, data=cluster.brokers[0].directory / "data")
        await made.create()
    else:
        made = EmbeddedSetup(tmp_path, TOPICS, threads=request.param == "embedded")
    await made.open()
    yield made
    await made.end()


def message(value: str, topic: str = PLAIN, partition: int = 0, key: str = "k", **headers: str) -> Message:
    return Message(topic, key, value.encode(), partition, headers)


async def all_of(bus: Bus, topic: str = PLAIN, partition: int = 0, offset: int = 0) -> list[Record]:
    reader = bus.reader(topic, partition, offset)
    found: list[Record] = []
    try:
        while batch := await reader.fetch(max_wait=0, max_bytes=5000):
            found += [record for record in batch if record.key != FILLER]
    finally:
        await reader.close()
    return found


async def values(bus: Bus, topic: str = PLAIN, partition: int = 0, offset: int = 0) -> list[str]:
    return [record.value.decode() for record in await all_of(bus, topic, partition, offset)]


async def test_appended_is_read_back_as_it_was(setup: BusSetup) -> None:
    """Topic, partition, key, value, headers and position of a record are those of its message."""
    sent = Message(PLAIN, "ä key", b"\x00\xff value", 2, {"version": "7", "ä": "ü"})
    (position,) = await setup.bus.append([sent])
    (record,) = await all_of(setup.bus, PLAIN, 2)
    assert (record.topic, record.partition, record.key, record.value, dict(record.headers)) == (
        sent.topic,
        sent.partition,
        sent.key,
        sent.value,
        dict(sent.headers),
    )
    assert (position.topic, position.partition, position.offset, position.time) == (PLAIN, 2, record.offset, record.time)
    assert abs(record.time - setup.milliseconds) <= setup.clock_error


HOSTILE = {
    "no key": Message(PLAIN, "", b"v"),
    "no value": Message(PLAIN, "k", b""),
    "a key that is not UTF-8": Message(PLAIN, b"\xff\x00key".decode(errors=ESCAPE), b"v"),
    "a header that is not UTF-8": Message(PLAIN, "k", b"v", headers={"": b"\xfe\xff".decode(errors=ESCAPE), "empty": ""}),
    "a name twice": Message(PLAIN, "k", b"v", headers=Headers([("a", "1"), ("b", b"\xff".decode(errors=ESCAPE)), ("a", "2"), ("a", "2")])),
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
async def test_any_bytes_are_kept(setup: BusSetup, sent: Message) -> None:
    """Keys and headers with any bytes, repeated header names, no key and no value are read as they were appended, also after reopening."""
    writer = await setup.bus.writer("w")
    await writer.commit([sent])
    await setup.bus.append([sent])
    for reopened in (False, True):
        bus = await setup.reopen() if reopened else setup.bus
        for record in await all_of(bus):
            assert (record.key, record.value, pairs_of(record.headers)) == (sent.key, sent.value, pairs_of(sent.headers))
            assert dict(record.headers) == dict(pairs_of(sent.headers))
        assert len(await all_of(bus)) == 2
    (first, _) = await all_of(setup.bus)
    assert await setup.bus.read(PLAIN, 0, first.offset, key=sent.key, sha256=sha256(sent.value).hexdigest()) == sent.value


async def test_compaction_by_keys_of_any_bytes(setup: BusSetup) -> None:
    """Compaction tells keys apart that are not UTF-8."""
    keys = [b"\xff".decode(errors=ESCAPE), b"\xfe".decode(errors=ESCAPE)]
    await setup.bus.append([message(f"{number}", COMPACTED, key=keys[number % 2]) for number in range(6)])
    await setup.later(3 * setup.lag)
    await setup.reopen()
    await setup.bus.append([message("end", COMPACTED, key="end")])
    await setup.maintain()
    assert await values(setup.bus, COMPACTED) == ["4", "5", "end"]


async def test_acknowledged_survives_reopening(setup: BusSetup) -> None:
    """Acknowledged records survive closing and reopening, at the same offsets and under the same log id."""
    log_id = setup.bus.log_id
    positions = await setup.bus.append([message(str(number), partition=number % 4) for number in range(40)])
    writer = await setup.bus.writer("w")
    positions = [*positions, *await writer.commit([message("t", SECOND)])]
    before = [await all_of(setup.bus, PLAIN, partition) for partition in range(4)]
    bus = await setup.reopen()
    assert bus.log_id == log_id
    assert [await all_of(bus, PLAIN, partition) for partition in range(4)] == before
    assert await values(bus, SECOND) == ["t"]
    assert (await bus.append([message("next")]))[0].offset > positions[-5].offset


async def test_order_under_concurrent_appends(setup: BusSetup) -> None:
    """With many concurrent appends, each caller's records keep their order, offsets grow, and a tailing reader sees each record once."""
    seen: list[Record] = []

    async def tail() -> None:
        reader = setup.bus.reader(PLAIN, 0, 0)
        while len(seen) < 400:
            seen.extend(await reader.fetch(max_wait=1))

    async def append(task: int) -> None:
        for number in range(20):
            await setup.bus.append([message(f"{task}/{number}/{part}") for part in range(2)])

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(tail())
        for task in range(10):
            group.create_task(append(task))
    assert [record.offset for record in seen] == sorted({record.offset for record in seen})
    for task in range(10):
        of_task = [record.value.decode() for record in seen if record.value.startswith(f"{task}/".encode())]
        assert of_task == [f"{task}/{number}/{part}" for number in range(20) for part in range(2)]
    assert await all_of(setup.bus) == seen


async def test_transaction_is_seen_whole(setup: BusSetup) -> None:
    """Once a transaction is visible in one topic, its records in another are visible too, or very soon."""
    writer = await setup.bus.writer("w")

    async def write() -> None:
        for number in range(50):
            await writer.commit([message(str(number)), message(str(number), SECOND)])

    writing = asyncio.create_task(write())
    while not writing.done():
        first = await values(setup.bus, PLAIN)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(second := await values(setup.bus, SECOND)) < len(first):
                await asyncio.sleep(0)
        assert second[: len(first)] == first
        await asyncio.sleep(0)
    await writing
    assert await values(setup.bus, SECOND) == [str(number) for number in range(50)]


async def test_then_knows_the_positions(setup: BusSetup) -> None:
    """The messages that ``then`` makes are in the same transaction, and the positions it receives are those of the records."""
    writer = await setup.bus.writer("w")
    given: list[Position] = []

    def then(positions: Sequence[Position]) -> list[Message]:
        given[:] = positions
        return [message(str(positions[1].offset), SECOND)]

    returned = await writer.commit([message("a"), message("b")], then)
    assert list(returned[:2]) == given
    (pointer,) = await all_of(setup.bus, SECOND)
    assert returned[2].offset == pointer.offset
    value = await setup.bus.read(PLAIN, 0, int(pointer.value), key="k", sha256=sha256(b"b").hexdigest())
    assert value == b"b"


async def test_failing_then_leaves_nothing(setup: BusSetup) -> None:
    """An error raised by ``then`` reaches its caller; nothing of the transaction appears, and others are not disturbed."""
    writer, other = await setup.bus.writer("w"), await setup.bus.writer("other")

    def then(_: Sequence[Position]) -> list[Message]:
        raise ZeroDivisionError

    failing = writer.commit([message("lost")], then)
    results = await asyncio.gather(failing, other.commit([message("kept")]), return_exceptions=True)
    assert isinstance(results[0], ZeroDivisionError)
    assert await values(setup.bus) == ["kept"]
    await writer.commit([message("again")])
    assert await values(setup.bus) == ["kept", "again"]


async def test_new_writer_fences_the_old_one(setup: BusSetup) -> None:
    """As soon as a new writer of an id exists, the old one makes nothing visible; writers of other ids continue."""
    old, other = await setup.bus.writer("w"), await setup.bus.writer("v")
    await old.commit([message("before")])
    new = await setup.bus.writer("w")
    with pytest.raises(FencedError):
        await old.commit([message("zombie")])
    await new.commit([message("after")])
    await other.commit([message("other")])
    assert await values(setup.bus) == ["before", "after", "other"]
    bus = await setup.reopen()
    newest = await bus.writer("w")
    await newest.commit([message("reopened")])
    assert await values(bus) == ["before", "after", "other", "reopened"]


async def test_one_of_many_new_writers_stays(setup: BusSetup) -> None:
    """If many become the writer of an id at once, exactly one can write afterwards."""
    writers = await asyncio.gather(*(setup.bus.writer("w") for _ in range(5)))
    results = await asyncio.gather(*(writer.commit([message("a")]) for writer in writers), return_exceptions=True)
    assert sum(isinstance(result, FencedError) for result in results) == 4
    assert await values(setup.bus) == ["a"]


@pytest.mark.parametrize("seed", range(5))
async def test_takeover_misses_nothing(setup: BusSetup, seed: int) -> None:
    """However takeovers and commits interleave, a writer that claims a partition and reads up to its claim knows every commit."""
    chance = random.Random(seed)

    async def life() -> None:
        writer = await setup.bus.writer("w")
        try:
            (claim,) = await writer.commit([message("claim", SECOND)])
            progress = len([value for value in await values_until(claim) if value != "claim"])
            for _ in range(chance.randrange(1, 6)):
                await writer.commit([message(str(progress), SECOND)])
                progress += 1
        except BusError:
            return  # fenced; or, if the takeover happened during a commit, of unknown outcome: the next writer learns it by reading

    async def values_until(claim: Position) -> list[str]:
        return [record.value.decode() for record in await all_of(setup.bus, SECOND) if record.offset <= claim.offset]

    for _ in range(8):
        await asyncio.gather(*(life() for _ in range(chance.randrange(1, 4))))
    written = [value for value in await values(setup.bus, SECOND) if value != "claim"]
    assert written == [str(number) for number in range(len(written))], f"seed {seed}"


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


async def test_who_reads_on_past_an_unreadable_record(setup: BusSetup) -> None:
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
    """A record of a topic with a retention goes when that is over, and no earlier; other topics keep theirs."""
    old, _ = await setup.bus.append([message("old", AGED), message("kept")])

    def is_due(position: Position) -> bool:  # on a busy machine, more time passes than a test lets pass
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
    """Also a trim leaves the newest record of each key in a compacted topic."""
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


async def test_cancelled_append_harms_nobody(setup: BusSetup) -> None:
    """A caller that cancels an append may find it on the log or not, but at most once; other callers are not affected."""
    for number in range(20):
        cancelled = asyncio.create_task(setup.bus.append([message(f"cancelled/{number}")]))
        kept = asyncio.create_task(setup.bus.append([message(f"kept/{number}")]))
        if number % 2:
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await kept
    found = await values(await setup.reopen())
    assert [value for value in found if value.startswith("kept")] == [f"kept/{number}" for number in range(20)]
    assert len(found) == len(set(found))


BAD = {
    "no key, where compaction goes by it": message("v", COMPACTED, key=""),
    "a key of half a surrogate pair": message("v", key="half \ud800"),
    "a header of half a surrogate pair": message("v", header="half \ud800"),
    "a header's name that is not UTF-8": Message(PLAIN, "k", b"v", 0, {"\udcff": "v"}),
    "no such topic": message("v", "nothing"),
    "no such partition": message("v", partition=4),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_bad_message_harms_nobody(setup: BusSetup, bad: Message) -> None:
    """A message that can't be appended is its caller's error; nothing of that append appears, and others get theirs."""
    good = [setup.bus.append([message(f"good/{number}")]) for number in range(4)]
    results = await asyncio.gather(*good[:2], setup.bus.append([message("with bad"), bad]), *good[2:], return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [False, False, True, False, False]
    assert await values(setup.bus) == [f"good/{number}" for number in range(4)]


async def test_closing_leaves_nobody_waiting(setup: BusSetup) -> None:
    """A caller that appended before the bus was closed gets a true answer; waiting or later readers get an error."""
    waiting = asyncio.create_task(setup.bus.reader(PLAIN, 1, 0).fetch(max_wait=DEADLINE_SECONDS * 10))
    appending = [asyncio.create_task(setup.bus.append([message(str(number))])) for number in range(50)]
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await setup.bus.close()
        answers = await asyncio.gather(*appending)
        for late in (waiting, setup.bus.append([message("late")]), setup.bus.writer("w"), setup.bus.reader(PLAIN, 0, 0).fetch(max_wait=1)):
            with pytest.raises(BusError):
                await late
    assert len(answers) == 50
    assert sorted(await values(await setup.open()), key=int) == [str(number) for number in range(50)]


async def test_unknown_topic_is_an_error(setup: BusSetup) -> None:
    """A request for an unknown topic is an immediate error."""
    assert setup.bus.partitions(PLAIN) == 4
    with pytest.raises(KeyError):
        setup.bus.partitions("nothing")


class Recording:
    """A group member that remembers its assignments."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.was_told = 0

    async def assigned(self, partitions: frozenset[int]) -> None:
        self.was_told += 1
        assert not self.owned & partitions
        self.owned |= partitions

    async def revoked(self, partitions: frozenset[int]) -> None:
        assert partitions <= self.owned
        self.owned -= partitions


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def test_group_shares_partitions(setup: BusSetup) -> None:
    """Members of a group together own every partition exactly once, as they join and leave; another group has its own assignment."""
    members = [Recording() for _ in range(3)]
    places = []

    def shared() -> bool:
        owned = [partition for member in members for partition in member.owned]
        return sorted(owned) == [0, 1, 2, 3]

    for member in members:
        places.append(await setup.bus.join("group", PLAIN, member.assigned, member.revoked))
        await until(shared)
    assert all(member.owned for member in members)
    other = Recording()
    place = await setup.bus.join("another", PLAIN, other.assigned, other.revoked)
    await until(lambda: other.owned == {0, 1, 2, 3})
    for member, of_member in zip(members[:2], places[:2], strict=True):
        await of_member.leave()
        assert not member.owned
        await until(shared)
    await places[2].leave()
    await place.leave()
    assert not any(member.owned for member in [*members, other])


async def test_group_shares_each_topic_by_itself(setup: BusSetup) -> None:
    """Members of one group on different topics do not take each other's partitions."""
    first, second = Recording(), Recording()
    places = [
        await setup.bus.join("group", PLAIN, first.assigned, first.revoked),
        await setup.bus.join("group", SECOND, second.assigned, second.revoked),
    ]
    await until(lambda: (first.owned, second.owned) == ({0, 1, 2, 3}, {0}))
    for place in places:
        await place.leave()


async def test_who_gets_nothing_is_told(setup: BusSetup) -> None:
    """A member without an assigned partition is notified, and so knows that it has joined and stands by."""
    members = [Recording(), Recording()]
    places = [await setup.bus.join("group", SECOND, member.assigned, member.revoked) for member in members]
    await until(lambda: all(member.was_told for member in members) and [*members[0].owned, *members[1].owned] == [0])
    for place in places:
        await place.leave()


async def test_cancelled_in_a_rebalance(setup: BusSetup) -> None:
    """A member that is cancelled while joining or leaving is finally out of the group, and the others own everything."""
    going = asyncio.Event()
    slow = Recording()

    async def revoked(partitions: frozenset[int]) -> None:
        await going.wait()
        await slow.revoked(partitions)

    place = await setup.bus.join("group", PLAIN, slow.assigned, revoked)
    await until(lambda: slow.owned == {0, 1, 2, 3})
    cancelled, stays = Recording(), Recording()
    joining = asyncio.create_task(setup.bus.join("group", PLAIN, cancelled.assigned, cancelled.revoked))
    await asyncio.sleep(0.01)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    leaving = asyncio.create_task(place.leave())
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    going.set()
    last = await setup.bus.join("group", PLAIN, stays.assigned, stays.revoked)
    await until(lambda: stays.owned == {0, 1, 2, 3})
    assert not slow.owned | cancelled.owned
    await last.leave()


async def test_failing_member_does_not_stop_the_group(setup: BusSetup) -> None:
    """A member whose callbacks fail does not keep the others from their partitions."""

    async def fail(_: frozenset[int]) -> None:
        raise ZeroDivisionError

    bad = await setup.bus.join("group", PLAIN, fail, fail)
    good = Recording()
    place = await setup.bus.join("group", PLAIN, good.assigned, good.revoked)
    await bad.leave()
    await until(lambda: good.owned == {0, 1, 2, 3})
    await place.leave()


Step = Callable[[], Awaitable[None]]


@pytest.mark.parametrize("seed", range(6))
async def test_against_a_model(setup: BusSetup, seed: int) -> None:
    """After a random history of appends, transactions, new writers and reopening, the log matches a simple model."""
    chance = random.Random(seed)
    model: dict[tuple[str, int], list[str]] = {}
    writers = [await setup.bus.writer("w")]
    for number in range(setup.steps):
        sent = [message(f"{number}/{part}", partition=chance.randrange(4)) for part in range(chance.randrange(1, 4))]
        match chance.randrange(10):
            case 0:
                writers.append(await setup.bus.writer("w"))
                continue
            case 1 if number % 3 == 0:
                await setup.reopen()
                writers = [await setup.bus.writer("w")]
                continue
            case 2 | 3 | 4:
                chosen = chance.choice(writers)
                if chosen is writers[-1]:
                    await chosen.commit(sent)
                else:
                    with pytest.raises(FencedError):
                        await chosen.commit(sent)
                    continue
            case _:
                await setup.bus.append(sent)
        for one in sent:
            model.setdefault((one.topic, one.partition), []).append(one.value.decode())
    for partition in range(4):
        assert await values(setup.bus, PLAIN, partition) == model.get((PLAIN, partition), []), f"seed {seed}"
