"""Routing: in which role a path's artifact is, and in which partition that role's changes are. Pure.

Without custom delegations the role of a path is its bin (``tufline.records.partitioning``). With them, it is the first role in which a
client looks for the path. A custom role has one writer: that of the partition which the leading bits of SHA-256(role name) choose.

Delegations may change while changes are on their way. Each version of the delegations names, for every partition of ``artifacts``, the
offset from which on it applies; to lower offsets the previous version applies. A change is refused if an older version routed it, and it
belongs to another role under the version that applies at its offset: its sender has to send it again.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tufline.metadata.delegations import NO_DELEGATIONS, Delegation, Delegations, index_paths
from tufline.metadata.path_patterns import PatternTree
from tufline.records.artifacts import Add, Remove
from tufline.records.partitioning import Partitioning

NOT_DELEGATED: Final = "no custom role is trusted for its path, and nothing else takes artifacts in this repository"

MOVED: Final = "the delegations changed while it was on its way, and its path belongs to another role now: send it again"


@dataclass(frozen=True, slots=True)
class AcceptedDelegations:
    """A version of the custom delegations.

    Attributes:
        offset: the offset in ``admin`` of the record that it begins with.
        ends: for each partition of ``artifacts``, the offset from which on it routes changes; never less than those of the version before.
        delegations: the custom roles and their keys.
    """

    offset: int
    ends: tuple[int, ...]
    delegations: Delegations


class Routing:
    """The routing of a repository's changes, by every version of its delegations."""

    def __init__(self, partitioning: Partitioning, versions: Sequence[AcceptedDelegations] = (), *, only_custom: bool = False) -> None:
        """Store the known versions.

        Args:
            partitioning: how bins are spread over partitions.
            versions: the versions of the delegations, in the order of the log; none if the repository never had any.
            only_custom: whether only custom roles take artifacts (``Settings.only_custom``).
        """
        self.partitioning = partitioning
        self.versions = tuple(versions)
        self.only_custom = only_custom

    def index(self) -> None:
        """Prepare the routing of changes, which the first change would have to wait for: 0.2 s for 10,000 custom roles."""
        if self.versions:
            self.delegations.index()
            _ = self._added, self._ever, self._names, self._by_partition

    @property
    def delegations(self) -> Delegations:
        """The newest version of the delegations."""
        return self.versions[-1].delegations if self.versions else NO_DELEGATIONS

    @cached_property
    def custom_names(self) -> frozenset[str]:
        """The names of all custom roles that there ever were."""
        return frozenset(role.name for version in self.versions for role in version.delegations.roles)

    def visited(self, path: str, custom_roles: Delegations | None = None) -> list[str]:
        """Return the roles in whose targets a client looks for a path.

        Args:
            path: a target path.
            custom_roles: the custom roles that the client knows; None for the newest ones.

        Returns:
            The names of custom roles, in their order; then the path's bin, unless one of these roles is terminating.
        """
        custom = [*(self.delegations if custom_roles is None else custom_roles).visited(path)]
        names = [role.name for role in custom]
        return names if custom and custom[-1].terminating else [*names, self.bin_of(path)]

    def takes(self, path: str) -> bool:
        """Return whether there is a role for a new artifact.

        Args:
            path: its target path.
        """
        return not self.only_custom or _role_of(self.delegations, path) is not None

    def role_of(self, path: str) -> str:
        """Return the role that an artifact goes to: the first in which a client looks for it.

        Args:
            path: the target path.
        """
        return _role_of(self.delegations, path) or self.bin_of(path)

    def bin_of(self, path: str) -> str:
        """Return the bin of a path.

        Args:
            path: a target path.
        """
        layout = self.partitioning.layout
        return layout.name(layout.index_of(path))

    def roles_of(self, change: Add | Remove) -> list[str]:
        """Return the roles that a change is for.

        Args:
            change: any change.

        Returns:
            For an addition, the role that the artifact goes to. For a removal, every role that the path was ever routed to: otherwise an
            older artifact of the path could come back. Deleted roles have lost theirs.
        """
        if isinstance(change, Add):
            return [self.role_of(change.path)]
        roles, paths = self._ever
        found = dict.fromkeys(roles[number].name for number in paths.matching(change.path))
        return [*(name for name in found if name in self._names), self.bin_of(change.path)]

    def partition_of(self, role: str) -> int:
        """Return the partition of ``artifacts`` that has a role's changes, and the partition of ``heads`` that has its head.

        Args:
            role: the name of a custom role.

        Returns:
            The partition, from 0: one of those that the bins use.
        """
        used = min(self.partitioning.partitions, self.partitioning.layout.number_of_bins)
        if self.partitioning.bits is not None:
            used = 1 << self.partitioning.bits
        return int.from_bytes(hashlib.sha256(role.encode()).digest()[:4], "big") * used >> 32

    def partitions_of(self, change: Add | Remove) -> list[int]:
        """Return the partitions of ``artifacts`` that a change goes to.

        Args:
            change: any change.

        Returns:
            Each partition once; the one that an added artifact is in, if it is an addition.
        """
        if not self.versions:
            return [self.partitioning.partition_of_path(change.path)]
        return [*dict.fromkeys(self._where(role, change.path) for role in self.roles_of(change))]

    def custom_in(self, partition: int) -> tuple[str, ...]:
        """List all custom roles that there ever were in one partition.

        Args:
            partition: from 0.

        Returns:
            Their names, sorted.
        """
        return self._by_partition.get(partition, ())

    def find_roles(self, change: Add | Remove, partition: int, offset: int, admin: int) -> tuple[list[str], str]:
        """Return the roles of one partition that a change on the log is for.

        Args:
            change: the change.
            partition: the partition of ``artifacts`` that has it.
            offset: the offset of its record.
            admin: the offset in ``admin`` below which ingest had applied all records when it routed the change.

        Returns:
            The names of the roles, and an empty text; or no names and the reason why it can't be applied.
        """
        if not self.versions:
            index = self.partitioning.layout.index_of(change.path)
            if self.partitioning.partition_of(index) != partition:
                return [], f"its bin is not in partition {partition}"
            return [self.partitioning.layout.name(index)], ""
        by = sum(version.offset < admin for version in self.versions)
        now = sum(version.ends[partition] <= offset for version in self.versions)
        routed = self._at(by)
        if by < now and self._at(now).roles_of(change) != routed.roles_of(change):
            return [], MOVED
        if isinstance(change, Add) and not routed.takes(change.path):
            return [], NOT_DELEGATED
        here = [role for role in routed.roles_of(change) if self._where(role, change.path) == partition]
        if not here:
            return [], f"none of its roles is in partition {partition}"
        # A role that was deleted and added again has nothing of what it had before; nor has one that lost the path in the meantime.
        standing = [role for role in here if role not in self.custom_names or self.begins(role, partition) <= offset]
        if isinstance(change, Add):
            standing = [role for role in standing if role not in self.custom_names or self._keeps(role, change.path, by)]
        return (standing, "") if standing else ([], MOVED)

    def begins(self, role: str, partition: int) -> float:
        """Return from which offset on a custom role has changes.

        Args:
            role: the name of a custom role that there was at some time.
            partition: the partition of ``artifacts`` that has its changes.

        Returns:
            The end, in that partition, of the version that added it last; infinity if it is deleted.
        """
        if (role, partition) not in self._begins:
            end = math.inf
            for version in self.versions:
                if version.delegations.find(role) is None:
                    end = math.inf
                elif end == math.inf:
                    end = version.ends[partition]
            self._begins[role, partition] = end
        return self._begins[role, partition]

    def added(self, role: str) -> float:
        """Return when a custom role was added.

        Args:
            role: its name.

        Returns:
            The offset in ``admin`` of the version that added it last; infinity if there is no such role.
        """
        return self._added.get(role, math.inf)

    def since(self, role: str, admin: int) -> list[Delegation]:
        """Return what a custom role has been from an offset on.

        Args:
            role: its name.
            admin: an offset in ``admin``.

        Returns:
            The role by the last version below the offset, unless there was none; then by each later version that has it.
        """
        before = sum(version.offset < admin for version in self.versions)
        found = [version.delegations.find(role) for version in self.versions[max(0, before - 1) :]]
        return [delegation for delegation in found if delegation is not None]

    def _keeps(self, role: str, path: str, by: int) -> bool:
        """Return whether a custom role matches a path in all versions after the first ones."""
        later = (version.delegations.find(role) for version in self.versions[by:])
        return all(delegation is not None and delegation.matches(path) for delegation in later)

    @cached_property
    def _begins(self) -> dict[tuple[str, int], float]:
        return {}

    @cached_property
    def _by_partition(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, list[str]] = {}
        for name in sorted(self.custom_names):
            found.setdefault(self.partition_of(name), []).append(name)
        return {partition: tuple(names) for partition, names in found.items()}

    @cached_property
    def _added(self) -> dict[str, int]:
        """The offset in ``admin`` of the version that added each custom role last."""
        found: dict[str, int] = {}
        for version in self.versions:
            found = {role.name: found.get(role.name, version.offset) for role in version.delegations.roles}
        return found

    @cached_property
    def _names(self) -> frozenset[str]:
        """The names of the custom roles that there are."""
        return frozenset(role.name for role in self.delegations.roles)

    @cached_property
    def _ever(self) -> tuple[list[Delegation], PatternTree]:
        """All custom roles that there ever were, each as often as it was changed, and their paths."""
        # By identity: a role that a version did not change is the same object there.
        roles = [*{id(role): role for version in self.versions for role in version.delegations.roles}.values()]
        return roles, index_paths(roles)

    @cached_property
    def _earlier(self) -> dict[int, "Routing"]:
        return {}

    def _at(self, count: int) -> "Routing":
        """Return the routing by the first versions."""
        if count >= len(self.versions):
            return self
        return self._earlier.setdefault(count, Routing(self.partitioning, self.versions[:count], only_custom=self.only_custom))

    def _where(self, role: str, path: str) -> int:
        return self.partition_of(role) if role in self.custom_names else self.partitioning.partition_of_path(path)


def _role_of(delegations: Delegations, path: str) -> str | None:
    found: Delegation | None = next(delegations.visited(path), None)
    return None if found is None else found.name
