"""Consumer groups within one process."""

import asyncio
import itertools
from dataclasses import dataclass, field

import structlog

from tufline.bus import Assigned

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Member:
    assigned: Assigned
    revoked: Assigned
    partitions: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Group:
    partitions: int
    members: dict[int, _Member] = field(default_factory=dict)
    rebalancing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Groups:
    """All groups of a bus. A rebalance takes from every member what it loses before it gives anybody anything."""

    def __init__(self) -> None:
        """Begin without a group."""
        self._groups: dict[str, _Group] = {}
        self._keys = itertools.count()

    async def join(self, name: str, partitions: int, assigned: Assigned, revoked: Assigned) -> int:
        """Add a member; see ``Bus.join``.

        Args:
            name: of the group.
            partitions: of the topic.
            assigned: see ``Bus.join``.
            revoked: see ``Bus.join``.

        Returns:
            The member's key, for ``leave``.
        """
        group = self._groups.setdefault(name, _Group(partitions))
        key = next(self._keys)
        async with group.rebalancing:
            group.members[key] = _Member(assigned, revoked)
            await self._rebalance(name, group)
        return key

    async def leave(self, name: str, key: int) -> None:
        """Take a member out; see ``Member.leave``.

        Args:
            name: of the group.
            key: of the member.
        """
        group = self._groups[name]
        async with group.rebalancing:
            member = group.members.pop(key, None)
            if member is not None:
                await self._call(name, member.revoked, member.partitions)
                await self._rebalance(name, group)

    async def _rebalance(self, name: str, group: _Group) -> None:
        members = list(group.members.values())
        shares = [frozenset(range(first, group.partitions, len(members))) for first in range(len(members))]
        for member, share in zip(members, shares, strict=True):
            lost = member.partitions - share
            member.partitions &= share
            await self._call(name, member.revoked, lost)
        for member, share in zip(members, shares, strict=True):
            gained = share - member.partitions
            member.partitions = share
            await self._call(name, member.assigned, gained)

    async def _call(self, name: str, callback: Assigned, partitions: frozenset[int]) -> None:
        if not partitions:
            return
        try:
            await callback(partitions)
        except Exception:  # noqa: BLE001 (one member's fault must not keep the others from their partitions; it is logged)
            _log.exception("bus.group_callback_failed", group=name, partitions=sorted(partitions))
