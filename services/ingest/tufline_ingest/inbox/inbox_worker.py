"""The inbox: events of repositories, from ``inbox`` to ``artifacts`` or ``rejected``.

Workflow, for each partition: take it over; wait for the bootstrap; then, until cancelled: read the next records, judge each record
separately, and append in one transaction the changes of the accepted events, the rejected records byte for byte, a receipt for each, and
the progress. So an event is moved once, whichever process dies; and no record, whatever it contains, stops the partition.

A producer that gets no answer sends its event again, with the same source and id. A repeated event must not replace a newer artifact with
an old one, so the worker recognizes events that it accepted recently (``dedupe``).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

import structlog

from tufline import records
from tufline.bus import Bus, Message, Position, Record, Writer
from tufline.config.settings import IngestConfig
from tufline.errors import InputLostError, InvalidEventError, InvalidTargetError, RecordUnreadableError
from tufline.records import FIRST_RULES, cursor, events, topics
from tufline.records.cursor import Task
from tufline.records.events import Event
from tufline.records.receipts import EventReceipt
from tufline.records.rejected import size_of
from tufline.reference_clock import ReferenceClock
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.takeover import take_over
from tufline.runtime.turns import Turns
from tufline.trust.admin_state import Bootstrapped
from tufline.views.admin import AdminFollower
from tufline.views.lost_input import CheckedReader, is_accepted
from tufline_ingest import accept, metrics
from tufline_ingest.accept import SHOWN_PATH_LENGTH, Change, allowed_in, make_change, make_cursor, make_messages
from tufline_ingest.inbox import reject
from tufline_ingest.inbox.dedupe import InboxState, digest_of, restore
from tufline_ingest.inbox.outcome import Accepted, Duplicate, JudgedEvent, RejectedEvent

GROUP: Final = "ingest.inbox"

BATCH_BYTES: Final = 1_000_000
BATCH_EVENTS: Final = 500
"""The most that one transaction moves, in bytes; a single record may be larger."""

POLL_SECONDS: Final = 30.0
"""How long one fetch waits; this only limits how late a lost wake-up is noticed."""

SHOWN_REASON_LENGTH: Final = 500
"""How much of a reason is kept, in characters: a reason may repeat parts of the event."""

UNCERTAIN: Final = (
    "it may have been accepted before, because the record that would tell is damaged: "
    "see whether its changes are live; if they are not, replay it, or send it again under another id"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InboxContext:
    """The objects that all workers of a process share.

    Attributes:
        bus: the log.
        config: of ingest.
        health: the health of the process, to which the parts report.
        admin: the state derived from ``admin``.
        clock: the wall clock, which learns the log's time.
    """

    bus: Bus
    config: IngestConfig
    health: Health
    admin: AdminFollower
    clock: ReferenceClock


class InboxWorker:
    """Moves the events of one partition, after its takeover."""

    def __init__(self, context: InboxContext, writer: Writer, state: InboxState) -> None:
        """Start with the state that was read from the log.

        Args:
            context: of the process.
            writer: of the partition.
            state: the state of the partition so far.
        """
        self._context = context
        self._writer = writer
        self._state = state

    async def move(self, batch: Sequence[Record]) -> None:
        """Move records, in as many transactions as they need.

        Args:
            batch: the next records of the partition.
        """
        for piece in pieces(batch):
            with metrics.move_seconds.time():
                await self._commit(await self._judge(piece), piece[-1].offset + 1)

    async def refuse(self, damaged: RecordUnreadableError) -> None:
        """Move the progress past a record whose bytes can't be read, with a receipt.

        Args:
            damaged: the record.
        """
        reason = str(damaged)[:SHOWN_REASON_LENGTH]
        _log.error("inbox.unreadable_record", partition=damaged.partition, offset=damaged.offset, error=reason)
        receipt = EventReceipt(partition=damaged.partition, offset=damaged.offset, source="", id="", outcome="rejected", reason=reason)
        progress = self._state.next(damaged.offset + 1, {})
        message = Message(topics.RECEIPTS, "", records.encode(receipt), damaged.partition)
        await self._writer.commit([message, self._state.message(progress)])
        self._state.take(progress)

    async def pass_over(self, lost: InputLostError) -> None:
        """Move the progress past records that are gone, once an operator has accepted the loss.

        Args:
            lost: the records; all of them are gone.
        """
        progress = self._state.next(lost.below, {})
        await self._writer.commit([self._state.message(progress)])
        self._state.take(progress)

    async def _judge(self, piece: Sequence[Record]) -> list[JudgedEvent]:
        judged: list[JudgedEvent] = []
        turns = Turns()
        accepted: set[str] = set()
        for record in piece:
            await turns.take(size_of(record))  # so that requests can run in between
            try:
                event = events.read(record.value, record.headers)
                outcome = await self._outcome_of(record, event, accepted)
                one = JudgedEvent(record, event.source, event.id, outcome)
                if isinstance(outcome, Accepted):
                    accepted.add(one.digest)
            except InvalidEventError as error:
                reason = str(error)[:SHOWN_REASON_LENGTH].encode(errors="backslashreplace").decode()
                one = JudgedEvent(record, error.source, error.event_id, RejectedEvent(reason, (reject.make_message(record, reason),)))
            judged.append(one)
        return judged

    async def _outcome_of(self, record: Record, event: Event, accepted: Collection[str]) -> Accepted | Duplicate:
        digest = digest_of(event.source, event.id)
        if digest in accepted or self._state.task_of(digest) is not None:
            return Duplicate()
        if record.offset < self._state.uncertain:
            raise InvalidEventError(UNCERTAIN, event.source, event.id)
        return await self._accept(event)

    async def _accept(self, event: Event) -> Accepted:
        changes: list[Change] = []
        turns = Turns()
        allowed = allowed_in(self._context.config, self._context.admin)
        for number, requested in enumerate(event.data.changes):
            try:
                changes.append(make_change(requested, allowed))
            except InvalidTargetError as error:
                where = f"changes[{number}] ({requested.path[:SHOWN_PATH_LENGTH]!a})"
                reason = f"{where} can't be accepted: {error}; nothing of this event was accepted"
                raise InvalidEventError(reason, event.source, event.id) from None
            await turns.take()
        repository = self._context.admin.repository
        messages = await make_messages(changes, repository.routing, repository.next_offset)
        return Accepted(changes, messages)

    async def _commit(self, judged: Sequence[JudgedEvent], offset: int) -> None:
        progress = self._state.next(offset, {})

        def then(positions: Sequence[Position]) -> list[Message]:
            nonlocal progress
            left = iter(positions)
            tasks: dict[str, str] = {}
            receipts = []
            for one in judged:
                own = list(islice(left, len(one.outcome.messages)))
                match one.outcome:
                    case Accepted(messages=messages) as accepted:
                        request = messages[0].key if accepted.task is Task.BULK else ""
                        task_id = tasks[one.digest] = cursor.encode(make_cursor(accepted.task, self._context.bus.log_id, own, request))
                    case Duplicate():
                        task_id = tasks.get(one.digest) or self._state.task_of(one.digest) or ""
                    case RejectedEvent():
                        task_id = ""
                receipts.append(one.receipt(task_id))
            progress = self._state.next(offset, tasks)
            return [*receipts, self._state.message(progress)]

        began = self._context.clock.monotonic()
        positions = await self._writer.commit([message for one in judged for message in one.outcome.messages], then)
        self._context.clock.observe(positions[-1].time, began)
        self._state.take(progress)
        self._observe(judged)

    def _observe(self, judged: Sequence[JudgedEvent]) -> None:
        for one in judged:
            metrics.events.labels(one.outcome.name).inc()
            match one.outcome:
                case Accepted(changes=changes):
                    accept.count(changes)
                case RejectedEvent(reason=reason):
                    where = {"partition": one.record.partition, "offset": one.record.offset}
                    _log.warning("inbox.rejected", source=one.source, id=one.event_id, reason=reason, **where)


def pieces(batch: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Split records so that each part fits a transaction.

    Args:
        batch: records of ``inbox``.

    Yields:
        Each part, in the order of the records.
    """
    piece: list[Record] = []
    size = 0
    for record in batch:
        added = size_of(record)
        if piece and (len(piece) == BATCH_EVENTS or size + added > BATCH_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += added
    if piece:
        yield piece


def part(partition: int) -> str:
    """Name the work on a partition, in health, logs and as writer id.

    Args:
        partition: of ``inbox``.

    Returns:
        The name.
    """
    return f"{GROUP}.{partition}"


def may_sort(repository: Bootstrapped) -> bool:
    """Return whether the bins of a repository are final, so that a path's bin can no longer change.

    Args:
        repository: the repository in the state of ``admin``.
    """
    return repository.begun or repository.bootstrap.rules == FIRST_RULES


async def work(context: InboxContext, partition: int) -> None:
    """Take a partition over and move its events, until cancelled.

    Args:
        context: of the process.
        partition: of ``inbox``.

    Raises:
        FencedError: if another worker took the partition over.
        BusError: if the bus fails; start again.
    """
    bus = context.bus
    async with AsyncExitStack() as stack:
        began = context.clock.monotonic()
        taken = await stack.enter_async_context(take_over(bus, part(partition), topics.INBOX_PROGRESS, partition))
        context.clock.observe(taken.claim.time, began)
        passed = PassedOver(context.health, part(partition))
        stack.callback(passed.forget)
        state = await restore(bus, taken, context.config.inbox_dedup_events, passed)
        # Waiting for the bootstrap does not make this part unready: otherwise a proxy would send no request here, and the bootstrap has to
        # be posted to this process.
        context.health.ok(part(partition))
        _log.info("inbox.ready", partition=partition, offset=state.offset, bootstrapped=context.admin.state.bootstrap is not None)
        await context.admin.wait_for_bootstrap(may_sort)
        worker = InboxWorker(context, taken.writer, state)
        while True:
            try:
                await _move_all(context, worker, partition, state)
            except InputLostError as lost:
                context.health.problem(part(partition), str(lost))
                _log.error("inbox.input_lost", partition=partition, first=lost.first, below=lost.below, error=str(lost))
                await context.admin.wait_for(partial(is_accepted, lost=lost))
                await worker.pass_over(lost)
                context.health.ok(part(partition))


async def _move_all(context: InboxContext, worker: InboxWorker, partition: int, state: InboxState) -> None:
    reader = CheckedReader(context.bus, topics.INBOX, partition, state.offset)
    try:
        while True:
            try:
                if batch := await reader.fetch(max_wait=POLL_SECONDS, max_bytes=BATCH_BYTES):
                    await worker.move(batch)
            except RecordUnreadableError as damaged:
                await worker.refuse(damaged)
                reader.seek(damaged.offset + 1)
    finally:
        await reader.close()
