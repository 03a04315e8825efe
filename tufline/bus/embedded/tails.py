"""The newest records of all partitions, in memory: what readers at the end read, and where they wait.

In: records as they become durable. Out: records to readers that are not far behind; the others read the file. Memory is bounded over all
partitions together: the oldest record of all goes first.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import islice

from tufline.bus import Message, Record
from tufline.bus.embedded.schema import Place

RECORD_OVERHEAD_BYTES = 500
"""What a record takes in memory beside its value, about."""


def cost(record: Record | Message) -> int:
    """Say what a record takes in memory.

    Args:
        record: any.

    Returns:
        About how many bytes.
    """
    return len(record.value) + RECORD_OVERHEAD_BYTES


class Tail:
    """The newest records of a partition, and who waits for more."""

    __slots__ = ("end", "records", "waiting")

    def __init__(self, end: int) -> None:
        """Begin with nothing in memory.

        Args:
            end: the next offset.
        """
        self.end = end
        self.records: deque[Record] = deque()
        self.waiting: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Wake all who wait."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def news(self, seconds: float) -> bool:
        """Wait until there may be something new.

        Args:
            seconds: how long at most.

        Returns:
            False if the time is over.
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
        """Give the records from an offset on.

        Args:
            offset: below ``end``.
            max_bytes: about how many bytes of values to give; at least one record is given.

        Returns:
            The records; None if some of them are not in memory.
        """
        if not self.records or self.records[0].offset > offset:
            return None
        found: list[Record] = []
        size = 0
        # The log numbers without gaps, so the place in memory is the distance of the offsets.
        for record in islice(self.records, offset - self.records[0].offset, None):
            size += len(record.value)
            if found and size > max_bytes:
                break
            found.append(record)
        return found


class Tails:
    """The tails of all partitions."""

    def __init__(self, ends: Mapping[Place, int], max_bytes: int) -> None:
        """Begin with nothing in memory.

        Args:
            ends: the next offset of every partition.
            max_bytes: how much all tails may hold together; the newest record of all is always held.
        """
        self._tails = {place: Tail(end) for place, end in ends.items()}
        self._max_bytes = max_bytes
        self._bytes = 0
        self._order: deque[Tail] = deque()

    def __getitem__(self, place: Place) -> Tail:
        """The tail of a partition."""
        return self._tails[place]

    def append(self, record: Record) -> Tail:
        """Take a record that is durable.

        Args:
            record: the next one of its partition.

        Returns:
            The tail that it is in, to be woken when all records of its transaction are in.
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
        """Wake all who wait, on any partition."""
        for tail in self._tails.values():
            tail.wake()
