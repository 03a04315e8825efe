"""The state of a task, from its cursor alone.

A task is done when the published commit covers its positions. The details are read back from the log: the task's records at these
positions, and the receipts that the signer wrote for changes that had no effect or were refused.

If the log no longer has the result of a change, the answer says that it is unknown, and the task is ERRORED: a change that may have been
refused is never reported as done.

Anybody can make up a task id, so the amount that is read for an id is bounded: the records that it names must belong to one request and
have no more bytes than a request may have, and their receipts are found in a few steps. Any other id is unknown to this repository.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tufline.bus import Bus
from tufline.errors import InvalidCursorError
from tufline.records import Changes, RoleSignature, Settings, topics
from tufline.records.cursor import BULK_FORMAT, IN_ADMIN, NAMED_FORMAT, Cursor, Task
from tufline.records.events import MAX_EVENT_BYTES
from tufline.records.receipt_index import ReceiptIndex
from tufline.records.receipts import ChangeReceipt
from tufline.records.routing import Routing
from tufline.trust.admin_state import AdminState
from tufline.views import task_receipts
from tufline.views.task_receipts import FoundReceipts
from tufline_ingest.rest import delegation_tasks, publish_tasks, trust_tasks
from tufline_ingest.rest.bulk_tasks import PageStart, read_changes, read_page, read_value
from tufline_ingest.rest.finished_tasks import finished, running
from tufline_ingest.rest.named_tasks import find_records
from tufline_ingest.rest.schemas.tasks import RefusedArtifact, TaskData
from tufline_ingest.rest.task_receipts import ReceiptsGoneError, ReceiptsUnreadableError, TaskReceipts
from tufline_ingest.views.published import PublishedView
from tufline_ingest.views.recent_requests import RecentRequests

GROWTH: Final = 8
"""How many times as large as a request its records may be: a removal takes four bytes in a request, and 26 on the log."""

LIVE_IS_SHOWN: Final = "GET /api/v1/artifacts/{path} shows what is live, and sending the changes again is safe if no newer ones were sent"
UNREADABLE: Final = f"a record of receipts can't be read (see the health of ingest); {LIVE_IS_SHOWN}"
OLD_BULK_ID: Final = f"it is unknown which of its changes were refused, because the task id is of an older version; {LIVE_IS_SHOWN}"

Position = tuple[int, int]
"""A partition of ``artifacts`` and an offset in it."""

JUDGED: Final = frozenset({Task.SIGN_ROLE, Task.WITHDRAW_ROLE})
"""The tasks that are done once the writer of the partition has judged them."""

SHOWN_ROLES: Final = 3
"""How many waiting roles a message describes."""

READ_AT_ONCE: Final = 4
"""For how many tasks the log is read at the same time."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """Answers for any task.

    Attributes:
        bus: the log.
        max_request_bytes: of a request.
        published_view: the published state of the origin.
        admin: returns the state derived from ``admin``.
        recent: the records that this process accepted recently.
        receipts: reads the receipts of changes that had no effect or were refused.
    """

    bus: Bus
    max_request_bytes: int
    published_view: PublishedView
    admin: Callable[[], AdminState]
    recent: RecentRequests
    receipts: TaskReceipts
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE))

    async def describe(self, task_id: str, cursor: Cursor, start: PageStart) -> TaskData:
        """Return the state of a task.

        Args:
            task_id: as the client sent it.
            cursor: the cursor that the id contains.
            start: for a bulk task, where the page of refused changes starts.

        Returns:
            The task's state; PENDING for a task that this log does not know, or no longer knows.

        Raises:
            BusError: if the log can't be read now.
        """
        if not cursor.positions:
            return await _describe_artifacts(task_id, cursor, {}, {}, (), None)
        try:
            if cursor.format == NAMED_FORMAT:
                cursor = await self._find(cursor)
            if cursor.task in IN_ADMIN:
                return await self._describe_in_admin(task_id, cursor)
            trails = self._trails(cursor)
            if trails is None:
                known = all(map(self.recent.find, _places(cursor))) or await self._may_exist(cursor)
                return TaskData(task_id, "RUNNING" if known else "PENDING")
            async with self._reading:
                return await self._describe_in_artifacts(task_id, cursor, trails, start)
        except (InvalidCursorError, ReceiptsGoneError):
            return TaskData(task_id, "PENDING")

    async def _describe_in_artifacts(
        self, task_id: str, cursor: Cursor, trails: Mapping[int, ReceiptIndex | None], start: PageStart
    ) -> TaskData:
        if cursor.task in JUDGED:
            return await self._describe_signature(task_id, cursor, trails)
        if cursor.task is not Task.BULK:
            return await self._describe_changes(task_id, cursor, trails)
        return TaskData(task_id, "RUNNING") if self._is_pending(cursor) else await self._describe_bulk(task_id, cursor, trails, start)

    async def _describe_in_admin(self, task_id: str, cursor: Cursor) -> TaskData:
        view, state = self.published_view, self.admin()
        if cursor.task is Task.DELEGATE:
            return await delegation_tasks.describe(task_id, cursor, self.bus, view, state)
        if cursor.task is not Task.PUBLISH:
            return trust_tasks.describe(task_id, cursor, view, state)
        async with self._reading:
            return await publish_tasks.describe(task_id, cursor, self.bus, view, state, self.receipts, self._settings)

    async def _find(self, named: Cursor) -> Cursor:
        if (known := self.recent.find_named(named.request)) is not None:
            return known
        async with self._reading:
            found = await find_records(self.bus, named, self._most_bytes, self.receipts.passed)
        if found is None:
            raise InvalidCursorError("the records of the task are not on the log")
        self.recent.found(named.request, found)
        return found

    @property
    def _settings(self) -> Settings | None:
        return bootstrap.settings if (bootstrap := self.admin().bootstrap) else None

    @property
    def _most_bytes(self) -> int:
        return GROWTH * max(self.max_request_bytes, MAX_EVENT_BYTES)

    def _trails(self, cursor: Cursor) -> dict[int, ReceiptIndex | None] | None:
        """Return the trails of a task's partitions; None if the task is not published yet, or this process has not read that it is.

        Changes that are held, or were refused, need not be published.
        """
        published = self.published_view.published
        if published is None or not (cursor.hold or cursor.task in JUDGED or cursor.is_covered(published.vector)):
            return None
        found = {partition: self.published_view.progress.get(partition) for partition in cursor.positions}
        if any(one is None or one.offset <= cursor.positions[partition][-1] for partition, one in found.items()):
            return None
        return {partition: one.trail for partition, one in found.items() if one is not None}

    async def _may_exist(self, cursor: Cursor) -> bool:
        partitions = self.bus.partitions(topics.ARTIFACTS)
        if any(not 0 <= partition < partitions for partition in cursor.positions):
            return False
        ends = [await self.bus.end(topics.ARTIFACTS, partition) for partition in cursor.positions]
        return all(offsets[-1] < end for offsets, end in zip(cursor.positions.values(), ends, strict=True))

    async def _describe_bulk(self, task_id: str, cursor: Cursor, trails: Mapping[int, ReceiptIndex | None], start: PageStart) -> TaskData:
        for partition, offsets in cursor.positions.items():
            value = await read_value(self.bus, partition, offsets[-1])
            changes = None if value is None else read_changes(value)
            is_known = changes is not None or any(await self._refusals(cursor, (partition, offsets[-1]), trails))
            if not is_known or (changes is not None and cursor.request and changes.request != cursor.request):
                return TaskData(task_id, "PENDING")
        message = "Artifact(s) published"
        if cursor.format != BULK_FORMAT:
            return finished(task_id, cursor, f"{message}, but those that were refused", {}, OLD_BULK_ID)
        known = {partition: trail for partition, trail in trails.items() if trail is not None}
        if len(known) < len(trails):
            raise ReceiptsGoneError
        page = await read_page(self.bus, self.receipts, cursor, known, start)
        details: dict[str, Any] = {"refused": page.refused, "refused_artifacts": page.artifacts}
        if page.after is not None:
            details["after"] = page.after
        if not page.refused:
            return finished(task_id, cursor, message, details)
        error = f"{page.refused} changes were refused" + ("" if all(one.path for one in page.artifacts) else ", or may have been")
        error += "; the next page may have more" if page.after is not None else ""
        return finished(task_id, cursor, f"{message}, but not those that were refused", details, error)

    async def _describe_changes(self, task_id: str, cursor: Cursor, trails: Mapping[int, ReceiptIndex | None]) -> TaskData:
        found = await self._read_back(cursor)
        if not isinstance(found, dict):
            reasons, is_unknown = await self._refusals(cursor, found, trails)
            if reasons:
                return finished(task_id, cursor, "Not accepted", {}, "; ".join(reasons))
            unknown = finished(task_id, cursor, "Unknown", {}, f"what became of it is unknown: {UNREADABLE}")
            return unknown if is_unknown else TaskData(task_id, "PENDING")
        request = next(iter(found.values())).request
        receipts: dict[tuple[int, int, int], ChangeReceipt] = {}
        uncertain: set[Position] = set()
        for partition, trail in trails.items():
            read = await self._read_receipts(cursor, partition, cursor.positions[partition], trail, request)
            receipts.update(((partition, receipt.offset, receipt.index), receipt) for receipt in read.receipts)
            uncertain.update((partition, offset) for offset in read.uncertain)
        if roles := await self._waiting(cursor, found, receipts):
            people, routing = self.published_view.people, self.admin().routing
            assert routing is not None
            message = "; ".join(people.describe(role, routing.delegations) for role in roles[:SHOWN_ROLES])
            return running(task_id, cursor, message, {"waiting": roles})
        return await _describe_artifacts(task_id, cursor, found, receipts, uncertain, self.admin().routing)

    def _is_pending(self, cursor: Cursor) -> bool:
        """Return whether changes of a bulk request wait for people, or may do so: other requests may have some between its own."""
        people = self.published_view.people
        return any(people.has_pending(partition, offsets[0], offsets[-1]) for partition, offsets in cursor.positions.items())

    async def _waiting(
        self, cursor: Cursor, found: Mapping[Position, Changes], receipts: Mapping[tuple[int, int, int], ChangeReceipt]
    ) -> list[str]:
        """Return the roles that have changes of a request and wait for people, or are about to be published."""
        routing, view = self.admin().routing, self.published_view
        if routing is None or not routing.delegations.offline or cursor.hold:
            return []
        versions, waiting = await view.versions_published(), dict[str, None]()
        for (partition, offset), changes in found.items():
            for index, change in enumerate(changes.changes):
                receipt = receipts.get((partition, offset, index))
                if receipt is not None and receipt.outcome != "unchanged":
                    continue
                for role in routing.find_roles(change, partition, offset, changes.admin)[0]:
                    if role in routing.delegations.offline and not view.people.has_live(role, offset, versions.get(role, 0)):
                        waiting[role] = None
            await asyncio.sleep(0)
        return sorted(waiting)

    async def _describe_signature(self, task_id: str, cursor: Cursor, trails: Mapping[int, ReceiptIndex | None]) -> TaskData:
        """Describe a signature of a custom role, or a withdrawal, which is done once the role's writer has judged it."""
        ((partition, offsets),) = cursor.positions.items()
        value = await read_value(self.bus, partition, offsets[-1])
        changes = None if value is None else read_changes(value)
        if changes is not None and not isinstance(changes.sign, RoleSignature):
            return TaskData(task_id, "PENDING")
        is_signature = cursor.task is Task.SIGN_ROLE
        reasons, is_unknown = await self._refusals(cursor, (partition, offsets[-1]), trails)
        if reasons or is_unknown:
            message = "Signature Failed" if is_signature else "Deletion of metadata pending signatures failed"
            return finished(task_id, cursor, message, {}, "; ".join(reasons) or f"what became of it is unknown: {UNREADABLE}")
        if changes is None or not isinstance(changes.sign, RoleSignature):
            return TaskData(task_id, "PENDING")
        role, version = changes.sign.role, changes.sign.version
        if not is_signature:
            return finished(task_id, cursor, f"Deletion of {role} metadata successful, signing process stopped", {})
        proposed = self.published_view.people.proposed(role)
        is_pending = proposed is not None and proposed.version == version
        message = f"{role} v{version} is pending signatures" if is_pending else "Metadata update finished"
        return finished(task_id, cursor, "Signature Processed", {"update": message})

    async def _read_back(self, cursor: Cursor) -> dict[Position, Changes] | Position:
        """Read the records of a task, or return the first one that is gone or can't be read.

        Raises:
            InvalidCursorError: if the records do not belong to one request.
        """
        found: dict[Position, Changes] = {}
        room = self._most_bytes
        request = ""
        for place in _places(cursor):
            value = self.recent.find(place) or await read_value(self.bus, *place)
            changes = None if value is None else read_changes(value)
            if changes is None:
                return place
            room -= len(value or b"")
            if changes.bulk or changes.hold != cursor.hold or room < 0 or request not in {"", changes.request}:
                raise InvalidCursorError("the task id names records that are not those of one request")
            found[place], request = changes, changes.request
            await asyncio.sleep(0)  # records are decoded one at a time, so that other tasks can run in between
        return found

    async def _refusals(self, cursor: Cursor, place: Position, trails: Mapping[int, ReceiptIndex | None]) -> tuple[list[str], bool]:
        """Return the reasons for which a missing or unreadable record was not applied, and whether its receipt may be unreadable."""
        partition, offset = place
        read = await self._read_receipts(cursor, partition, [offset], trails[partition])
        reasons = {one.reason for one in read.receipts if one.outcome == "refused" and not one.path and not one.ranges}
        return sorted(reasons), bool(read.uncertain)

    async def _read_receipts(
        self, cursor: Cursor, partition: int, offsets: Sequence[int], trail: ReceiptIndex | None, request: str = ""
    ) -> FoundReceipts:
        if trail is not None and offsets[0] >= trail.start:
            with suppress(ReceiptsUnreadableError):  # then the receipts are searched for without the request's name
                return await self.receipts.of(partition, offsets, trail, request)
        found = await task_receipts.of_records(self.bus, partition, offsets, cursor.time, request, self.receipts.passed)
        if found is None:
            raise ReceiptsGoneError
        return found


def _places(cursor: Cursor) -> list[Position]:
    return [(partition, offset) for partition, offsets in cursor.positions.items() for offset in offsets]


async def _describe_artifacts(
    task_id: str,
    cursor: Cursor,
    found: Mapping[Position, Changes],
    receipts: Mapping[tuple[int, int, int], ChangeReceipt],
    uncertain: Collection[Position],
    routing: Routing | None,
) -> TaskData:
    roles: set[str] = set()
    happened: dict[str, bool] = {}
    refused: dict[str, str] = {}
    unknown: dict[str, None] = {}
    for (partition, offset), changes in found.items():
        for index, change in enumerate(changes.changes):
            receipt = receipts.get((partition, offset, index))
            outcome = receipt.outcome if receipt is not None else ""
            # If a path is removed twice, the artifact existed at the first removal. A removal may also be in several partitions, one for
            # each role that the path ever had; the artifact existed if any of them had it.
            happened[change.path] = happened.get(change.path, False) or outcome in {"", "unchanged"}
            if receipt is not None and outcome == "refused":
                refused[change.path] = receipt.reason
            if receipt is None and (partition, offset) in uncertain:
                unknown[change.path] = None
        if routing is not None and cursor.task is Task.ADD:
            for change in changes.changes:
                roles.update(routing.find_roles(change, partition, offset, changes.admin)[0])
        await asyncio.sleep(0)  # a request may have millions of changes: other tasks can run after each record
    done = [path for path, is_done in happened.items() if is_done and path not in refused and path not in unknown]
    details: dict[str, Any] = {}
    if cursor.task is Task.ADD:
        message = "Artifact(s) Added"
        details = {"added_artifacts": done, "invalid_paths": list(refused), "artifact_roles": sorted(roles)}
    else:
        message = "Artifact(s) removed"
        missing = [path for path, is_done in happened.items() if not is_done and path not in refused and path not in unknown]
        details = {"deleted_artifacts": done, "not_found_artifacts": missing, "invalid_paths": list(refused) or None}
    if cursor.hold:
        details["held"] = True
    if refused:  # RSTUF's clients read invalid_paths, which has no reasons
        details["refused_artifacts"] = [RefusedArtifact(path, reason) for path, reason in refused.items()]
    if unknown:
        details["unknown_artifacts"] = list(unknown)
        reasons = [f"what became of {len(unknown)} artifacts is unknown: {UNREADABLE}", *sorted(set(refused.values()))]
        return finished(task_id, cursor, f"{message}, but it is unknown whether all were", details, "; ".join(reasons))
    if refused and len(refused) == len(happened):
        return finished(task_id, cursor, "No artifact was accepted", details, "; ".join(sorted(set(refused.values()))))
    return finished(task_id, cursor, message, details)
