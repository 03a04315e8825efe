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
class _Membership:
    assigned: Assigned
    revoked: Assigned
    partitions: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Group:
    name: str
    partitions: int
    memberships: list[_Membership] = field(default_factory=list)
    rebalancing: asyncio.Lock = field(default_factory=asyncio.Lock)


class GroupMember:
    """A ``Member`` of a group in this process."""

    def __init__(self, groups: "Groups", group: _Group, membership: _Membership) -> None:
        """Represent a membership.

        Args:
            groups: all groups of the bus.
            group: the group that the member is in.
            membership: the member's partitions and callbacks.
        """
        self._groups = groups
        self._group = group
        self._membership = membership

    async def leave(self) -> None:
        """See ``Member.leave``."""
        await self._groups.leave(self._group, self._membership)


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
        membership = _Membership(assigned, revoked)
        try:
            await self._uninterrupted(_add(group, membership))
        except asyncio.CancelledError:
            # The caller never gets the member, so nobody could remove it later.
            self._start(_take_out(group, membership))
            raise
        return GroupMember(self, group, membership)

    async def leave(self, group: _Group, membership: _Membership) -> None:
        """Remove a member; see ``Member.leave``.

        Args:
            group: the group that the member is in.
            membership: the member's partitions and callbacks.
        """
        await self._uninterrupted(_take_out(group, membership))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="bus.rebalance")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _uninterrupted(self, work: Coroutine[Any, Any, None]) -> Awaitable[None]:
        return asyncio.shield(self._start(work))


async def _add(group: _Group, membership: _Membership) -> None:
    async with group.rebalancing:
        group.memberships.append(membership)
        await _rebalance(group)


async def _take_out(group: _Group, membership: _Membership) -> None:
    async with group.rebalancing:
        if membership in group.memberships:
            group.memberships.remove(membership)
            if membership.partitions:
                await _call(group, membership.revoked, membership.partitions)
            await _rebalance(group)


async def _rebalance(group: _Group) -> None:
    shares = [frozenset(range(first, group.partitions, len(group.memberships))) for first in range(len(group.memberships))]
    for membership, share in zip(group.memberships, shares, strict=True):
        if lost := membership.partitions - share:
            membership.partitions &= share
            await _call(group, membership.revoked, lost)
    for membership, share in zip(group.memberships, shares, strict=True):
        gained = share - membership.partitions
        membership.partitions = share
        await _call(group, membership.assigned, gained)


async def _call(group: _Group, callback: Assigned, partitions: frozenset[int]) -> None:
    try:
        await callback(partitions)
    except Exception:  # noqa: BLE001 (one member's fault must not keep the others from their partitions; it is logged)
        _log.exception("bus.group_callback_failed", group=group.name, partitions=sorted(partitions))
