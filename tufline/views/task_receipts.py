"""Reading the receipts of a task: the changes of live records that had no effect or were refused."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from tufline.bus import Bus, Reader, Record
from tufline.errors import RecordError, RecordUnreadableError
from tufline.records import decode, topics
from tufline.records.receipts import ChangeReceipt, Receipt, receipt_decoder
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver

WINDOW: Final = 50_000
"""How far receipts may be out of order, in offsets: the signer processes a batch bin by bin, so the receipt of a record may come before the
receipts of records whose offsets are lower by up to this number."""


READ_BYTES: Final = 8_000_000
"""The most bytes of receipts that are read in a partition for one task, if the place of its receipts is unknown."""


FETCH_BYTES: Final = 256 * 1024
"""How many bytes of receipts are decoded at once, which blocks the event loop for that time."""


SKEW_MILLISECONDS: Final = 5000
"""How long before a request's acceptance the search for its receipts starts, because brokers' clocks may differ."""


class FoundReceipts(NamedTuple):
    """The receipts of live records.

    Attributes:
        receipts: the receipts of their changes.
        uncertain: offsets in ``artifacts`` of the records that an unreadable receipt may belong to. It is unknown whether their changes
            without a receipt were applied.
    """

    receipts: list[ChangeReceipt]
    uncertain: frozenset[int] = frozenset()


async def fetch_or_pass(reader: Reader, passed: PassedOver, max_bytes: int) -> tuple[Record, ...] | None:
    """Fetch the next visible receipts, without waiting, and skip at most one damaged record.

    Args:
        reader: a reader of a partition of ``receipts``.
        passed: notified of the next record if it is damaged.
        max_bytes: see ``Reader.fetch``.

    Returns:
        The receipts; empty at the end; None if the next record was damaged, and the reader has moved past it.

    Raises:
        BusError: if the bus is temporarily unavailable.
    """
    try:
        return tuple(await reader.fetch(max_wait=0, max_bytes=max_bytes))
    except RecordUnreadableError as error:
        passed.damaged(error)
        reader.seek(error.offset + 1)
        return None


def read_receipt(record: Record, passed: PassedOver) -> Receipt | None:
    """Decode a record of ``receipts``. One with a newer schema counts as unreadable and raises no error, so that a query can be answered.

    Args:
        record: any record of the topic.
        passed: notified of the record if it can't be read.

    Returns:
        The receipt; None if it can't be read.
    """
    try:
        return decode(receipt_decoder, record.value)
    except RecordError as error:
        passed.add(record, str(error))
        return None


def may_be_of(record: Record, request: str) -> bool:
    """Return whether an unreadable receipt may belong to a request.

    Args:
        record: a record of ``receipts``; its key is readable.
        request: the request's name; empty if unknown.
    """
    return not request or record.key in {"", request}


async def of_records(
    bus: Bus, partition: int, offsets: Sequence[int], time: int, request: str = "", passed: PassedOver | None = None
) -> FoundReceipts | None:
    """Read the receipts of live records. The search starts at the time of acceptance, as the caller does not know the receipts' offsets.

    Args:
        bus: the log.
        partition: the partition of ``artifacts``, from 0.
        offsets: ascending offsets of the records; at least one.
        time: when they were accepted, in milliseconds since 1970.
        request: the name of the request that they belong to; empty if unknown.
        passed: notified of records that can't be read, which are skipped.

    Returns:
        Their receipts, except those older than the retention of ``receipts``. None if the search stopped after ``READ_BYTES``.

    Raises:
        BusError: if the bus is temporarily unavailable.
    """
    found = []
    wanted = frozenset(offsets)
    room = READ_BYTES
    reader = bus.reader(topics.RECEIPTS, partition, await bus.offset_at(topics.RECEIPTS, partition, max(0, time - SKEW_MILLISECONDS)))
    passed = passed or PassedOver(Health(), topics.RECEIPTS)
    is_behind = is_uncertain = False
    try:
        while not is_behind and (batch := await fetch_or_pass(reader, passed, FETCH_BYTES)) != ():
            is_uncertain = is_uncertain or batch is None
            for record in batch or ():
                receipt = read_receipt(record, passed)
                if receipt is None:
                    is_uncertain = is_uncertain or may_be_of(record, request)
                elif isinstance(receipt, ChangeReceipt):
                    is_behind = receipt.offset > offsets[-1] + WINDOW
                    if receipt.offset in wanted:
                        found.append(receipt)
                room -= len(record.value)
            if room < 0:
                return None
            await asyncio.sleep(0)  # a fetch from memory does not yield to other tasks
    finally:
        await reader.close()
    return FoundReceipts(found, wanted if is_uncertain else frozenset())
