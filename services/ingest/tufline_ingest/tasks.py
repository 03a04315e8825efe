"""The state of a task, from its cursor alone.

A task is done when what is published covers its positions. What became of it in detail is read back from the log: its records at the
positions, and the receipts that the signer wrote for what did not simply happen.
"""

from collections.abc import Iterable
from typing import Any, Final

from tufline import records, topics
from tufline.bus import Bus
from tufline.cursor import Cursor, Task
from tufline.errors import InvalidCursorError, RecordError
from tufline.records import Changes, Published, Receipt, Settings
from tufline.trust import AdminState
from tufline_ingest.wire import TaskData, TaskResult, moment

RECORDS_READ: Final = 256
"""The most records of a request that its details are read from; a larger one is told in numbers."""

RECEIPTS_WINDOW: Final = 50_000
"""How far a receipt may stand before one of an earlier record, in offsets: the signer goes through a batch bin by bin."""

RECEIPTS_SKEW_MILLISECONDS: Final = 5000
"""How much earlier than a request's acceptance its receipts are looked for: two brokers' clocks may differ."""


async def describe(bus: Bus, task_id: str, cursor: Cursor, published: Published | None, admin: AdminState) -> TaskData:
    """Say what became of a task.

    Args:
        bus: the log.
        task_id: as the client sent it.
        cursor: that is in it.
        published: what is live; None before the first.
        admin: the state folded from ``admin``.

    Returns:
        The task's state.

    Raises:
        InvalidCursorError: if the cursor names what this log does not have.
        BusError: if the log can't be read now.
    """
    if cursor.task is Task.BOOTSTRAP:
        return _describe_bootstrap(task_id, cursor, published, admin)
    if published is None or not cursor.is_covered(published.vector):
        await _check_exists(bus, cursor)
        return TaskData(task_id, "RUNNING")
    if cursor.task is Task.BULK:
        return _finished(task_id, cursor, "Artifact(s) published", {})
    settings = admin.bootstrap.settings if admin.bootstrap else None
    return await _describe_changes(bus, task_id, cursor, settings)


def _finished(task_id: str, cursor: Cursor, message: str, details: dict[str, Any], error: str | None = None) -> TaskData:
    result = TaskResult(message, error, error is None, cursor.task.value, moment(cursor.time), details)
    return TaskData(task_id, "SUCCESS", result)


def _describe_bootstrap(task_id: str, cursor: Cursor, published: Published | None, admin: AdminState) -> TaskData:
    (offsets,) = cursor.positions.values() or [[0]]
    if reason := admin.refused.get(offsets[-1]):
        return _finished(task_id, cursor, "Bootstrap failed", {"bootstrap": False}, reason)
    if published is None or not cursor.is_covered(published.vector):
        return TaskData(task_id, "RUNNING")
    return _finished(task_id, cursor, "Bootstrap Processed", {"bootstrap": True})


async def _check_exists(bus: Bus, cursor: Cursor) -> None:
    partitions = bus.partitions(topics.ARTIFACTS)
    for partition, offsets in cursor.positions.items():
        if not 0 <= partition < partitions or offsets[-1] >= await bus.end(topics.ARTIFACTS, partition):
            raise InvalidCursorError("the task id is not one of this repository")


async def _describe_changes(bus: Bus, task_id: str, cursor: Cursor, settings: Settings | None) -> TaskData:
    is_add = cursor.task is Task.ADD
    message = "Artifact(s) Added" if is_add else "Artifact(s) Removed"
    places = [(partition, offset) for partition, offsets in cursor.positions.items() for offset in offsets]
    changes = await _read_changes(bus, places) if len(places) <= RECORDS_READ else None
    if changes is None:
        return _finished(task_id, cursor, f"{message}; its records are no longer kept, or too many for details", {})
    paths = [change.path for record in changes.values() for change in record.changes]
    receipts = await _read_receipts(bus, cursor, {record.request for record in changes.values()})
    refused = {receipt.path: receipt.reason for receipt in receipts if receipt.outcome == "refused"}
    missing = {receipt.path for receipt in receipts if receipt.outcome == "not_found"}
    roles = sorted({settings.layout.name(settings.layout.index_of(path)) for path in paths}) if settings else []
    if is_add:
        details = {
            "added_artifacts": [path for path in paths if path not in refused],
            "invalid_paths": list(refused),
            "artifact_roles": roles,
        }
    else:
        details = {
            "deleted_artifacts": [path for path in paths if path not in missing | refused.keys()],
            "not_found_artifacts": sorted(missing),
        }
    if refused and len(refused) == len(set(paths)):
        return _finished(task_id, cursor, "No artifact was accepted", details, "; ".join(sorted(set(refused.values()))))
    return _finished(task_id, cursor, message, details)


async def _read_changes(bus: Bus, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Changes] | None:
    found = {}
    for partition, offset in places:
        reader = bus.reader(topics.ARTIFACTS, partition, offset)
        try:
            batch = await reader.fetch(max_wait=0, max_bytes=1)
        finally:
            await reader.close()
        if not batch or batch[0].offset != offset:
            return None
        try:
            found[partition, offset] = records.decode(records.changes_decoder, batch[0].value)
        except RecordError:
            return None
    return found


async def _read_receipts(bus: Bus, cursor: Cursor, requests: set[str]) -> list[Receipt]:
    found = []
    for partition, offsets in cursor.positions.items():
        start = await bus.offset_at(topics.RECEIPTS, partition, cursor.time - RECEIPTS_SKEW_MILLISECONDS)
        reader = bus.reader(topics.RECEIPTS, partition, start)
        passed = False
        try:
            while not passed and (batch := await reader.fetch(max_wait=0)):
                for record in batch:
                    receipt = records.decode(records.receipt_decoder, record.value)
                    passed = receipt.offset > offsets[-1] + RECEIPTS_WINDOW
                    if record.key in requests:
                        found.append(receipt)
        finally:
            await reader.close()
    return found
