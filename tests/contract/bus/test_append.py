"""The guarantees of an append: records arrive unchanged, in order and at most once; a bad message is refused."""

import asyncio
import random
from hashlib import sha256

import pytest

from tufline.bus import Message, Record
from tufline.bus.headers import ESCAPE, Headers, pairs_of
from tufline.errors import BusError, FencedError
from tufline_testing.bus_contract import COMPACTED, DEADLINE_SECONDS, PLAIN, SECOND, all_of, message, values
from tufline_testing.buses import BusSetup


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
    "no key in a compacted topic": message("v", COMPACTED, key=""),
    "a key of half a surrogate pair": message("v", key="half \ud800"),
    "a header of half a surrogate pair": message("v", header="half \ud800"),
    "a header's name that is not UTF-8": Message(PLAIN, "k", b"v", 0, {"\udcff": "v"}),
    "no such topic": message("v", "nothing"),
    "no such partition": message("v", partition=4),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_bad_message_harms_nobody(setup: BusSetup, bad: Message) -> None:
    """A message that can't be appended is its caller's error: no record of that append appears, and other appends succeed."""
    good = [setup.bus.append([message(f"good/{number}")]) for number in range(4)]
    results = await asyncio.gather(*good[:2], setup.bus.append([message("with bad"), bad]), *good[2:], return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [False, False, True, False, False]
    assert await values(setup.bus) == [f"good/{number}" for number in range(4)]


async def test_closing_leaves_nobody_waiting(setup: BusSetup) -> None:
    """A caller that appended before the bus was closed gets the true result; readers that wait, and later calls, get an error."""
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
