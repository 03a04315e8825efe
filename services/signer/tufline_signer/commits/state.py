"""Folds the heads of all bins into the next snapshot, and into the progress that it covers. Pure.

In: records of ``heads``, partition by partition, and the roles and keys that targets delegates to. Out: the snapshot's content, and a
progress for each partition. Custom roles are like bins, but may be added and deleted.

The snapshot names a version of a bin only if it verifies under the targets of the same snapshot. If the newest version does not (a key is
being changed, and the bin's signer did not know yet), the progress of its partition stops until the bin is signed again: a commit covers
only what is in its snapshot.
"""

import math
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tufline import records
from tufline.bus import Record
from tufline.metadata.delegations import Delegation, Delegations
from tufline.metadata.snapshot import Snapshot
from tufline.records import Head, Progress, Settings, Vector
from tufline.runtime.passed_over import PassedOver
from tufline.trust.delegated import Delegated, is_met
from tufline.trust.roles import RoleKeys


class _Newest(NamedTuple):
    partition: int
    version: int
    offset: int
    keyids: tuple[str, ...]
    admin: int = 0


class CommitState:
    """The bins according to their heads, and the snapshot of those that may be named."""

    def __init__(self, settings: Settings, covered: Vector, passed: PassedOver) -> None:
        """Start without heads.

        Args:
            settings: the repository's settings.
            covered: how far the last commit goes.
            passed: collects the heads that can't be decoded.
        """
        self._used = [partition for partition in range(settings.partitions) if settings.partitioning.names_in(partition)]
        self._passed = passed
        self.missing = {settings.layout.name(index) for index in range(settings.number_of_bins)}
        """The bins without a head, or without a version that may be named. A snapshot must name all bins, or clients fail."""
        self._roles = frozenset(self.missing)
        self.snapshot = Snapshot()
        self.changed = False
        """Whether the snapshot has changed since this was last set to False."""
        self.covered = list(covered.artifacts)
        """How far in each partition of ``artifacts`` the snapshot goes."""
        self._progress = list(covered.artifacts)
        self._covered_publishes = [covered.publishes] * settings.partitions
        self._publishes = [covered.publishes] * settings.partitions
        self._bins: dict[str, _Newest] = {}
        self._signed_by: Counter[tuple[str, ...]] = Counter()
        self._others: dict[str, _Newest] = {}
        self._fresh: set[str] = set()
        self._coming: Mapping[str, float] = {}
        self._withheld: dict[str, int] = {}
        self._delegated: Delegated | None = None
        self.unknown: set[str] = set()
        """Roles other than bins that have heads, and that ``admin`` may not have told of yet (``expect``). Their partitions wait."""

    @property
    def delegated(self) -> Delegated:
        """What the targets that the snapshot names delegate to."""
        assert self._delegated is not None, "name_under comes first"
        return self._delegated

    @property
    def withheld(self) -> list[str]:
        """The roles that are not named in their newest version, because it does not verify under the targets."""
        return sorted(self._withheld)

    def name_under(self, delegated: Delegated) -> None:
        """Change what targets delegates to: withheld roles may become valid.

        Args:
            delegated: the roles and keys that the next snapshot's targets delegate to.
        """
        if delegated is self._delegated:
            return
        self._delegated = delegated
        for role in {**self._withheld, **self._others}:
            self._name(role)
        self._cover()

    def expect(self, coming: Mapping[str, float], settled: Collection[str]) -> None:
        """Learn which custom roles the next targets will delegate to. Their changes are not covered before.

        Args:
            coming: names of custom roles, each to the offset in ``admin`` at which it was added. A role without a version since then has no
                changes.
            settled: roles of ``unknown`` that ``coming`` would have: the others are deleted, or a replaced bootstrap has left them.
        """
        # A commit is made each second, of thousands of roles: only those are looked at that this may change.
        changed = {*settled} if coming is self._coming else {*settled, *(name for name, _ in coming.items() ^ self._coming.items())}
        self._coming = coming
        self.unknown.difference_update(settled)
        for role in changed & self._others.keys():
            self._name(role)
        self._cover()

    def set(self, role: str, version: int) -> None:
        """Set the version of a role other than a bin.

        Args:
            role: the role's name.
            version: the version that the next snapshot names.
        """
        self.changed |= self.snapshot.set(role, version)

    def take(self, partition: int, batch: Iterable[Record]) -> None:
        """Apply new heads and progress.

        Args:
            partition: partition of ``heads``.
            batch: the partition's next records.

        Raises:
            SchemaError: if a record has a newer schema; processing must not continue past it.
        """
        for record in batch:
            match self._passed.decode(records.heads_decoder, record):
                case Head() as head:
                    is_bin = record.key in self._roles
                    if is_bin and (before := self._bins.get(record.key)) is not None:
                        self._signed_by[before.keyids] -= 1
                    newest = _Newest(partition, head.version, head.offset, tuple(map(sys.intern, head.keyids)), head.admin)
                    (self._bins if is_bin else self._others)[record.key] = newest
                    if is_bin:
                        self._signed_by[newest.keyids] += 1
                    else:
                        self.unknown.add(record.key)
                        self._fresh.add(record.key)
                    self._name(record.key)
                case Progress() as progress:
                    self._progress[partition] = max(self._progress[partition], progress.offset)
                    self._publishes[partition] = max(self._publishes[partition], progress.publish)
        self._cover()

    def _name(self, role: str) -> None:
        newest = self._bins.get(role) or self._others[role]
        keys = None if self._delegated is None else self._delegated.bins if role in self._roles else self._delegated.custom.get(role)
        if keys is not None and keys.are_met_by(newest.keyids):
            self.changed |= self.snapshot.set(role, newest.version)
            self._withheld.pop(role, None)
            self.unknown.discard(role)
        elif keys is not None or role in self._roles or self._coming.get(role, math.inf) < newest.admin or role in self.unknown:
            self._withheld[role] = newest.partition
        else:
            self._withheld.pop(role, None)
        if self.snapshot.version(role):  # the snapshot keeps the version that it named before
            self.missing.discard(role)

    def _cover(self) -> None:
        held = set(self._withheld.values())
        for partition, offset in enumerate(self._progress):
            if partition not in held:
                self.covered[partition] = offset
                self._covered_publishes[partition] = self._publishes[partition]

    @property
    def publishes(self) -> int:
        """An offset in ``admin``: what the publishes below it release is in the snapshot."""
        return min(self._covered_publishes[partition] for partition in self._used)

    @property
    def oldest(self) -> int:
        """The lowest offset in ``metadata`` of the newest versions of all bins; -1 if the snapshot does not name all of these versions."""
        return -1 if self.missing or self._withheld else min((newest.offset for newest in self._bins.values()), default=-1)

    def are_met(self, delegated: Delegated) -> bool:
        """Return whether the newest version of every bin and custom role verifies under other keys.

        Args:
            delegated: the roles and keys that future targets delegate to.
        """
        others = self._others
        return self.are_bins_met(delegated.bins) and all(
            role in others and keys.are_met_by(others[role].keyids) for role, keys in delegated.custom.items()
        )

    def are_bins_met(self, keys: RoleKeys) -> bool:
        """Return whether the newest version of every bin verifies under other keys.

        Args:
            keys: the keys of the bins in future targets.
        """
        # Many bins have the same set of keyids, so few sets have to be checked.
        return all(keys.are_met_by(keyids) for keyids, bins in self._signed_by.items() if bins)

    def take_fresh(self) -> frozenset[str]:
        """Return the roles other than bins that have got a head since the last call."""
        fresh, self._fresh = frozenset(self._fresh), set()
        return fresh

    def admin_of(self, role: str) -> int:
        """Return which delegations the newest version of a custom role follows.

        Args:
            role: its name.

        Returns:
            As ``Head.admin``; -1 without a version.
        """
        newest = self._others.get(role)
        return -1 if newest is None else newest.admin

    def is_met(self, role: Delegation, custom: Delegations, bins: RoleKeys) -> bool:
        """Return whether the newest version of a custom role verifies under other delegations.

        Args:
            role: the role in future targets.
            custom: the delegations that it is part of.
            bins: the keys of the bins in future targets.
        """
        newest = self._others.get(role.name)
        return newest is not None and is_met(role, custom, bins, newest.keyids)
