"""Taking a partition of ``heads`` over: fence, claim, restore.

The order is what makes it safe on any bus. Getting the writer fences the old one and ends its transaction. The claim stands behind all that
the old one wrote; who reads up to it has read everything. Neither a group's offset nor an end offset could say that.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tufline import records, topics
from tufline.bus import Bus, Message, Writer
from tufline.errors import BusError
from tufline.records import CLAIM_KEY, Claim, Committed, Head, Progress

RESTORE_WAIT_SECONDS: Final = 10.0


@dataclass(slots=True)
class Owned:
    """A partition of ``heads`` that is ours.

    Attributes:
        writer: the one that may write it.
        partition: its number.
        heads: role to its newest head.
        progress: the newest progress of this partition's writer; None if there is none yet.
    """

    writer: Writer
    partition: int
    heads: dict[str, Head] = field(default_factory=dict)
    progress: Progress | Committed | None = None


@asynccontextmanager
async def take_over(bus: Bus, writer_id: str, partition: int) -> AsyncIterator[Owned]:
    """Become the one writer of a partition of ``heads``, and read back what it says. After the block the writer is given back.

    Args:
        bus: to write and read.
        writer_id: of this partition's writer.
        partition: of ``heads``.

    Yields:
        The partition with all that it says.

    Raises:
        FencedError: if another writer took it over meanwhile.
        BusError: if the bus does not answer.
    """
    writer = await bus.writer(writer_id)
    try:
        claim = Message(topics.HEADS, CLAIM_KEY, records.encode(Claim(writer=writer_id)), partition)
        (claimed,) = await writer.commit([claim])
        owned = Owned(writer, partition)
        await _restore(bus, owned, claimed.offset)
        yield owned
    finally:
        await writer.close()


async def _restore(bus: Bus, owned: Owned, claimed: int) -> None:
    reader = bus.reader(topics.HEADS, owned.partition, 0)
    try:
        while reader.position <= claimed:
            batch = await reader.fetch(max_wait=RESTORE_WAIT_SECONDS)
            if not batch:
                raise BusError(f"the claim at offset {claimed} of heads {owned.partition} can't be read back yet")
            for record in batch:
                match records.decode(records.heads_decoder, record.value):
                    case Head() as head:
                        owned.heads[record.key] = head
                    case Progress() | Committed() as progress:
                        owned.progress = progress
                    case Claim():
                        pass
    finally:
        await reader.close()
