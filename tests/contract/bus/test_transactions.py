"""Transactions are visible as a whole, and a new writer of an id fences the old one."""

import asyncio
import random
from collections.abc import Sequence
from hashlib import sha256

import pytest

from tufline.bus import Message, Position
from tufline.errors import BusError, FencedError
from tufline_testing.bus_contract import DEADLINE_SECONDS, PLAIN, SECOND, all_of, message, values
from tufline_testing.buses import BusSetup


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
