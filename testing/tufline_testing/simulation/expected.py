"""What clients must find where custom roles come and go, by a simple model of the log.

The model goes through the changes of each partition one by one, with their receipts and the versions of the delegations, and remembers what
each role has. In the end a client must find the newest artifact that any of the roles has in which it looks: it does not matter which of
these roles comes first, because an older artifact must never be over a newer one.

Between the marks of a change of the delegations and its record, other processes still route by the version before. What they append there
is either refused later, or counts as if it came before the marks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tufline import records
from tufline.bus import Bus
from tufline.metadata.delegations import Delegation
from tufline.records import Add, Remove, topics
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline.records.routing import MOVED, Routing
from tufline.trust.admin_state import AdminState
from tufline_testing.log import read_all

_UNSIGNED = re.compile(r"the custom role (\S+) can't be signed: ")

BIN = ""
"""Stands for the bin of a path."""


@dataclass
class Expected:
    """What the roles must have.

    Attributes:
        routing: tells which partition has a role.
        seen_at: for each version of the delegations, by its offset in ``admin``, ends of the partitions that were read after it was there.
        versions: the custom roles by each version of the delegations; the first has none.
        live: role and path to the length of the artifact.
        held: role and path to the length of the held change (0: a removal).
    """

    routing: Routing
    seen_at: Mapping[int, Sequence[int]]
    versions: list[Sequence[Delegation]]
    live: dict[tuple[str, str], int] = field(default_factory=dict)
    held: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    async def read(cls, bus: Bus, state: AdminState, seen_at: Mapping[int, Sequence[int]]) -> "Expected":
        """Go through the log, and check that only changes were refused whose paths have moved."""
        assert state.routing is not None
        self = cls(state.routing, seen_at, [(), *(version.delegations.roles for version in state.routing.versions)])
        for partition in range(bus.partitions(topics.ARTIFACTS)):
            await self._replay(bus, [publish.ends[partition] for publish in state.publishes], partition)
        return self

    def check(self, found: Mapping[str, int]) -> None:
        """Check the lengths of the artifacts that a client finds."""
        for path in found.keys() | {path for _, path in self.live}:
            newest = max(self.live.get((role, path), 0) for role in self._visited(path))
            having = {role or "the bin": length for (role, where), length in self.live.items() if where == path}
            assert found.get(path, 0) == newest, f"{path} is {found.get(path, 0)}, and should be {newest}; its roles have {having}"

    def check_held(self, found: Mapping[tuple[str, str], int]) -> None:
        """Check the changes that are held on the log.

        A removal goes to every role that was ever trusted for its path. Where a role is not trusted for it any more, a held removal changes
        nothing: it stays until the next publish, or until the role changes again, whichever comes first.
        """
        found, held = self._that_matter(found), self._that_matter(self.held)
        assert found == held, f"held are {found}, and should be {held}"

    def _that_matter(self, held: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        return {
            (name, path): length for (name, path), length in held.items() if length or self._is_trusted(name, path, len(self.versions) - 1)
        }

    def _is_trusted(self, name: str, path: str, version: int) -> bool:
        return name == BIN or any(role.name == name and role.matches(path) for role in self.versions[version])

    def _matching(self, path: str, version: int) -> list[str]:
        """Return the custom roles that a version trusts for a path, up to the first that is terminating."""
        names = []
        for role in self.versions[version]:
            if role.matches(path):
                names.append(role.name)
                if role.terminating:
                    break
        return names

    def _visited(self, path: str) -> list[str]:
        names = self._matching(path, -1)
        stops = any(role.terminating for role in self.versions[-1] if role.name in names)
        return names if stops else [*names, BIN]

    async def _replay(self, bus: Bus, publishes: list[int], partition: int) -> None:
        refused = await _refused(bus, partition)
        offsets = [version.offset for version in self.routing.versions]
        newest = 0
        for record in await read_all(bus, topics.ARTIFACTS, partition):
            changes = records.decode(records.changes_decoder, record.value)
            while publishes and publishes[0] <= record.offset:
                publishes.pop(0)
                self._publish(partition)
            routed = sum(offset < changes.admin for offset in offsets)
            seen = sum(self.seen_at[offset][partition] <= record.offset for offset in offsets)
            while newest < max(routed, seen):
                newest += 1
                self._follow(partition, newest)
            for number, change in enumerate(changes.changes):
                contents = self.held if changes.hold else self.live
                reason = refused.get((record.offset, number), "")
                if (unsigned := _UNSIGNED.match(reason)) is not None:
                    assert unsigned[1] in self._roles_of(change, newest), f"{change} is not for {unsigned[1]}: {reason}"
                    if isinstance(change, Remove):
                        self._apply(partition, change, newest, contents, without=unsigned[1])
                elif reason:
                    assert reason == MOVED, f"{change} is refused: {reason}"
                    assert self._moves(change, routed), f"{change} is refused although its path has not moved"
                else:
                    self._apply(partition, change, newest, contents)
        if publishes:
            self._publish(partition)
        while newest + 1 < len(self.versions):
            newest += 1
            self._follow(partition, newest)

    def _apply(
        self, partition: int, change: Add | Remove, version: int, contents: dict[tuple[str, str], int], without: str | None = None
    ) -> None:
        if isinstance(change, Add):
            place = [*self._matching(change.path, version), BIN][0], change.path
            contents[place] = change.length
            if contents is self.live:
                self.held.pop(place, None)
            return
        for role in [*self._ever_matching(change.path, version), BIN]:
            if role == without or self._partition_of(role, change.path) != partition:
                continue
            self.held.pop((role, change.path), None)
            if contents is self.live:
                self.live.pop((role, change.path), None)
            else:
                self.held[role, change.path] = 0

    def _publish(self, partition: int) -> None:
        for (role, path), length in [*self.held.items()]:
            if self._partition_of(role, path) == partition:
                del self.held[role, path]
                self.live.pop((role, path), None)
                if length:
                    self.live[role, path] = length

    def _follow(self, partition: int, version: int) -> None:
        """Drop what the roles of a partition have and are no longer trusted for."""
        for contents in (self.live, self.held):
            for name, path in [*contents]:
                if not self._is_trusted(name, path, version) and self._partition_of(name, path) == partition:
                    del contents[name, path]

    def _partition_of(self, role: str, path: str) -> int:
        return self.routing.partitioning.partition_of_path(path) if role == BIN else self.routing.partition_of(role)

    def _ever_matching(self, path: str, version: int) -> list[str]:
        """Return the custom roles of a version that it or an earlier one trusts for a path."""
        ever = {role.name for roles in self.versions[: version + 1] for role in roles if role.matches(path)}
        return [role.name for role in self.versions[version] if role.name in ever]

    def _moves(self, change: Add | Remove, routed: int) -> bool:
        """Return whether some version after the one by which a change was routed has other roles for it."""
        known = self._roles_of(change, routed)
        return any(self._roles_of(change, version) != known for version in range(routed + 1, len(self.versions)))

    def _roles_of(self, change: Add | Remove, version: int) -> list[str]:
        if isinstance(change, Add):
            return self._matching(change.path, version)[:1]
        return self._ever_matching(change.path, version)


async def _refused(bus: Bus, partition: int) -> dict[tuple[int, int], str]:
    """Return the refused changes of a partition, by offset and index, with their reasons."""
    found = [records.decode(receipt_decoder, record.value) for record in await read_all(bus, topics.RECEIPTS, partition)]
    return {
        (one.offset, number): one.reason
        for one in found
        if isinstance(one, ChangeReceipt) and one.outcome == "refused"
        for number in one.indexes
    }
