"""When everything that was announced is live, and what a client must find then."""

from tufline import records
from tufline.bus import Bus
from tufline.records import PUBLISH_KEY, topics
from tufline_testing.inbox import is_moved
from tufline_testing.log import read_all
from tufline_testing.offline import Offline
from tufline_testing.simulation.announcer import Announcer
from tufline_testing.simulation.checks import check_accepted, check_log, check_receipts, held_on_log
from tufline_testing.simulation.expected import Expected
from tufline_testing.simulation.machine import GRACE_SECONDS, SETTLE_SECONDS, Machine


async def is_settled(bus: Bus, announcer: Announcer) -> bool:
    """Return whether a published commit covers every change, publish and version of the delegations on the log."""
    published = await read_all(bus, topics.PUBLISHED)
    if not published or not await is_moved(bus):
        return False
    vector = records.decode(records.published_decoder, published[-1].value).vector
    ends = [await bus.end(topics.ARTIFACTS, partition) for partition in range(bus.partitions(topics.ARTIFACTS))]
    last = max((record.offset for record in await read_all(bus, topics.ADMIN) if record.key == PUBLISH_KEY), default=-1)
    if announcer.delegating is not None:
        await announcer.delegating.read(bus)
        if vector.admin <= max(announcer.delegating.seen_at, default=-1):
            return False
    return vector.publishes > last and all(mine >= end for mine, end in zip(vector.artifacts, ends, strict=True))


async def check_settled(bus: Bus, machine: Machine, announcer: Announcer) -> None:
    """Check what a client finds, and the log."""
    found, held = machine.reader.refresh(), await held_on_log(bus)
    if announcer.delegating is None:
        announcer.check(found)
        announcer.check_held({path: length for (_, path), length in held.items()})
    else:
        delegating = announcer.delegating
        await delegating.read(bus)
        await check_accepted(bus, announcer.accepted)
        expected = await Expected.read(bus, delegating.state, delegating.seen_at)
        expected.check(found)
        expected.check_held(held)
    await check_log(bus)
    await check_receipts(bus)


async def check_keys(machine: Machine, offline: Offline) -> None:
    """Check that the newest root is published in the end, and only its keys sign, whatever happened during a key change."""
    reader = machine.reader

    async def is_signed_by_the_newest() -> bool:
        reader.refresh()
        return reader.root == offline.root.version and reader.keyids == {offline.online}

    try:
        await machine.until(is_signed_by_the_newest, SETTLE_SECONDS + GRACE_SECONDS, GRACE_SECONDS / 4)
    except AssertionError as error:
        wanted = f"root {offline.root.version} and {offline.online}"
        raise AssertionError(f"root {reader.root} and {reader.keyids} in place of {wanted}: {error}") from None
