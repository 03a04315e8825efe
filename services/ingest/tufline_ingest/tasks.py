"""The state of a task, from its cursor alone.

A task is done when what is published covers its positions. What became of it in detail is read back from the log: its records at the
positions, and the receipts that the signer wrote for what did not simply happen.
"""

from collections.abc import Iterable
from typing import Any, Final

from tufline import receipts, records, topics
from tufline.admin import AdminState
from tufline.bus import Bus
from tufline.clock import moment_of
from tufline.cursor import IN_ADMIN, Cursor, Task
from tufline.errors import InvalidCursorError, RecordError
from tufline.receipts import ChangeReceipt
from tufline.records import Changes, Published, Settings
from tufline_ingest.recent import Recent
from tufline_ingest.wire import TaskData, TaskResult

RECORDS_READ: Final = 256
"""The most records of a request that its details are read from; a larger one is told in numbers."""


async def describe(bus: Bus, recent: Recent, task_id: str, cursor: Cursor, published: Published | None, admin: AdminState) -> TaskData:
    """Say what became of a task.

    Args:
        bus: the log.
        recent: what this process accepted lately.
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
    if cursor.task in IN_ADMIN:
        return _describe_given(task_id, cursor, published, admin)
    if published is None or not cursor.is_covered(published.vector):
        if not recent.knows(cursor):
            await _check_exists(bus, cursor)
        return TaskData(task_id, "RUNNING")
    if cursor.task is Task.BULK:
        return _finished(task_id, cursor, "Artifact(s) published", {})
    settings = admin.bootstrap.settings if admin.bootstrap else None
    return await _describe_changes(bus, recent, task_id, cursor, settings)


def _finished(task_id: str, cursor: Cursor, message: str, details: dict[str, Any], error: str | None = None) -> TaskData:
    result = TaskResult(message, error, error is None, cursor.task.value, moment_of(cursor.time), details)
    return TaskData(task_id, "SUCCESS", result)


def _describe_given(task_id: str, cursor: Cursor, published: Published | None, admin: AdminState) -> TaskData:
    offsets = next(iter(cursor.positions.values()), [0])
    is_bootstrap = cursor.task is Task.BOOTSTRAP
    reasons = [admin.refused[offset] for offset in offsets if offset in admin.refused]
    given = [one.signed.type for one in admin.roots if one.offset in offsets]
    given += [one.signed.type for one in admin.targets if one.offset in offsets]
    details: dict[str, Any] = {"bootstrap": not reasons} if is_bootstrap else {"role": given[0] if given else None, "roles": given}
    if reasons:
        return _finished(task_id, cursor, "Bootstrap failed" if is_bootstrap else "Metadata Update failed", details, "; ".join(reasons))
    if published is None or not cursor.is_covered(published.vector):
        return TaskData(task_id, "RUNNING")
    return _finished(task_id, cursor, "Bootstrap Processed" if is_bootstrap else "Metadata Update Processed", details)


async def _check_exists(bus: Bus, cursor: Cursor) -> None:
    partitions = bus.partitions(topics.ARTIFACTS)
    for partition, offsets in cursor.positions.items():
        if not 0 <= partition < partitions or offsets[-1] >= await bus.end(topics.ARTIFACTS, partition):
            raise InvalidCursorError("the task id is not one of this repository")


async def _describe_changes(bus: Bus, recent: Recent, task_id: str, cursor: Cursor, settings: Settings | None) -> TaskData:
    is_add = cursor.task is Task.ADD
    message = "Artifact(s) Added" if is_add else "Artifact(s) Removed"
    known = await recent.find(cursor) or await _read_back(bus, cursor)
    if known is None:
        return _finished(task_id, cursor, f"{message}; its records are no longer kept, or too many for details", {})
    changes, found = known
    paths = [change.path for record in changes for change in record.changes]
    refused = {receipt.path: receipt.reason for receipt in found if receipt.outcome == "refused"}
    missing = {receipt.path for receipt in found if receipt.outcome == "not_found"}
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


async def _read_back(bus: Bus, cursor: Cursor) -> tuple[list[Changes], list[ChangeReceipt]] | None:
    places = [(partition, offset) for partition, offsets in cursor.positions.items() for offset in offsets]
    changes = await _read_changes(bus, places) if len(places) <= RECORDS_READ else None
    return None if changes is None else (changes, await receipts.of_task(bus, cursor))


async def _read_changes(bus: Bus, places: Iterable[tuple[int, int]]) -> list[Changes] | None:
    found = []
    for partition, offset in places:
        reader = bus.reader(topics.ARTIFACTS, partition, offset)
        try:
            batch = await reader.fetch(max_wait=0, max_bytes=1)
        finally:
            await reader.close()
        if not batch or batch[0].offset != offset:
            return None
        try:
            found.append(records.decode(records.changes_decoder, batch[0].value))
        except RecordError:
            return None
    return found
