"""Taking over a partition that only one writer writes: fence, claim, restore.

The order is what makes it safe on any bus. Getting the writer fences the old one and ends its transaction. The claim stands behind all that
the old one wrote; who reads up to it has read everything. Neither a group's offset nor an end offset could say that.

In: a writer id and the partition that is its own. Out: the writer, and what stands in the partition up to the claim.
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
class Taken:
    """A partition that is ours.

    Attributes:
        writer: the one that may write it.
        claim: where in the partition ours stands.
    """

    writer: Writer
    claim: Position


@asynccontextmanager
async def take_over(bus: Bus, writer_id: str, topic: str, partition: int) -> AsyncIterator[Taken]:
    """Become the one writer of a partition. After the block the writer is given back.

    Args:
        bus: to write.
        writer_id: of this partition's writer.
        topic: that keeps what its writers did, such as ``heads``.
        partition: of that topic, which nobody but this writer writes.

    Yields:
        The partition.

    Raises:
        FencedError: if another writer took it over meanwhile.
        BusError: if the bus does not answer.
    """
    writer = await bus.writer(writer_id)
    try:
        (claim,) = await writer.commit([Message(topic, CLAIM_KEY, records.encode(Claim(writer=writer_id)), partition)])
        yield Taken(writer, claim)
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
    """Read a partition that was taken over, up to the claim and with it.

    Args:
        bus: to read.
        claim: where it stands.
        apply: called with each record, in order.
        start: the lowest offset of interest.
        passed: takes damaged records; without it they are an error.
        max_bytes: about how many bytes of values are applied in one go.

    Raises:
        RecordUnreadableError: at a damaged record, without ``passed``.
        BusError: if the claim can't be read back yet: another writer's transaction may be open.
    """
    last = -1
    end = claim.offset + 1
    async for batch in scan(
        bus, claim.topic, claim.partition, start, end, max_wait=RESTORE_WAIT_SECONDS, max_bytes=max_bytes, passed=passed
    ):
        for record in batch:
            apply(record)
        await asyncio.sleep(0)  # what is in memory is fetched without giving others their turn
        last = batch[-1].offset
    if last < claim.offset:
        raise BusError(f"the claim at offset {claim.offset} of {claim.topic} {claim.partition} can't be read back yet")
