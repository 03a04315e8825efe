"""The state of a partition of ``inbox``: how far its events are moved, and which events were accepted recently.

Both are recorded in the partition's own partition of ``inbox-progress``, which nobody else writes. Each transaction that moves events
appends a record there, which lists the events that it accepted. The records use a fixed number of keys in turn, so that compaction keeps
that many of the latest transactions. These have as many accepted events as are to be remembered, unless some of the transactions accepted
nothing.

If a record can't be read any more, its content is restored from ``receipts``, where the same transaction wrote a receipt for each event
that it moved. It is appended to ``inbox-progress`` again before anything else is moved. Receipts may be deleted by then, or damaged as
well. An event whose receipt could be one of these is **uncertain**, and is rejected, so that it can't be moved twice.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from tufline import records
from tufline.bus import Bus, Message, Record
from tufline.clock import in_milliseconds
from tufline.records import InboxProgress, topics
from tufline.records.receipts import EventReceipt, receipt_decoder
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.takeover import TakenPartition, read_up_to
from tufline.views.task_receipts import FETCH_BYTES, SKEW_MILLISECONDS

FIRST_STEP: Final = 256
"""How many offsets before the claim the first step of reading back starts; further steps are larger."""

DIGEST_BYTES: Final = 16

RECOVERED_EVENTS: Final = 500
"""The most accepted events in one record that was restored from ``receipts``."""

RECEIPTS_KEPT: Final = in_milliseconds(topics.RECEIPTS_SECONDS)
"""In milliseconds."""

MARK_REASON: Final = "no event: what an unreadable record of inbox-progress said was taken from the receipts before this one"

_log = structlog.get_logger(__name__)


def digest_of(source: str, event_id: str) -> str:
    """Name an event briefly.

    Args:
        source: of the event.
        event_id: the event's id, unique for its source.

    Returns:
        Hexadecimal digits.
    """
    return hashlib.blake2b(f"{len(source)}:{source}{event_id}".encode(), digest_size=DIGEST_BYTES).hexdigest()


class InboxState:
    """How far a partition of ``inbox`` is moved, and which of its events were accepted recently."""

    def __init__(self, partition: int, remembered: int) -> None:
        """Begin with nothing.

        Args:
            partition: of ``inbox``.
            remembered: how many accepted events to remember.
        """
        self._partition = partition
        self.remembered = remembered
        self._number = 0
        self._tasks: OrderedDict[str, str] = OrderedDict()
        self.offset = 0
        """All records of ``inbox`` below this offset are moved."""
        self.uncertain = 0
        """Records of ``inbox`` below this offset and from ``offset`` on may have been moved."""

    def task_of(self, digest: str) -> str | None:
        """Return the task that an event became.

        Args:
            digest: of the event.

        Returns:
            The task id; None if the event is not known.
        """
        return self._tasks.get(digest)

    def next(self, offset: int, accepted: Mapping[str, str]) -> InboxProgress:
        """Make the record of the next transaction.

        Args:
            offset: the offset up to which the transaction moves ``inbox`` (exclusive).
            accepted: the events that the transaction accepts: digest to task id.

        Returns:
            The record; pass it to ``take`` once the transaction is committed.
        """
        return self._progress(1, offset, accepted)

    def recovered(self, offset: int, tasks: Mapping[str, str]) -> list[InboxProgress]:
        """Make the records that replace unreadable ones.

        Args:
            offset: the offset up to which ``inbox`` is moved (exclusive).
            tasks: the events that were accepted: digest to task id.

        Returns:
            The records, at least one; append them in one transaction, and then pass each to ``take``.
        """
        unknown = [one for one in tasks.items() if one[0] not in self._tasks]
        parts = [dict(unknown[at : at + RECOVERED_EVENTS]) for at in range(0, len(unknown), RECOVERED_EVENTS)]
        return [self._progress(number, offset, some) for number, some in enumerate(parts or [{}], 1)]

    def _progress(self, ahead: int, offset: int, accepted: Mapping[str, str]) -> InboxProgress:
        uncertain = self.uncertain if self.uncertain > offset else 0
        return InboxProgress(number=self._number + ahead, offset=offset, accepted=dict(accepted), uncertain=uncertain)

    def message(self, progress: InboxProgress) -> Message:
        """Make the message of a record.

        Args:
            progress: from ``next``.

        Returns:
            The message, for the transaction.
        """
        key = f"@{progress.number % self.remembered}"
        return Message(topics.INBOX_PROGRESS, key, records.encode(progress), self._partition)

    def take(self, progress: InboxProgress) -> None:
        """Apply the record of a transaction that was committed.

        Args:
            progress: its record.
        """
        self._number, self.offset, self.uncertain = progress.number, progress.offset, progress.uncertain
        self._tasks.update(progress.accepted)
        while len(self._tasks) > self.remembered:
            self._tasks.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Gap:
    """Transactions between two known ones, whose records in ``inbox-progress`` can't be read.

    Attributes:
        since: when the transaction before the gap was committed, in milliseconds since 1970; 0 if there is none.
        low: the offset in ``inbox`` from which on the missing transactions moved events.
        high: the offset up to which they moved events (exclusive); None if no later transaction is known.
        until: when the transaction after the gap was committed, in milliseconds since 1970; 0 if none is known.
    """

    since: int
    low: int
    high: int | None = None
    until: int = 0

    def has(self, offset: int) -> bool:
        return self.low <= offset and (self.high is None or offset < self.high)


@dataclass(slots=True)
class _ReadBack:
    """The content of a partition of ``inbox-progress``, in its order.

    Attributes:
        passed: notified of records that can't be read.
        number: the number of the last known transaction; None if there may be earlier transactions that were not read.
        found: the known transactions.
        gaps: the gaps between them.
    """

    passed: PassedOver
    number: int | None
    found: list[InboxProgress] = field(default_factory=list)
    gaps: list[_Gap] = field(default_factory=list)
    _time: int = 0
    _count: int = 0

    def __post_init__(self) -> None:
        self._count = self.passed.count

    def take(self, record: Record) -> None:
        content = self.passed.decode(records.inbox_decoder, record)
        if not isinstance(content, InboxProgress):
            return
        # An unreadable record need not have been a transaction's: if the numbers are consecutive, no transaction is missing.
        if self.passed.count > self._count and self.number is not None and content.number != self.number + 1:
            self.gaps.append(_Gap(self._time, self._offset, content.offset, record.time))
        self.found.append(content)
        self.number, self._time, self._count = content.number, record.time, self.passed.count

    def end(self) -> None:
        if self.passed.count > self._count:
            self.gaps.append(_Gap(self._time, self._offset))

    @property
    def _offset(self) -> int:
        return self.found[-1].offset if self.found else 0


async def restore(bus: Bus, taken: TakenPartition, remembered: int, passed: PassedOver) -> InboxState:
    """Restore the previous writers' state, from the newest record backwards, and append again what is unreadable in ``inbox-progress``.

    Args:
        bus: the log.
        taken: the partition of ``inbox-progress``.
        remembered: how many accepted events to remember.
        passed: notified of records that can't be read.

    Returns:
        The state of the last writer.

    Raises:
        FencedError: if another writer took the partition over.
        BusError: if it can't be read back yet.
    """
    claim = taken.claim
    step = FIRST_STEP
    while True:
        start = max(0, claim.offset - step)
        read = _ReadBack(passed, None if start else 0)
        await read_up_to(bus, claim, read.take, start, passed)
        read.end()
        if start == 0 or max(len(read.found), sum(len(one.accepted) for one in read.found)) >= remembered:
            break
        step *= 8
    state = InboxState(claim.partition, remembered)
    for progress in read.found:
        state.take(progress)
    # The progress is always needed; the accepted events only if receipts may still exist for them.
    if gaps := [gap for gap in read.gaps if gap.high is None or gap.until >= claim.time - RECEIPTS_KEPT]:
        await _recover(bus, taken, state, gaps, passed)
    return state


async def _recover(bus: Bus, taken: TakenPartition, state: InboxState, gaps: Sequence[_Gap], passed: PassedOver) -> None:
    partition = taken.claim.partition
    # Once this record is visible, so are the records of the previous writers: an open transaction of the signer may hide them until then.
    mark = EventReceipt(partition=partition, offset=-1, source="", id="", outcome="rejected", reason=MARK_REASON)
    (marked,) = await taken.writer.commit([Message(topics.RECEIPTS, "", records.encode(mark), partition)])
    offset, count = state.offset, passed.count
    tasks: OrderedDict[str, str] = OrderedDict()

    def take(record: Record) -> None:
        nonlocal offset, count
        receipt = passed.decode(receipt_decoder, record)
        if not isinstance(receipt, EventReceipt) or receipt.offset < 0:
            return
        count = passed.count  # receipts are in the order of their events: this one shows how far the inbox was moved before
        gap = next((gap for gap in gaps if gap.has(receipt.offset)), None)
        if gap is not None and gap.high is None:
            offset = max(offset, receipt.offset + 1)
        if gap is not None and receipt.outcome == "accepted":
            tasks[digest_of(receipt.source, receipt.id)] = receipt.task
            if len(tasks) > state.remembered:
                tasks.popitem(last=False)

    start = await bus.offset_at(topics.RECEIPTS, partition, max(0, gaps[0].since - SKEW_MILLISECONDS))
    await read_up_to(bus, marked, take, start, passed, FETCH_BYTES)
    is_newest_missing = gaps[-1].high is None
    if is_newest_missing:
        state.uncertain = max(state.uncertain, await _uncertain(bus, taken, gaps[-1], is_unread=passed.count > count))
    restored = state.recovered(offset, tasks)
    events = sum(len(progress.accepted) for progress in restored)
    if not events and not is_newest_missing:
        return
    await taken.writer.commit([state.message(progress) for progress in restored])
    for progress in restored:
        state.take(progress)
    _log.warning("inbox.recovered", partition=partition, offset=offset, events=events, uncertain_below=state.uncertain)


async def _uncertain(bus: Bus, taken: TakenPartition, gap: _Gap, *, is_unread: bool) -> int:
    """Return the offset of ``inbox`` below which an event may have been moved although its receipt can't be read."""
    partition = taken.claim.partition
    if is_unread:
        return await bus.end(topics.INBOX, partition)
    # Receipts of later events, if there were any, can't be deleted yet.
    kept = taken.claim.time - RECEIPTS_KEPT + SKEW_MILLISECONDS
    return 0 if gap.since >= kept else await bus.offset_at(topics.INBOX, partition, max(0, kept))
