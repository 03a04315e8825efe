"""The receipts of published records, which say which changes had no effect or were refused. They are read from the log when needed.

The signer keeps a skip list of where the receipts of each of its batches are (``tufline.records.receipt_index``). So for a record without
receipts nothing is read, and for a record with receipts, those of its batch are read once. Batches that were read stay in bounded memory
for a while, because the tasks that clients ask for at one time mostly belong to the same few batches.

A receipt that can't be read is skipped, and health names it. The changes that it may be about are **uncertain**: nobody can tell whether
they were applied.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from itertools import takewhile
from typing import Final, NamedTuple

from tufline.bus import Bus
from tufline.records import topics
from tufline.records.receipt_index import ReceiptIndex, Run, step
from tufline.records.receipts import ChangeReceipt, PublishReceipt
from tufline.runtime.passed_over import PassedOver
from tufline.views.task_receipts import FETCH_BYTES, FoundReceipts, fetch_or_pass, read_receipt

KEPT_BYTES: Final = 4_000_000
"""How many bytes of receipts are kept in memory, measured by their size on the log; in memory they take about three times as much."""

RECEIPT_BYTES: Final = 200
"""The typical size of a receipt, in bytes. A read asks for this much per receipt, so that it reads little beyond the end of a run."""

KEPT_STEPS: Final = 1024
"""How many runs are kept in memory, each with its list of older runs."""

MOST_UNREAD: Final = 100
"""How many requests with unreadable receipts are remembered for each run; beyond that, an unreadable receipt counts as any request's."""

ByOffset = dict[int, list[ChangeReceipt]]
"""An offset in ``artifacts``, to the receipts of the record there."""


class ReceiptsGoneError(Exception):
    """The receipts are older than the retention of ``receipts``, or no run has them."""


class ReceiptsUnreadableError(Exception):
    """The receipts can't be found, because a receipt that says where they are can't be read."""


class _Contents(NamedTuple):
    """A run: the receipts by their record, and the keys of unreadable receipts; the key is empty if the receipt may be any request's."""

    receipts: ByOffset
    unread: frozenset[str]

    def may_lack(self, request: str) -> bool:
        return bool(self.unread) and (not request or not self.unread.isdisjoint({"", request}))


class Span(NamedTuple):
    """Where in ``receipts`` the receipts of some records are: from ``start`` up to ``end`` (exclusive)."""

    start: int
    end: int


class TaskReceipts:
    """Reads the receipts of published records."""

    def __init__(self, bus: Bus, passed: PassedOver) -> None:
        """Know nothing yet.

        Args:
            bus: the log.
            passed: notified of receipts that can't be read.
        """
        self._bus = bus
        self.passed = passed
        self._older: OrderedDict[tuple[int, int], tuple[Run, ...]] = OrderedDict()
        self._read: OrderedDict[tuple[int, Run], tuple[int, _Contents]] = OrderedDict()
        self._size = 0
        self._one_at_a_time = asyncio.Lock()

    async def of(self, partition: int, offsets: Collection[int], trail: ReceiptIndex, request: str = "") -> FoundReceipts:
        """Read the receipts of records.

        Args:
            partition: of ``artifacts``.
            offsets: the offsets of the records, all of them published.
            trail: the partition's trail, at least as new as the published commit.
            request: the request that the records belong to; empty if that is unknown.

        Returns:
            The receipts; those of bulk requests are left out.

        Raises:
            ReceiptsGoneError: if they can't be found any more.
            ReceiptsUnreadableError: if they can't be found because of an unreadable receipt.
            BusError: if the log can't be read now.
        """
        found: list[ChangeReceipt] = []
        uncertain: set[int] = set()
        for offset in offsets:
            run, _ = await self._find(partition, offset, trail)
            if run is not None and offset < run.until:
                contents = await self._contents(partition, run, frozenset(offsets))
                found += contents.receipts.get(offset, ())
                if contents.may_lack(request):
                    uncertain.add(offset)
        return FoundReceipts(found, frozenset(uncertain))

    async def span(self, partition: int, first: int, last: int, trail: ReceiptIndex) -> Span | None:
        """Find where the receipts of a range of records are.

        Args:
            partition: of ``artifacts``.
            first: offset of the first record.
            last: offset of the last record.
            trail: the partition's trail, at least as new as the published commit.

        Returns:
            Where they are, perhaps among others; None if there are none.

        Raises:
            ReceiptsGoneError: if they can't be found any more.
            ReceiptsUnreadableError: if they can't be found because of an unreadable receipt.
            BusError: if the log can't be read now.
        """
        end, _ = await self._find(partition, last, trail)
        if end is None or end.until <= first:
            return None
        start, after = await self._find(partition, first, trail)
        if start is None or start.until <= first:
            start = after
        assert start is not None, "the run in which the range ends also starts in the range"
        return Span(start.first, end.last + 1)

    async def _find(self, partition: int, offset: int, trail: ReceiptIndex) -> tuple[Run | None, Run | None]:
        """Find the newest run that does not start after an offset, and the run after that."""
        if offset < trail.start:
            raise ReceiptsGoneError
        runs, after = trail.runs, None
        while (run := step(runs, offset)) is not None and run.since > offset:
            after = run
            runs = await self._runs_before(partition, run)
        return run, after

    async def _runs_before(self, partition: int, run: Run) -> tuple[Run, ...]:
        key = partition, run.first
        found = self._older.get(key)
        if found is None:
            reader = self._bus.reader(topics.RECEIPTS, partition, run.first)
            try:
                batch = await fetch_or_pass(reader, self.passed, 1)
                at = reader.position - 1 if batch is None else batch[0].offset if batch else -1
            finally:
                await reader.close()
            if at != run.first:
                raise ReceiptsGoneError
            receipt = read_receipt(batch[0], self.passed) if batch else None
            if receipt is None:
                raise ReceiptsUnreadableError
            if not isinstance(receipt, ChangeReceipt | PublishReceipt) or any(older.number >= run.number for older in receipt.runs):
                raise ReceiptsGoneError
            found = self._older[key] = receipt.runs
            if len(self._older) > KEPT_STEPS:
                self._older.popitem(last=False)
        return found

    async def _contents(self, partition: int, run: Run, wanted: Collection[int]) -> _Contents:
        async with self._one_at_a_time:  # so that several requests for one batch read it once, and memory holds one batch at a time
            if (known := self._read.get((partition, run))) is not None:
                self._read.move_to_end((partition, run))
                return known[1]
            found, size = await self._read_run(partition, run, wanted)
            if size <= KEPT_BYTES:
                self._read[partition, run] = size, found
                self._size += size
                while self._size > KEPT_BYTES:
                    self._size -= self._read.popitem(last=False)[1][0]
            return found

    async def _read_run(self, partition: int, run: Run, wanted: Collection[int]) -> tuple[_Contents, int]:
        """Read a run: all of it, or only the wanted receipts if the run is larger than the memory for receipts."""
        found: ByOffset = {}
        unread: set[str] = set()
        size = 0
        reader = self._bus.reader(topics.RECEIPTS, partition, run.first)
        try:
            while reader.position <= run.last:
                is_first = reader.position == run.first
                left = (run.last - reader.position + 1) * RECEIPT_BYTES
                batch = await fetch_or_pass(reader, self.passed, min(FETCH_BYTES, left))
                at = reader.position - 1 if batch is None else batch[0].offset if batch else -1
                if at < 0 or (is_first and at != run.first):
                    raise ReceiptsGoneError
                if batch is None and at <= run.last:
                    unread.add("")
                for record in takewhile(lambda record: record.offset <= run.last, batch or ()):
                    receipt = read_receipt(record, self.passed)
                    if receipt is None:
                        unread.add(record.key if len(unread) < MOST_UNREAD else "")
                    if not isinstance(receipt, ChangeReceipt) or receipt.ranges or (size > KEPT_BYTES and receipt.offset not in wanted):
                        continue
                    size += len(record.value)
                    found.setdefault(receipt.offset, []).append(receipt)
                if size > KEPT_BYTES:
                    found = {offset: some for offset, some in found.items() if offset in wanted}
                await asyncio.sleep(0)  # fetching records from memory does not let other tasks run
        finally:
            await reader.close()
        return _Contents(found, frozenset(unread)), size
