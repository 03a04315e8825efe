"""Reading the receipts of a task: what had no effect or was refused of records that are live."""

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
"""How far a receipt may stand before one of an earlier record, in offsets: the signer goes through a batch bin by bin."""


READ_BYTES: Final = 8_000_000
"""How many bytes of receipts are read of a partition for one task at most, where it is not known where they are."""


FETCH_BYTES: Final = 256 * 1024
"""How many bytes of receipts are decoded in one go: nothing else happens in that time."""


SKEW_MILLISECONDS: Final = 5000
"""How much earlier than a request's acceptance its receipts are looked for: two brokers' clocks may differ."""


class Found(NamedTuple):
    """What is known of records that are live.

    Attributes:
        receipts: of their changes.
        uncertain: offsets in ``artifacts`` of those of which a receipt may be missing here: one that can't be read may be theirs. Of their
            changes without a receipt nobody can say that they were applied.
    """

    receipts: list[ChangeReceipt]
    uncertain: frozenset[int] = frozenset()


async def fetch_or_pass(reader: Reader, passed: PassedOver, max_bytes: int) -> tuple[Record, ...] | None:
    """Fetch the next receipts that are visible, for an answer.

    Args:
        reader: of a partition of ``receipts``.
        passed: takes the next record if it is damaged.
        max_bytes: as for ``Reader.fetch``.

    Returns:
        The receipts; none at the end; None if the next record was damaged. The reader stands behind it then.

    Raises:
        BusError: if the log can't be read now.
    """
    try:
        return tuple(await reader.fetch(max_wait=0, max_bytes=max_bytes))
    except RecordUnreadableError as error:
        passed.damaged(error)
        reader.seek(error.offset + 1)
        return None


def read_receipt(record: Record, passed: PassedOver) -> Receipt | None:
    """Read a record of ``receipts`` for an answer, which one of a newer version does not hold up.

    Args:
        record: any that stands there.
        passed: takes it if it can't be read.

    Returns:
        The receipt; None if it can't be read.
    """
    try:
        return decode(receipt_decoder, record.value)
    except RecordError as error:
        passed.add(record, str(error))
        return None


def may_be_of(record: Record, request: str) -> bool:
    """Say whether a receipt that can't be read may be of a request.

    Args:
        record: of ``receipts``, whose key can be read.
        request: its name; empty for any.
    """
    return not request or record.key in {"", request}


async def of_records(
    bus: Bus, partition: int, offsets: Sequence[int], time: int, request: str = "", passed: PassedOver | None = None
) -> Found | None:
    """Read what had no effect or was refused of records that are live, from the time of their acceptance on: for who has no trail.

    Args:
        bus: the log.
        partition: of ``artifacts``.
        offsets: of the records, ascending; at least one.
        time: of acceptance, in milliseconds since 1970.
        request: that they are of; empty where that is not known.
        passed: takes the records that can't be read.

    Returns:
        Their receipts; those older than the retention of ``receipts`` are gone. None if some may stand behind ``READ_BYTES`` of others.

    Raises:
        BusError: if the log can't be read now.
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
            await asyncio.sleep(0)  # what is in memory is fetched without giving others their turn
    finally:
        await reader.close()
    return Found(found, wanted if is_uncertain else frozenset())
