"""The newest records of all partitions in memory, for readers at the end, which also wait here.

In: records as they become durable. Out: records for readers that are not far behind; the others read the file. One memory limit applies to
all partitions together: the record appended first is dropped first.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import islice

from tufline.bus import Message, Record
from tufline.bus.embedded.schema import Place

RECORD_OVERHEAD_BYTES = 500
"""About how much memory a record takes in addition to its value."""


def cost(record: Record | Message) -> int:
    """Estimate how much memory a record takes.

    Args:
        record: a record, or a message that waits to be appended.

    Returns:
        The estimate, in bytes.
    """
    return len(record.value) + RECORD_OVERHEAD_BYTES


class Tail:
    """The newest records of a partition, and the readers that wait for more."""

    __slots__ = ("end", "records", "waiting")

    def __init__(self, end: int) -> None:
        """Start with nothing in memory.

        Args:
            end: the partition's next offset.
        """
        self.end = end
        self.records: deque[Record] = deque()
        self.waiting: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Wake all waiting readers."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def news(self, seconds: float) -> bool:
        """Wait until there may be new records.

        Args:
            seconds: the longest time to wait.

        Returns:
            False if the time ran out.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            self.waiting.discard(waiter)
        return True

    def since(self, offset: int, max_bytes: int) -> list[Record] | None:
        """Return the records from an offset on.

        Args:
            offset: below ``end``.
            max_bytes: about how many bytes of values to return; at least one record is returned.

        Returns:
            The records; None if the first of them is no longer in memory.
        """
        if not self.records or self.records[0].offset > offset:
            return None
        found: list[Record] = []
        size = 0
        # The log's offsets have no gaps, so the index in the deque is the difference of the offsets.
        for record in islice(self.records, offset - self.records[0].offset, None):
            size += len(record.value)
            if found and size > max_bytes:
                break
            found.append(record)
        return found


class Tails:
    """The tails of all partitions."""

    def __init__(self, ends: Mapping[Place, int], max_bytes: int) -> None:
        """Start with nothing in memory.

        Args:
            ends: the next offset of every partition.
            max_bytes: how much memory all tails may use together; the newest record is always kept.
        """
        self._tails = {place: Tail(end) for place, end in ends.items()}
        self._max_bytes = max_bytes
        self._bytes = 0
        self._order: deque[Tail] = deque()

    def __getitem__(self, place: Place) -> Tail:
        """Return the tail of a partition."""
        return self._tails[place]

    def append(self, record: Record) -> Tail:
        """Add a record that is durable.

        Args:
            record: the next one of its partition.

        Returns:
            The partition's tail; the caller wakes it once all records of the transaction are added.
        """
        tail = self._tails[record.topic, record.partition]
        tail.records.append(record)
        tail.end = record.offset + 1
        self._order.append(tail)
        self._bytes += cost(record)
        while self._bytes > self._max_bytes and len(self._order) > 1:
            self._bytes -= cost(self._order.popleft().records.popleft())
        return tail

    def wake_all(self) -> None:
        """Wake all waiting readers of all partitions."""
        for tail in self._tails.values():
            tail.wake()
