"""The state of a task that publishes what is held.

Its record is in ``admin``, and what it released is in the receipts of each partition, which the progress of the partition's writer indexes.
The task is done when the published commit has all that the publish releases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tufline.bus import Bus
from tufline.records import Publish, Settings, topics
from tufline.records.cursor import Cursor
from tufline.records.receipts import PublishReceipt
from tufline.trust.admin_state import AdminState
from tufline.views.task_receipts import FETCH_BYTES, fetch_or_pass, read_receipt
from tufline_ingest.rest.admin_records import read_admin_record
from tufline_ingest.rest.finished_tasks import finished
from tufline_ingest.rest.schemas.tasks import TaskData
from tufline_ingest.rest.task_receipts import ReceiptsUnreadableError, Span, TaskReceipts
from tufline_ingest.views.published import PublishedView

UNREADABLE = "it is unknown what it released in some bins: a record of receipts can't be read (see the health of ingest)"


@dataclass(slots=True)
class _Released:
    roles: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    refusals: int = 0
    reasons: set[str] = field(default_factory=set)
    is_unknown: bool = False

    def take(self, receipt: PublishReceipt) -> None:
        self.roles.update(receipt.roles)
        self.refused += receipt.refused
        self.refusals += receipt.refusals
        if receipt.reason:
            self.reasons.add(receipt.reason)


async def describe(
    task_id: str, cursor: Cursor, bus: Bus, view: PublishedView, admin: AdminState, receipts: TaskReceipts, settings: Settings | None
) -> TaskData:
    """Return the state of a publish.

    Args:
        task_id: as the client sent it.
        cursor: the cursor that the id contains.
        bus: the log.
        view: the published state of the origin.
        admin: the state of all records of ``admin`` so far.
        receipts: reads receipts.
        settings: of the repository; None before the bootstrap.

    Returns:
        The task's state; PENDING for a publish that this log does not know.

    Raises:
        ReceiptsGoneError: if its receipts can't be found any more.
        BusError: if the log can't be read now.
    """
    offsets = cursor.positions.get(0, [])
    if cursor.positions.keys() != {0} or settings is None:  # admin has one partition
        return TaskData(task_id, "PENDING")
    offset = offsets[-1]
    if (reason := admin.refused.get(offset)) is not None:
        return finished(task_id, cursor, "Publish Artifacts Failed", {}, reason)
    if not await _is_publish(bus, admin, offset):
        return TaskData(task_id, "PENDING")
    progress = {number: view.progress.get(number) for number in range(settings.partitions) if settings.partitioning.names_in(number)}
    is_published = view.published is not None and cursor.is_covered(view.published.vector)
    if not is_published or any(one is None or one.publish <= offset for one in progress.values()):
        return TaskData(task_id, "RUNNING")
    found = _Released()
    for partition, one in progress.items():
        if one is None or one.publishes is None:
            continue
        try:
            span = await receipts.span(partition, offset, offset, one.publishes)
        except ReceiptsUnreadableError:
            found.is_unknown = True
            continue
        if span is not None:
            await _read(bus, partition, span, receipts, found)
    details: dict[str, Any] = {"artifact_roles": sorted(found.roles), "invalid_paths": found.refused or None}
    errors: Sequence[str] = [UNREADABLE] if found.is_unknown else []
    if found.refusals:
        errors = [f"{found.refusals} held changes were refused: {'; '.join(sorted(found.reasons))}", *errors]
    return finished(task_id, cursor, "Publish Artifacts Processed", details, "; ".join(errors) or None)


async def _is_publish(bus: Bus, admin: AdminState, offset: int) -> bool:
    """Return whether the record at an offset in ``admin`` is a publish: the state has only the newest ones."""
    if any(publish.offset == offset for publish in admin.publishes):
        return True
    if not admin.publishes or offset > admin.publishes[0].offset:
        return False
    return isinstance(await read_admin_record(bus, offset), Publish)


async def _read(bus: Bus, partition: int, span: Span, receipts: TaskReceipts, found: _Released) -> None:
    reader = bus.reader(topics.RECEIPTS, partition, span.start)
    try:
        while reader.position < span.end:
            batch = await fetch_or_pass(reader, receipts.passed, FETCH_BYTES)
            if batch == ():
                return
            for record in batch or ():
                receipt = read_receipt(record, receipts.passed) if record.offset < span.end else None
                if isinstance(receipt, PublishReceipt):
                    found.take(receipt)
                found.is_unknown |= receipt is None and record.offset < span.end
            found.is_unknown |= batch is None
    finally:
        await reader.close()
