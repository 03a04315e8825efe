"""The slots of a kind of waiting change: keys of ``heads`` with a number, each of which is used again once it is free. Pure logic."""

import heapq
from collections.abc import Collection


class Slots:
    """The slots of one kind in one partition. The lowest free one is used next, so that there are never more than changes at once."""

    def __init__(self, known: Collection[int], used: Collection[int]) -> None:
        """Start with what the log has.

        Args:
            known: the slots that have a record.
            used: those of them that have a change.
        """
        self._end = max(known, default=-1) + 1
        self._free = [slot for slot in range(self._end) if slot not in used]  # ascending, so it is a heap

    def take(self) -> int:
        """Take a slot that is free."""
        if self._free:
            return heapq.heappop(self._free)
        self._end += 1
        return self._end - 1

    def free(self, slot: int) -> None:
        """Give a slot back.

        Args:
            slot: one that is in use.
        """
        heapq.heappush(self._free, slot)
