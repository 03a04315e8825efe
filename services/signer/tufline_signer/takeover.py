"""Taking over a partition of ``heads``, with all that it says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tufline import records, takeover, topics
from tufline.bus import Bus, Record, Writer
from tufline.records import Claim, Committed, Head, Progress


@dataclass(slots=True)
class Owned:
    """A partition of ``heads`` that is ours.

    Attributes:
        writer: the one that may write it.
        partition: its number.
        heads: role to its newest head.
        claimed_at: when the bus took our claim, in milliseconds since 1970.
        progress: the newest progress of this partition's writer; None if there is none yet.
    """

    writer: Writer
    partition: int
    claimed_at: int
    heads: dict[str, Head] = field(default_factory=dict)
    progress: Progress | Committed | None = None

    def take(self, record: Record) -> None:
        """Take in the next record of the partition.

        Args:
            record: of ``heads``.
        """
        match records.decode(records.heads_decoder, record.value):
            case Head() as head:
                self.heads[record.key] = head
            case Progress() | Committed() as progress:
                self.progress = progress
            case Claim():
                pass


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
    async with takeover.take_over(bus, writer_id, topics.HEADS, partition) as taken:
        owned = Owned(taken.writer, partition, taken.claim.time)
        await takeover.read_up_to(bus, taken.claim, owned.take)
        yield owned
