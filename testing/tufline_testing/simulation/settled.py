"""When everything that was announced is live, and what a client must find then."""

from tuf.api.metadata import Timestamp

from tufline import records
from tufline.bus import Bus
from tufline.records import PUBLISH_KEY, topics
from tufline_testing.inbox import is_moved
from tufline_testing.log import read_all
from tufline_testing.simulation.announcer import Announcer
from tufline_testing.simulation.checks import check_accepted, check_log, check_receipts, held_on_log
from tufline_testing.simulation.checks_of_trust import check_renewals, check_shown, too_long, waiting_renewals
from tufline_testing.simulation.expected import Expected
from tufline_testing.simulation.expected_trust import ExpectedTrust
from tufline_testing.simulation.governing import Governing
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


async def check_trust(bus: Bus, machine: Machine, governing: Governing) -> None:
    """Check that in the end the newest valid root and targets are published, and all follows them, whatever happened in between."""
    await governing.read(bus)
    expected = ExpectedTrust.read(await read_all(bus, topics.ADMIN))
    state, reader = governing.state, machine.reader
    for wanted, found in ((expected.roots, state.roots), (expected.targets, state.targets)):
        assert [one.signed for one in wanted] == [one.signed for one in found], "not the versions that enough keys signed"
    waiting = {one.kind: one.offset for one in state.proposals.values() if one.record is not None}
    assert {kind: one.offset for kind, one in expected.waiting.items()} == waiting, "not the versions that wait for signatures"

    async def differences() -> list[str]:
        reader.refresh()
        keyids = {*expected.roots[-1].signed.roles[Timestamp.type].keyids}
        found = [f"root {reader.root} is not {len(expected.roots)}"] if reader.root != len(expected.roots) else []
        found += [f"{reader.keyids} sign instead of {keyids}"] if reader.keyids != keyids else []
        if expected.targets and reader.named["targets.json"] != len(expected.targets):
            found.append(f"targets {reader.named['targets.json']} is not {len(expected.targets)}")
        return found + await too_long(bus, state, machine.clock()) + await waiting_renewals(bus, state)

    async def is_the_newest() -> bool:
        return not await differences()

    try:
        await machine.until(is_the_newest, SETTLE_SECONDS + 2 * GRACE_SECONDS, GRACE_SECONDS / 4)
    except AssertionError as error:
        raise AssertionError(f"{'; '.join(await differences())}: {error}") from None
    await check_shown(bus, machine.path / "origin", expected)
    await check_renewals(bus, state)
