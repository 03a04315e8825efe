"""Following ``receipts``: keeps recent receipts in memory, so that a lookup needs no read from the log.

In: one partition of ``receipts``. Out: the newest change receipts, by the record's offset in ``artifacts``, in bounded memory; and each
event receipt as it arrives.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from tufline.bus import Bus
from tufline.bus.follow import RETRY_SECONDS
from tufline.bus.scan import fetch_past_damaged
from tufline.errors import BusError
from tufline.records import topics
from tufline.records.receipts import ChangeReceipt, EventReceipt, receipt_decoder
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.views.task_receipts import FETCH_BYTES

POLL_SECONDS: Final = 2.0
"""How long one fetch waits for receipts."""

CHANGE_RECEIPTS_BYTES: Final = 16_000_000
"""How much memory the change receipts of all partitions that a process follows may take."""

RECEIPT_OVERHEAD_BYTES: Final = 500
"""How much memory a change receipt takes in addition to its path and reason: the objects, and its place in a list and a dictionary."""

_log = structlog.get_logger(__name__)


class Receipts:
    """One partition of ``receipts``, followed from an offset on."""

    def __init__(
        self, bus: Bus, partition: int, start: int, most_bytes: int = CHANGE_RECEIPTS_BYTES, passed: PassedOver | None = None
    ) -> None:
        """Start with no receipts; ``follow`` reads them.

        Args:
            bus: the log.
            partition: the partition of ``receipts``, from 0.
            start: the offset to start at.
            most_bytes: how much memory change receipts may take.
            passed: notified of records that can't be read; they are skipped in any case.
        """
        self._bus = bus
        self._partition = partition
        self._passed = passed or PassedOver(Health(), topics.RECEIPTS)
        self._start = start
        self._read_to = start
        self._has_ended = False
        self._most_bytes = most_bytes
        self._bytes = 0
        self._changed = asyncio.Condition()
        self._change_receipts: OrderedDict[int, list[ChangeReceipt]] = OrderedDict()
        self._forgotten = 0
        self._unread = self._passed.count

    @property
    def memory(self) -> int:
        """An estimate of the memory of the change receipts, in bytes."""
        return self._bytes

    def change_receipts(self, offsets: Sequence[int]) -> list[ChangeReceipt] | None:
        """Return the receipts of live records: of their changes that had no effect or were refused. Call ``caught_up`` first.

        Args:
            offsets: ascending offsets of records in ``artifacts`` that were accepted since ``follow`` started.

        Returns:
            The receipts, except those of bulk requests. None if some may be missing because they were dropped to limit the memory, or
            can't be read.
        """
        if offsets and offsets[0] < self._forgotten:
            return None
        return [receipt for offset in offsets for receipt in self._change_receipts.get(offset, ())]

    async def follow(self, take_event: Callable[[EventReceipt], None]) -> None:
        """Follow the partition until cancelled.

        Args:
            take_event: called with each event receipt.

        Raises:
            BusError: if a retry can't help.
        """
        reader = self._bus.reader(topics.RECEIPTS, self._partition, self._start)
        try:
            while True:
                try:
                    # If the fetch returns nothing, everything below the end that was read before it has been read.
                    end = await self._bus.end(topics.RECEIPTS, self._partition)
                    batch = await fetch_past_damaged(reader, self._passed, max_wait=0, max_bytes=FETCH_BYTES)
                    if not batch:
                        await self._has_read(max(end, reader.position))
                        batch = await fetch_past_damaged(reader, self._passed, max_wait=POLL_SECONDS, max_bytes=FETCH_BYTES)
                    for record in batch:
                        receipt = self._passed.decode(receipt_decoder, record)
                        if isinstance(receipt, EventReceipt):
                            take_event(receipt)
                        elif isinstance(receipt, ChangeReceipt):
                            self._keep(receipt)
                    await self._has_read(reader.position)
                except BusError as error:
                    if not error.retriable:
                        raise
                    _log.warning("receipts.retry", partition=self._partition, error=str(error))
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._has_ended = True
            async with self._changed:
                self._changed.notify_all()
            await reader.close()

    def _keep(self, receipt: ChangeReceipt) -> None:
        if receipt.ranges:
            return  # of a bulk request; nobody waits for those here
        self._change_receipts.setdefault(receipt.offset, []).append(receipt)
        self._bytes += _memory_of(receipt)
        while self._bytes > self._most_bytes:
            offset, receipts = self._change_receipts.popitem(last=False)
            self._forgotten = max(self._forgotten, offset + 1)
            self._bytes -= sum(map(_memory_of, receipts))

    async def _has_read(self, offset: int) -> None:
        if (count := self._passed.count) > self._unread:
            # The unreadable receipt may belong to any record that the partition has by now, so none of them surely has all its receipts.
            self._forgotten = max(self._forgotten, await self._bus.end(topics.ARTIFACTS, self._partition))
            self._unread = count
        async with self._changed:
            self._read_to = max(self._read_to, offset)
            self._changed.notify_all()

    async def caught_up(self) -> None:
        """Wait until every receipt that is visible now has been read.

        Raises:
            BusError: if the bus is temporarily unavailable, or ``follow`` ends first.
        """
        end = await self._bus.end(topics.RECEIPTS, self._partition)
        async with self._changed:
            await self._changed.wait_for(lambda: self._read_to >= end or self._has_ended)
        if self._read_to < end:
            raise BusError("receipts are no longer being followed: ask again")


def _memory_of(receipt: ChangeReceipt) -> int:
    return RECEIPT_OVERHEAD_BYTES + len(receipt.path) + len(receipt.reason)
