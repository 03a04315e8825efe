"""Taking over a partition that has only one writer: fence, claim, restore.

The order makes it safe on any bus. Opening the writer fences the previous one and ends its transaction. The claim comes after everything
that the previous writer wrote, so a reader that reads up to the claim has read all of it. Neither a group's offset nor an end offset
guarantees that.

In: a writer id and the partition that belongs to it. Out: the writer, and the partition's records up to the claim.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Bus, Message, Position, Record, Writer
from tufline.bus.scan import scan
from tufline.errors import BusError
from tufline.records import CLAIM_KEY, Claim
from tufline.runtime.passed_over import PassedOver

RESTORE_WAIT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class TakenPartition:
    """A partition that was taken over.

    Attributes:
        writer: the partition's only writer.
        claim: the position of this writer's claim.
    """

    writer: Writer
    claim: Position


@asynccontextmanager
async def take_over(bus: Bus, writer_id: str, topic: str, partition: int) -> AsyncIterator[TakenPartition]:
    """Become the only writer of a partition. The writer is closed after the block.

    Args:
        bus: the log.
        writer_id: the id of this partition's writer.
        topic: the topic in which the writer records its work, such as ``heads``.
        partition: the partition of that topic that only this writer id writes.

    Yields:
        The partition.

    Raises:
        FencedError: if another writer took it over meanwhile.
        BusError: if the bus can't be reached.
    """
    writer = await bus.writer(writer_id)
    try:
        (claim,) = await writer.commit([Message(topic, CLAIM_KEY, records.encode(Claim(writer=writer_id)), partition)])
        yield TakenPartition(writer, claim)
    finally:
        await writer.close()


async def read_up_to(
    bus: Bus,
    claim: Position,
    apply: Callable[[Record], None],
    start: int = 0,
    passed: PassedOver | None = None,
    max_bytes: int = DEFAULT_FETCH_BYTES,
) -> None:
    """Read a partition that was taken over, up to and including the claim.

    Args:
        bus: the log.
        claim: the claim's position.
        apply: called with each record, in order.
        start: the lowest offset to read.
        passed: notified of damaged records, which are skipped; without it they are an error.
        max_bytes: about how many bytes of values to apply before other tasks run.

    Raises:
        RecordUnreadableError: at a damaged record, if ``passed`` is not set.
        BusError: if the claim can't be read yet, because another writer's transaction may be open.
    """
    last = -1
    end = claim.offset + 1
    async for batch in scan(
        bus, claim.topic, claim.partition, start, end, max_wait=RESTORE_WAIT_SECONDS, max_bytes=max_bytes, passed=passed
    ):
        for record in batch:
            apply(record)
        await asyncio.sleep(0)  # a fetch from memory does not yield to other tasks
        last = batch[-1].offset
    if last < claim.offset:
        raise BusError(f"the claim at offset {claim.offset} of {claim.topic}/{claim.partition} can't be read yet: try again")
