"""Topic ``receipts``: what became of each event of the inbox, and what did not simply happen. Its records, and reading them.

Partition i has the change receipts of partition i of ``artifacts``, from the signer, and the event receipts of partition i of ``inbox``,
from ingest.
"""

from typing import Final, Literal

import msgspec

from tufline import records, topics
from tufline.bus import Bus
from tufline.cursor import Cursor
from tufline.records import Versioned, decoder

WINDOW: Final = 50_000
"""How far a receipt may stand before one of an earlier record, in offsets: the signer goes through a batch bin by bin."""

SKEW_MILLISECONDS: Final = 5000
"""How much earlier than a request's acceptance its receipts are looked for: two brokers' clocks may differ."""


class ChangeReceipt(Versioned, frozen=True, kw_only=True, tag="change", tag_field="kind"):
    """Topic ``receipts``, same partition as the change, key: request. A change that did not simply happen.

    Attributes:
        offset: in ``artifacts``, of the record with the change.
        index: of the change in it.
        path: the target path.
        outcome: what became of it.
        reason: for a human; empty where ``outcome`` says it all.
    """

    offset: int
    index: int
    path: str
    outcome: Literal["not_found", "unchanged", "refused"]
    reason: str = ""


class EventReceipt(Versioned, frozen=True, kw_only=True, tag="event", tag_field="kind"):
    """Topic ``receipts``, same partition as the event, key: its source. What became of an event of ``inbox``.

    Attributes:
        partition: of ``inbox``.
        offset: in it.
        source: of the event; empty where that can't be read.
        id: of the event; empty where that can't be read.
        outcome: accepted, a duplicate of an accepted one, or rejected.
        task: task id of the accepted event, or of the one that this is a duplicate of; empty for a rejected one.
        reason: why it was rejected, for a human; empty otherwise.
    """

    partition: int
    offset: int
    source: str
    id: str
    outcome: Literal["accepted", "duplicate", "rejected"]
    task: str = ""
    reason: str = ""


Receipt = ChangeReceipt | EventReceipt
"""What may stand in ``receipts``."""

receipt_decoder: Final[msgspec.json.Decoder[Receipt]] = decoder(Receipt)


async def of_task(bus: Bus, cursor: Cursor) -> list[ChangeReceipt]:
    """Read what did not simply happen of a task that is done.

    Args:
        bus: the log.
        cursor: of the task, with the positions of all its records.

    Returns:
        Its change receipts; those older than the retention of ``receipts`` are gone.

    Raises:
        BusError: if the log can't be read now.
    """
    found = []
    for partition, offsets in cursor.positions.items():
        start = await bus.offset_at(topics.RECEIPTS, partition, cursor.time - SKEW_MILLISECONDS)
        reader = bus.reader(topics.RECEIPTS, partition, start)
        passed = False
        try:
            while not passed and (batch := await reader.fetch(max_wait=0)):
                for record in batch:
                    receipt = records.decode(receipt_decoder, record.value)
                    if isinstance(receipt, ChangeReceipt):
                        passed = receipt.offset > offsets[-1] + WINDOW
                        if receipt.offset in offsets:
                            found.append(receipt)
        finally:
            await reader.close()
    return found
