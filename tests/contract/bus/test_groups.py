"""Members of a consumer group share partitions; each partition has one owner."""

import asyncio
from collections.abc import Callable

from tufline_testing.bus_contract import DEADLINE_SECONDS, PLAIN, SECOND
from tufline_testing.buses import BusSetup


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


async def test_a_member_without_partitions_is_notified(setup: BusSetup) -> None:
    """A member without an assigned partition is notified, and so knows that it has joined and stands by."""
    members = [Recording(), Recording()]
    places = [await setup.bus.join("group", SECOND, member.assigned, member.revoked) for member in members]
    await until(lambda: all(member.was_told for member in members) and [*members[0].owned, *members[1].owned] == [0])
    for place in places:
        await place.leave()


async def test_cancelled_in_a_rebalance(setup: BusSetup) -> None:
    """A member that is cancelled while it joins or leaves ends up outside the group, and the others own everything."""
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
