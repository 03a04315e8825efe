"""The cache of bins in memory. Pure logic.

In: bins as they are written, each with its version. Out: a bin in the version that its head names, to be changed. They take at most the
budget, of which a large batch may borrow a part.
"""

from collections import OrderedDict

from tufline.metadata.bins import Bin
from tufline.records import Head


class BinCache:
    """The most recently used bins, kept in memory up to a budget. All others are read back from the log."""

    def __init__(self, budget: int) -> None:
        """Make an empty cache.

        Args:
            budget: the most memory that the bins may take, in bytes.
        """
        self._budget = budget
        self._lent = 0
        self._bins: OrderedDict[str, tuple[int, Bin, int]] = OrderedDict()
        self.memory = 0
        """Approximate memory of the bins, in bytes."""

    def lend(self, size: int) -> None:
        """Reserve a part of the budget for something else that is in memory for a while.

        Args:
            size: its approximate size now, in bytes; 0 when it is gone.
        """
        self._lent = size
        self._shrink()

    def take(self, role: str, head: Head) -> Bin | None:
        """Take a bin out of the cache, to change it. It is put back once it is written, so no half-changed bin is ever in the cache.

        Args:
            role: the bin's name.
            head: the wanted version.

        Returns:
            The bin in that version, or None.
        """
        found = self._bins.get(role)
        self.drop(role)
        return found[1] if found and found[0] == head.version else None

    def put(self, role: str, version: int, content: Bin) -> None:
        """Add a bin; if the budget is exceeded, the least recently used ones are dropped.

        Args:
            role: the bin's name.
            version: the version with this content on the log.
            content: the bin.
        """
        self.drop(role)
        self._bins[role] = version, content, content.memory
        self.memory += content.memory
        self._shrink()

    def _shrink(self) -> None:
        while self.memory + self._lent > self._budget and self._bins:
            self.drop(next(iter(self._bins)))

    def drop(self, role: str) -> None:
        """Remove a bin from the cache.

        Args:
            role: the bin's name.
        """
        if found := self._bins.pop(role, None):
            self.memory -= found[2]
