"""The changes that a partition holds until they are published. Pure logic.

In: changes that are to be held, later changes of the same paths, and publishes. Out: records of ``heads``, which have to be in the same
transaction as their bins, and at a publish the changes that it releases, in the order of the log.

Each held change has a slot, a key of ``heads`` that is used again once it is free. So a takeover finds all held changes in the partition of
``heads``, even if their records in ``artifacts`` have been deleted. In each role a path
has at most one held change, the newest.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tufline.records import Held
from tufline_signer.bins.slots import Slots

MEAN_BYTES: Final = 1_000
"""The held changes of a partition may take this much memory each on average, in bytes; one of them may take more."""

OVERHEAD_BYTES: Final = 500
"""Memory of one held change in addition to its path and entry, in bytes (CPython 3.11)."""

HELD_BYTES: Final = 200
"""The most bytes that a record of a slot has in addition to path and entry."""

FULL: Final = (
    "the partition of its bin already holds as many changes as it may ({} changes, {} bytes; signer.max_held_changes): "
    "publish what is held (POST /api/v1/artifacts/publish), then send it again"
)


class HeldChange(NamedTuple):
    """One held change, and its position on the log: the ``nth`` of the record at ``offset``. Without an entry, ``path`` is removed."""

    slot: int
    offset: int
    nth: int
    role: str
    path: str
    entry: bytes | None

    @property
    def memory(self) -> int:
        """Approximate memory, in bytes."""
        return OVERHEAD_BYTES + len(self.path) + len(self.entry or b"")


class Touched(NamedTuple):
    """The slots that changed since the last call, each with its new record; and the bins whose held changes changed or were refused.

    ``total`` is the resulting number of held changes.
    """

    slots: dict[int, Held]
    roles: set[str]
    total: int


class HeldChanges:
    """The held changes of one partition."""

    def __init__(self, slots: Mapping[int, Held], limit: int, bin_of: Callable[[str], str]) -> None:
        """Start with what the log has.

        Args:
            slots: slot to its newest record.
            limit: how many changes may be held.
            bin_of: returns the bin of a path.
        """
        self._limit = limit
        self._most_bytes = limit * MEAN_BYTES
        self._bin_of = bin_of
        self._of_role: dict[str, dict[str, HeldChange]] = {}
        self._slots = Slots(slots.keys(), {slot for slot, one in slots.items() if one.path})
        self._touched_slots: dict[int, Held] = {}
        self._touched_roles: set[str] = set()
        self.count = 0
        """How many changes are held."""
        self.memory = 0
        """Approximate memory of the held changes, in bytes."""
        for slot, held in slots.items():
            if held.path:
                entry = None if held.entry is None else held.entry.encode()
                self._put(HeldChange(slot, held.offset, held.index, held.role or bin_of(held.path), held.path, entry))

    def _put(self, change: HeldChange) -> None:
        self._of_role.setdefault(change.role, {})[change.path] = change
        self.count += 1
        self.memory += change.memory

    def _remove(self, role: str, path: str) -> HeldChange | None:
        of_role = self._of_role.get(role, {})
        found = of_role.pop(path, None)
        if found is not None:
            self.count -= 1
            self.memory -= found.memory
            if not of_role:
                del self._of_role[role]
        return found

    def is_nearly_full(self, fraction: float) -> bool:
        """Return whether there is little room left.

        Args:
            fraction: the fraction of the room that may be in use.
        """
        return self.count > fraction * self._limit or self.memory > fraction * self._most_bytes

    def of(self, role: str) -> list[HeldChange]:
        """Return the held changes of a role.

        Args:
            role: the role's name.
        """
        return [*self._of_role.get(role, {}).values()]

    def count_of(self, role: str) -> int:
        """Return how many changes of a bin are held.

        Args:
            role: the bin's name.
        """
        return len(self._of_role.get(role, ()))

    def hold(self, role: str, offset: int, nth: int, path: str, entry: bytes | None) -> str:
        """Hold a change, in place of an earlier held one of its path.

        Args:
            role: the role that it is for.
            offset: the offset of the change's record.
            nth: the index of the change in its record.
            path: the target path.
            entry: the target's entry; None to remove the path.

        Returns:
            Why the change is refused, for people; empty if it is held now.
        """
        self._touched_roles.add(role)
        known = self._of_role.get(role, {}).get(path)
        slot = known.slot if known is not None else -1
        change = HeldChange(slot, offset, nth, role, path, entry)
        count = self.count + (known is None)
        memory = self.memory + change.memory - (known.memory if known is not None else 0)
        # A path that is held already needs no more slots: it may change even if the limit was lowered.
        if (known is None and count > self._limit) or (memory > self._most_bytes and memory > self.memory):
            return FULL.format(self._limit, self._most_bytes)
        self._remove(role, path)
        if known is None:
            change = change._replace(slot=self._slots.take())
        self._put(change)
        text = None if entry is None else entry.decode()
        of_custom = "" if role == self._bin_of(path) else role
        self._touched_slots[change.slot] = Held(path=path, role=of_custom, entry=text, offset=offset, index=nth)
        return ""

    def drop(self, role: str, path: str) -> HeldChange | None:
        """Drop the held change of a path, because it is released, or because a later change of the path is applied.

        Args:
            role: the role that it is for.
            path: the target path.

        Returns:
            The dropped change; None if there was none.
        """
        if not self.count:
            return None
        found = self._remove(role, path)
        if found is not None:
            self._touched_roles.add(role)
            self._touched_slots[found.slot] = Held()
            self._slots.free(found.slot)
        return found

    def below(self, end: int) -> dict[str, list[HeldChange]]:
        """Return the held changes below an offset.

        Args:
            end: an offset in ``artifacts``.

        Returns:
            Role name to its changes, in the order of the log.
        """
        found: dict[str, list[HeldChange]] = {}
        for role, of_role in self._of_role.items():
            if of_bin := sorted((change for change in of_role.values() if change.offset < end), key=_place):
                found[role] = of_bin
        return found

    def take_touched(self) -> Touched:
        """Return what has changed since this was last called, to append it in one transaction."""
        touched = Touched(self._touched_slots, self._touched_roles, self.count)
        self._touched_slots, self._touched_roles = {}, set()
        return touched


def _place(change: HeldChange) -> tuple[int, int]:
    return change.offset, change.nth
