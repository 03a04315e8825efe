"""The changes of a partition that wait until people sign the custom roles that they are for. Pure logic.

In: changes, and the versions that people have signed. Out: records of ``heads``, which have to be in the same transaction as the next
versions of the roles.

As held changes, each has a slot, a key of ``heads`` that is used again once it is free. Once somebody has signed the next version of a
role, its changes stay as they are until it is published or its signatures are dropped: a later change of the same path gets a slot of its
own.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tufline.records import Pending, Proposed
from tufline.trust.offline_roles import PendingChange
from tufline_signer.bins.held import MEAN_BYTES, OVERHEAD_BYTES
from tufline_signer.bins.slots import Slots

FULL: Final = (
    "as many changes as may (at most {} changes, {} bytes; signer.max_pending_changes) wait already in the role's partition for people to "
    "sign their roles: have them signed (GET /api/v1/metadata/sign), then send it again"
)


class Waiting(NamedTuple):
    """What changed since the last call: slots, and next versions of roles, each with its new record; and how many changes are pending."""

    slots: dict[int, Pending]
    proposed: dict[str, Proposed]
    total: int


def _memory(change: PendingChange) -> int:
    return OVERHEAD_BYTES + len(change.path) + len(change.entry or b"")


class PendingChanges:
    """The pending changes of one partition, and the next versions of the custom roles that people sign."""

    def __init__(self, slots: Mapping[int, Pending], proposed: Mapping[str, Proposed], limit: int) -> None:
        """Start with what the log has.

        Args:
            slots: slot to its newest record.
            proposed: role to its next version.
            limit: how many changes may be pending.
        """
        self._limit = limit
        self._most_bytes = limit * MEAN_BYTES
        self._slots = Slots(slots.keys(), {slot for slot, one in slots.items() if one.role})
        self._of_role: dict[str, dict[int, PendingChange]] = {}
        self._touched_slots: dict[int, Pending] = {}
        self._touched_proposed: dict[str, Proposed] = {}
        self._memory = 0
        self.count = 0
        """How many changes are pending."""
        self._proposed = dict(proposed)
        for slot, one in slots.items():
            if one.role:
                entry = None if one.entry is None else one.entry.encode()
                self._put(slot, PendingChange(one.offset, one.index, one.role, one.path, entry))

    def _put(self, slot: int, change: PendingChange) -> None:
        self._of_role.setdefault(change.role, {})[slot] = change
        self.count += 1
        self._memory += _memory(change)

    def is_nearly_full(self, fraction: float) -> bool:
        """Return whether there is little room left.

        Args:
            fraction: the fraction of the room that may be in use.
        """
        return self.count > fraction * self._limit or self._memory > fraction * self._most_bytes

    @property
    def roles(self) -> set[str]:
        """The roles that have something here."""
        return self._of_role.keys() | self._proposed.keys()

    def of(self, role: str) -> list[PendingChange]:
        """Return the pending changes of a role.

        Args:
            role: its name.
        """
        return [*self._of_role.get(role, {}).values()]

    def proposed(self, role: str) -> Proposed:
        """Return the next version of a role.

        Args:
            role: its name.

        Returns:
            It; with version 0 if there is none.
        """
        return self._proposed.get(role) or Proposed()

    def propose(self, role: str, proposed: Proposed) -> None:
        """Set the next version of a role.

        Args:
            role: its name.
            proposed: the next version.
        """
        if proposed != self.proposed(role):
            self._proposed[role] = self._touched_proposed[role] = proposed

    def add(self, change: PendingChange) -> str:
        """Keep a change, in place of an earlier one of its path that no signature covers.

        Args:
            change: the change.

        Returns:
            Why it is refused, for people; empty if it is pending now.
        """
        proposed = self.proposed(change.role)
        signed_below = proposed.end if proposed.signatures else 0
        of_role = self._of_role.get(change.role, {})
        slot = next((slot for slot, known in of_role.items() if known.path == change.path and known.offset >= signed_below), None)
        count = self.count + (slot is None)
        memory = self._memory + _memory(change) - (0 if slot is None else _memory(of_role[slot]))
        if (slot is None and count > self._limit) or (memory > self._most_bytes and memory > self._memory):
            return FULL.format(self._limit, self._most_bytes)
        if slot is None:
            slot = self._slots.take()
        else:
            self._remove(change.role, slot)
        self._put(slot, change)
        text = None if change.entry is None else change.entry.decode()
        self._touched_slots[slot] = Pending(role=change.role, path=change.path, entry=text, offset=change.offset, index=change.nth)
        return ""

    def _remove(self, role: str, slot: int) -> None:
        change = self._of_role[role].pop(slot)
        self.count -= 1
        self._memory -= _memory(change)
        if not self._of_role[role]:
            del self._of_role[role]

    def drop(self, role: str, which: Callable[[PendingChange], bool]) -> None:
        """Drop changes of a role, because people have signed them, or because they can't be applied any more.

        Args:
            role: its name.
            which: returns whether to drop a change.
        """
        for slot, change in [*self._of_role.get(role, {}).items()]:
            if which(change):
                self._remove(role, slot)
                self._touched_slots[slot] = Pending()
                self._slots.free(slot)

    def take_touched(self) -> Waiting:
        """Return what has changed since this was last called, to append it in one transaction."""
        touched = Waiting(self._touched_slots, self._touched_proposed, self.count)
        self._touched_slots, self._touched_proposed = {}, {}
        return touched
