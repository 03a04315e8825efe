"""What this process accepted lately, so that most tasks are told without reading the log back: on Kafka that costs a connection each.

In: the records of a request when the log has them; and from ``receipts`` what did not simply happen. Out: the changes of a task and its
receipts, or nothing where this process does not know all of it; then the log does.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from tufline import records, topics
from tufline.bus import Bus, Message, Position
from tufline.cursor import Cursor
from tufline.receipts import ChangeReceipt
from tufline.receipts_follower import Receipts
from tufline.records import Changes
from tufline.tasks import all_of

KEPT_BYTES: Final = 8_000_000
"""How many bytes of accepted records are kept."""

Place = tuple[int, int]
"""A partition of ``artifacts`` and an offset in it."""


class Recent:
    """The records that this process accepted lately, and the receipts since it began."""

    def __init__(self, bus: Bus) -> None:
        """Know nothing yet.

        Args:
            bus: the log.
        """
        self._bus = bus
        self._receipts: list[Receipts] = []
        self._first: list[int] = []
        self._values: OrderedDict[Place, bytes] = OrderedDict()
        self._size = 0

    async def run(self) -> None:
        """Follow ``receipts``, for ever. What was accepted before is forgotten: its receipts may have been missed."""
        self._values.clear()
        self._size = 0
        partitions = range(self._bus.partitions(topics.RECEIPTS))
        following = [Receipts(self._bus, partition, await self._bus.end(topics.RECEIPTS, partition)) for partition in partitions]
        # In this order: of what comes to the log after these ends, the receipts come after those.
        self._first = [await self._bus.end(topics.ARTIFACTS, partition) for partition in partitions]
        self._receipts = following
        try:
            await all_of(*(one.follow(lambda _: None) for one in following))
        finally:
            self._receipts = []

    def accepted(self, messages: Sequence[Message], positions: Sequence[Position]) -> None:
        """Take note of a request that the log has.

        Args:
            messages: its records.
            positions: of them.
        """
        if not self._receipts:
            return
        for message, position in zip(messages, positions, strict=True):
            if position.offset < self._first[position.partition]:
                continue
            self._values[position.partition, position.offset] = message.value
            self._size += len(message.value)
        while self._size > KEPT_BYTES:
            self._size -= len(self._values.popitem(last=False)[1])

    def knows(self, cursor: Cursor) -> bool:
        """Say whether this process accepted all of a task, and still knows it.

        Args:
            cursor: of the task, with the positions of all its records.
        """
        places = ((partition, offset) for partition, offsets in cursor.positions.items() for offset in offsets)
        return bool(self._receipts) and all(place in self._values for place in places)

    async def find(self, cursor: Cursor) -> tuple[list[Changes], list[ChangeReceipt]] | None:
        """Give the records of a task that is done, and its receipts.

        Args:
            cursor: of the task, with the positions of all its records.

        Returns:
            Both, in the order of the cursor; None where this process does not know all of it.

        Raises:
            BusError: if the log can't be asked now.
        """
        if not self.knows(cursor):
            return None
        places = [(partition, offset) for partition, offsets in cursor.positions.items() for offset in offsets]
        changes = [records.decode(records.changes_decoder, self._values[place]) for place in places]
        receipts = list(self._receipts)
        for partition in cursor.positions:
            # What is live was made after its receipts: they are only to be read.
            await receipts[partition].caught_up()
        return changes, [one for partition, offset in places for one in receipts[partition].remarks.get(offset, ())]
