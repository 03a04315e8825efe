"""Following ``receipts``: what did not simply happen of the records that are under way, without reading back for each of them.

In: one partition of ``receipts``. Out: the change receipts of the last records, by their offset in ``artifacts``; and each event receipt as
it comes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog

from tufline import topics
from tufline.bus import Bus
from tufline.errors import BusError
from tufline.follow import RETRY_SECONDS, readable
from tufline.receipts import ChangeReceipt, EventReceipt, receipt_decoder

POLL_SECONDS: Final = 2.0
"""How long one fetch waits for receipts."""

REMARKS_KEPT: Final = 50_000
"""Of how many records change receipts are kept."""

_log = structlog.get_logger(__name__)


class Receipts:
    """One partition of ``receipts``, followed from an offset on."""

    def __init__(self, bus: Bus, partition: int, start: int) -> None:
        """Know nothing yet.

        Args:
            bus: the log.
            partition: of ``receipts``.
            start: the offset to begin at.
        """
        self._bus = bus
        self._partition = partition
        self._start = start
        self._read_to = start
        self._has_ended = False
        self._changed = asyncio.Condition()
        self.remarks: OrderedDict[int, list[ChangeReceipt]] = OrderedDict()
        """Offset in ``artifacts`` to what did not simply happen of that record; of the last ``REMARKS_KEPT`` records that have any."""

    async def follow(self, take_event: Callable[[EventReceipt], None]) -> None:
        """Follow the partition, for ever.

        Args:
            take_event: called with each event receipt.

        Raises:
            BusError: one that trying again can't mend.
        """
        reader = self._bus.reader(topics.RECEIPTS, self._partition, self._start)
        try:
            while True:
                try:
                    # Where nothing is left below the end as it was before, all of that is read, whatever offsets it had.
                    end = await self._bus.end(topics.RECEIPTS, self._partition)
                    batch = await reader.fetch(max_wait=0)
                    if not batch:
                        await self._has_read(max(end, reader.position))
                        batch = await reader.fetch(max_wait=POLL_SECONDS)
                except BusError as error:
                    if not error.retriable:
                        raise
                    _log.warning("receipts.retry", partition=self._partition, error=str(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                for record in batch:
                    receipt = readable(receipt_decoder, record)
                    if isinstance(receipt, EventReceipt):
                        take_event(receipt)
                    elif receipt is not None:
                        self._keep(receipt)
                await self._has_read(reader.position)
        finally:
            self._has_ended = True
            async with self._changed:
                self._changed.notify_all()
            await reader.close()

    def _keep(self, receipt: ChangeReceipt) -> None:
        self.remarks.setdefault(receipt.offset, []).append(receipt)
        if len(self.remarks) > REMARKS_KEPT:
            self.remarks.popitem(last=False)

    async def _has_read(self, offset: int) -> None:
        async with self._changed:
            self._read_to = max(self._read_to, offset)
            self._changed.notify_all()

    async def caught_up(self) -> None:
        """Wait until all that is visible now is read.

        Raises:
            BusError: if the bus can't be asked, or the following ends before.
        """
        end = await self._bus.end(topics.RECEIPTS, self._partition)
        async with self._changed:
            await self._changed.wait_for(lambda: self._read_to >= end or self._has_ended)
        if self._read_to < end:
            raise BusError("receipts are not followed any more: ask again")
