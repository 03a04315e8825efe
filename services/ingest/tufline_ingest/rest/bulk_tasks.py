"""The result of a bulk request: how many of its changes were refused, and which, page by page.

A bulk request may have millions of changes, and all may be refused. The request's receipts are between those of its first and its last
record. A page reads a bounded part of that range, and says where the next page continues. Receipts of a bulk request name changes by their
index; the paths are in the request's records. A record between these two that was lost before it was applied (docs/how-to/lost-input.md)
counts as refused: it may have been one of the request's. So does a receipt that can't be read: nobody can tell whether it said that a
change of the request was refused, and health names it.
"""

import base64
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tufline import records
from tufline.bus import Bus
from tufline.decoding import decode as decode_strictly
from tufline.errors import RecordError, RecordUnreadableError
from tufline.records import Changes, Remove, topics
from tufline.records.cursor import MAX_OFFSET, Cursor
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt
from tufline.runtime.passed_over import PassedOver
from tufline.views.task_receipts import FETCH_BYTES, fetch_or_pass, may_be_of, read_receipt
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.schemas.tasks import RefusedArtifact
from tufline_ingest.rest.task_receipts import ReceiptsUnreadableError, Span, TaskReceipts

PAGE_REFUSALS: Final = 1000
"""A page ends as soon as it has this many refused changes."""

PAGE_BYTES: Final = 8_000_000
"""A page ends when this many bytes of receipts and of the request's records were read for it."""

KEPT_RECORDS: Final = 8
"""How many of the request's records are kept in memory while a page is made."""

UNREADABLE: Final = "it is unknown whether it was refused: the receipt at offset {} of receipts/{} can't be read (see the health of ingest)"
UNREACHABLE: Final = "it is unknown which changes were refused: their receipts in receipts/{} can't be found (see the health of ingest)"

MAX_AFTER_LENGTH: Final = 100
NOT_FROM_AN_ANSWER: Final = "after is not from an answer: use result.details.after exactly as it was answered, or leave it out"


class PageStart(msgspec.Struct, frozen=True, array_like=True):
    """Where a page starts.

    Attributes:
        partition: of ``receipts``.
        position: the offset in it.
        refused: how many refused changes are on the previous pages.
    """

    partition: int = -1
    position: int = 0
    refused: int = 0


_decoder: Final = msgspec.msgpack.Decoder(PageStart)


class Page(NamedTuple):
    """A page: the refused changes in it; how many there were up to its end; and where the next one starts, None after the last."""

    artifacts: list[RefusedArtifact]
    refused: int
    after: str | None


def parse_place(text: str | None) -> PageStart:
    """Read the position at which a page starts.

    Args:
        text: the parameter ``after`` from the previous page; None for the first page.

    Returns:
        The place.

    Raises:
        BadRequestError: if it is not from a page.
    """
    if text is None:
        return PageStart()
    try:
        if len(text) > MAX_AFTER_LENGTH:
            raise ValueError
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise BadRequestError(NOT_FROM_AN_ANSWER) from None
    place = decode_strictly(_decoder, raw, lambda _: BadRequestError(NOT_FROM_AN_ANSWER))
    if min(place.partition, place.position, place.refused) < 0 or place.position > MAX_OFFSET:
        raise BadRequestError(NOT_FROM_AN_ANSWER)
    return place


def _write_place(place: PageStart) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).rstrip(b"=").decode()


class _Reading:
    """The refused changes of one request, collected until a page is full."""

    def __init__(self, bus: Bus, passed: PassedOver, request: str) -> None:
        self._bus = bus
        self._passed = passed
        self._request = request
        self._records: OrderedDict[tuple[int, int], Changes | None] = OrderedDict()
        self._bytes = 0
        self._removed: dict[str, int] = {}
        self.artifacts: list[RefusedArtifact] = []

    @property
    def is_full(self) -> bool:
        return len(self.artifacts) >= PAGE_REFUSALS or self._bytes >= PAGE_BYTES

    async def read(self, partition: int, start: int, end: int, of: range) -> int | None:
        """Read receipts of the records at some offsets; return the offset to continue from, or None if all were read."""
        reader = self._bus.reader(topics.RECEIPTS, partition, start)
        try:
            while reader.position < end:
                batch = await fetch_or_pass(reader, self._passed, FETCH_BYTES)
                if batch is None:
                    damaged = reader.position - 1
                    if self.is_full or damaged >= end:
                        return damaged if damaged < end else None
                    self.artifacts.append(RefusedArtifact("", UNREADABLE.format(damaged, partition)))
                    continue
                for record in batch:
                    if self.is_full or record.offset >= end:
                        return record.offset if record.offset < end else None
                    self._bytes += len(record.value)
                    receipt = read_receipt(record, self._passed)
                    if receipt is None and may_be_of(record, self._request):
                        self.artifacts.append(RefusedArtifact("", UNREADABLE.format(record.offset, partition)))
                    if not isinstance(receipt, ChangeReceipt) or receipt.outcome != "refused":
                        continue
                    if record.key == self._request:
                        await self._take(partition, receipt)
                    elif not record.key and receipt.offset in of:
                        # Nobody can tell any more which request the record belonged to: it may have been this one.
                        self.artifacts.append(RefusedArtifact("", receipt.reason))
                if not batch:
                    return None
        finally:
            await reader.close()
        return None

    async def _take(self, partition: int, receipt: ChangeReceipt) -> None:
        if receipt.path:
            paths = [receipt.path]
        else:
            changes = await self._changes(partition, receipt.offset)
            known = changes.changes if changes else []
            paths = [known[index].path if index < len(known) else "" for index in receipt.indexes]
            removed = {index: known[index].path for index in receipt.indexes if index < len(known) and isinstance(known[index], Remove)}
            # A removal is in the partition of each role that its path ever had, and is still one change.
            elsewhere = {index for index, path in removed.items() if self._removed.setdefault(path, partition) != partition}
            paths = [path for index, path in zip(receipt.indexes, paths, strict=True) if index not in elsewhere]
        self.artifacts += (RefusedArtifact(path, receipt.reason) for path in paths)

    async def _changes(self, partition: int, offset: int) -> Changes | None:
        if (partition, offset) not in self._records:
            value = await read_value(self._bus, partition, offset)
            self._bytes += len(value or b"")
            self._records[partition, offset] = None if value is None else read_changes(value)
            if len(self._records) > KEPT_RECORDS:
                self._records.popitem(last=False)
        return self._records[partition, offset]


async def read_value(bus: Bus, partition: int, offset: int) -> bytes | None:
    """Read a record of ``artifacts``.

    Args:
        bus: the log.
        partition: of ``artifacts``.
        offset: of the record.

    Returns:
        Its value; None if the record no longer exists, never existed, or is damaged.

    Raises:
        BusError: if the log can't be read now.
    """
    reader = bus.reader(topics.ARTIFACTS, partition, offset)
    try:
        batch = await reader.fetch(max_wait=0, max_bytes=1)
    except RecordUnreadableError:
        return None
    finally:
        await reader.close()
    return batch[0].value if batch and batch[0].offset == offset else None


def read_changes(value: bytes) -> Changes | None:
    """Decode a record of ``artifacts``.

    Args:
        value: of the record.

    Returns:
        The changes; None if this version can't read them.
    """
    try:
        return records.decode(records.changes_decoder, value)
    except RecordError:
        return None


async def read_page(bus: Bus, receipts: TaskReceipts, cursor: Cursor, trails: Mapping[int, ReceiptIndex], start: PageStart) -> Page:
    """Read a page of the refused changes of a bulk request that is live.

    Args:
        bus: the log.
        receipts: reads the receipts.
        cursor: of the request.
        trails: partition to its trail, at least as new as the published commit.
        start: where the page starts.

    Returns:
        The page.

    Raises:
        ReceiptsGoneError: if the receipts can't be found any more.
        BusError: if the log can't be read now.
    """
    reading = _Reading(bus, receipts.passed, cursor.request)
    for partition, offsets in sorted(cursor.positions.items()):
        if partition < start.partition:
            continue
        span: Span | None = None
        try:
            span = await receipts.span(partition, offsets[0], offsets[-1], trails[partition])
        except ReceiptsUnreadableError:
            reading.artifacts.append(RefusedArtifact("", UNREACHABLE.format(partition)))
        if span is None:
            continue
        begin = max(span.start, start.position) if partition == start.partition else span.start
        left = await reading.read(partition, begin, span.end, range(offsets[0], offsets[-1] + 1))
        if left is not None:
            refused = start.refused + len(reading.artifacts)
            return Page(reading.artifacts, refused, _write_place(PageStart(partition, left, refused)))
    return Page(reading.artifacts, start.refused + len(reading.artifacts), None)
