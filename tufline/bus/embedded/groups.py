"""Consumer groups within one process.

A rebalance revokes all lost partitions from every member before it assigns any. It always runs to its end, in a task of its own: the caller
that triggered it may be cancelled in the middle, and the other members' partitions must not depend on that.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from tufline.bus import Assigned

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Place:
    assigned: Assigned
    revoked: Assigned
    partitions: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Group:
    name: str
    partitions: int
    places: list[_Place] = field(default_factory=list)
    rebalancing: asyncio.Lock = field(default_factory=asyncio.Lock)


class GroupMember:
    """A ``Member`` of a group in this process."""

    def __init__(self, groups: "Groups", group: _Group, place: _Place) -> None:
        """Hold a place.

        Args:
            groups: all groups of the bus.
            group: the group that the member is in.
            place: the member's partitions and callbacks.
        """
        self._groups = groups
        self._group = group
        self._place = place

    async def leave(self) -> None:
        """See ``Member.leave``."""
        await self._groups.leave(self._group, self._place)


class Groups:
    """All groups of a bus."""

    def __init__(self) -> None:
        """Start without a group."""
        self._groups: dict[tuple[str, str], _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, name: str, topic: str, partitions: int, assigned: Assigned, revoked: Assigned) -> GroupMember:
        """Add a member; see ``Bus.join``.

        Args:
            name: the group's name.
            topic: the topic whose partitions are shared.
            partitions: how many partitions the topic has.
            assigned: see ``Bus.join``.
            revoked: see ``Bus.join``.

        Returns:
            The member.
        """
        group = self._groups.setdefault((name, topic), _Group(name, partitions))
        place = _Place(assigned, revoked)
        try:
            await self._to_its_end(_add(group, place))
        except asyncio.CancelledError:
            # The caller never gets the member, so nobody could remove it later.
            self._start(_take_out(group, place))
            raise
        return GroupMember(self, group, place)

    async def leave(self, group: _Group, place: _Place) -> None:
        """Remove a member; see ``Member.leave``.

        Args:
            group: the group that the member is in.
            place: the member's place in it.
        """
        await self._to_its_end(_take_out(group, place))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="bus.rebalance")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _to_its_end(self, work: Coroutine[Any, Any, None]) -> Awaitable[None]:
        return asyncio.shield(self._start(work))


async def _add(group: _Group, place: _Place) -> None:
    async with group.rebalancing:
        group.places.append(place)
        await _rebalance(group)


async def _take_out(group: _Group, place: _Place) -> None:
    async with group.rebalancing:
        if place in group.places:
            group.places.remove(place)
            if place.partitions:
                await _call(group, place.revoked, place.partitions)
            await _rebalance(group)


async def _rebalance(group: _Group) -> None:
    shares = [frozenset(range(first, group.partitions, len(group.places))) for first in range(len(group.places))]
    for place, share in zip(group.places, shares, strict=True):
        if lost := place.partitions - share:
            place.partitions &= share
            await _call(group, place.revoked, lost)
    for place, share in zip(group.places, shares, strict=True):
        gained = share - place.partitions
        place.partitions = share
        await _call(group, place.assigned, gained)


async def _call(group: _Group, callback: Assigned, partitions: frozenset[int]) -> None:
    try:
        await callback(partitions)
    except Exception:  # noqa: BLE001 (one member's fault must not keep the others from their partitions; it is logged)
        _log.exception("bus.group_callback_failed", group=group.name, partitions=sorted(partitions))
