"""Appending accepted changes to the log: the first step of every artifact.

In: the changes that a request or an event asks for. Out: records of ``artifacts``, one or more for each partition, and the cursor that says
where they are.
"""

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tufline import records
from tufline.bus import Bus, Message, Position
from tufline.clock import milliseconds_of
from tufline.config.settings import IngestConfig
from tufline.decoding import shorten
from tufline.errors import InvalidTargetError
from tufline.metadata.delegations import check_path_under
from tufline.metadata.paths import check_path
from tufline.metadata.profiles import STANDARD
from tufline.metadata.target import TargetRules, check_custom, parse_target_json
from tufline.records import (
    CURRENT_RULES,
    HOLD_SCHEMA,
    MAX_CHANGES_BYTES,
    SCHEMA_VERSION,
    Add,
    Changes,
    Part,
    Remove,
    cursor,
    topics,
)
from tufline.records.cursor import Cursor, Task
from tufline.records.events import ArtifactInfo, ChangeRequest
from tufline.records.routing import Routing
from tufline.runtime.turns import Turns
from tufline.views.admin import AdminFollower
from tufline_ingest import metrics

Change = Add | Remove

SHOWN_PATH_LENGTH = 100
"""How much of a refused path an answer repeats, in characters."""

SHOWN_ROLES = 20
"""Of how many custom roles a message names the paths."""

HEAD_BYTES = 1024
"""The largest size of a record of ``artifacts`` without its changes and its parts, in bytes."""

PART_BYTES = 40
"""The largest size of a part in a record of ``artifacts``, in bytes."""

TASK_ID_FIELD = "added_by_task_id"
"""RSTUF's name of the field in an artifact's custom that has the id of the task."""


def allowed_in(config: IngestConfig, admin: AdminFollower) -> TargetRules:
    """Return the rules for new targets of the repository.

    Args:
        config: of ingest.
        admin: the state of ``admin``; each path is checked with the custom delegations at that moment.

    Returns:
        The rules. They refuse a path that no role would take; and in a repository for all clients, one of which clients disagree in which
        roles it is.
    """
    profile = admin.state.profile
    allowed = config.allowed(profile)

    def check(path: str) -> str:
        checked = allowed.check_path(path)
        if (routing := admin.state.routing) is None or not routing.versions:
            return checked
        if not routing.takes(checked):
            trusted = shorten(", ".join(pattern for role in routing.delegations.roles[:SHOWN_ROLES] for pattern in role.paths))
            raise InvalidTargetError(
                f"no custom role is trusted for this path, and this repository has no bins: the roles have the paths {trusted or 'none'}"
            )
        if profile == STANDARD:
            check_path_under(routing.delegations.visited(checked), checked)
        return checked

    return allowed._replace(check_path=check)


def make_add(path: str, info: ArtifactInfo, allowed: TargetRules) -> Add:
    """Make the change that adds or replaces an artifact.

    Args:
        path: the target path.
        info: the artifact's metadata: length, hashes and custom, as JSON.
        allowed: the rules for targets.

    Returns:
        The change.

    Raises:
        InvalidTargetError: with the reason.
    """
    target = parse_target_json(path, bytes(info.length), bytes(info.hashes), bytes(info.custom), allowed)
    return Add(target.path, target.length, target.hashes, target.custom)


def make_change(requested: ChangeRequest, allowed: TargetRules) -> Change:
    """Make a change from a line or an event.

    Args:
        requested: the change that the line or the event asks for.
        allowed: the rules for targets.

    Returns:
        The change.

    Raises:
        InvalidTargetError: with the reason.
    """
    if requested.op == "remove":
        return Remove(check_path(requested.path))
    if requested.info is None:
        raise InvalidTargetError("info is missing: it has the artifact's length and hashes")
    return make_add(requested.path, requested.info, allowed)


def name_request() -> str:
    """Make a name for a request.

    Returns:
        A unique name.
    """
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Named:
    """A request whose task id is made before its records are appended.

    Attributes:
        name: the request's name.
        starts: partition to an offset that is not above the request's first record in it; the partition of the first change comes first.
        cursor: the task id's cursor.
    """

    name: str
    starts: Mapping[int, int]
    cursor: Cursor


async def name_task(task: Task, bus: Bus, changes: Sequence[Change], routing: Routing, now: datetime, *, hold: bool = False) -> Named:
    """Make a task id for changes that are not on the log yet.

    Args:
        task: the kind of the request.
        bus: the log.
        changes: of the request, at least one.
        routing: of the repository, the same as for ``make_messages``.
        now: the current time, with a time zone.
        hold: whether the changes are to be held.

    Returns:
        The request, named.

    Raises:
        BusError: if the log can't be read now.
    """
    partitions = [*dict.fromkeys(partition for change in changes for partition in routing.partitions_of(change))]
    ends = await asyncio.gather(*(bus.end(topics.ARTIFACTS, partition) for partition in partitions))
    name, starts = name_request(), dict(zip(partitions, ends, strict=True))
    where = {partitions[0]: [starts[partitions[0]]]}
    return Named(name, starts, Cursor(cursor.NAMED_FORMAT, task, bus.log_id, milliseconds_of(now), where, name, hold))


def add_task_id(change: Add, task_id: str) -> Add:
    """Put the id of the task into the custom of an artifact.

    Args:
        change: adds the artifact.
        task_id: of the request.

    Returns:
        The change with ``TASK_ID_FIELD`` in custom.

    Raises:
        InvalidTargetError: if custom becomes too large.
    """
    return msgspec.structs.replace(change, custom=check_custom({**(change.custom or {}), TASK_ID_FIELD: task_id}))


async def make_messages(
    changes: Iterable[Change], routing: Routing, admin: int, bulk: str = "", named: Named | None = None, *, hold: bool = False
) -> list[Message]:
    """Make the records of a request: its changes by partition, in the request's order. Many changes are encoded in turns.

    Args:
        changes: of one request.
        routing: of the repository.
        admin: the offset in ``admin`` below which all records are applied in the state that ``routing`` is of: the signer finds the roles
            of the changes by the same version of the delegations.
        bulk: the name of the bulk request that the changes are part of; empty for any other request.
        named: the request, if its task id is made already.
        hold: whether the changes are to be held until a publish.

    Returns:
        Messages for ``artifacts``.
    """
    grouped: dict[int, list[_Group]] = {}
    turns = Turns()
    room = MAX_CHANGES_BYTES - HEAD_BYTES - (PART_BYTES * len(named.starts) if named is not None else 0)
    for change in changes:
        encoded = records.encode_change(change)
        for partition in routing.partitions_of(change):
            groups = grouped.setdefault(partition, [])
            if not groups or groups[-1].size + len(encoded) >= room:
                groups.append(_Group())
            groups[-1].add(encoded)
            await turns.take(len(encoded))
    name = bulk or (named.name if named is not None else name_request())
    version = HOLD_SCHEMA if hold else SCHEMA_VERSION
    whole = Changes(v=version, request=name, admin=admin, changes=[], rules=CURRENT_RULES, bulk=bool(bulk), hold=hold)
    each = [(partition, group) for partition, groups in grouped.items() for group in groups]
    heads = [whole] * len(each)
    if named is not None:
        parts = tuple(Part(partition, named.starts[partition], len(groups)) for partition, groups in grouped.items())
        heads[0] = msgspec.structs.replace(whole, parts=parts)
    return [
        Message(topics.ARTIFACTS, name, records.encode_changes(head, group.encoded), partition)
        for head, (partition, group) in zip(heads, each, strict=True)
    ]


@dataclass(slots=True)
class _Group:
    """Changes of one record, encoded.

    Attributes:
        encoded: each of them.
        size: the size of all changes with the commas between them, in bytes.
    """

    encoded: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, encoded: bytes) -> None:
        self.encoded.append(encoded)
        self.size += len(encoded) + 1


def make_cursor(task: Task, log_id: str, positions: Sequence[Position], request: str = "", *, hold: bool = False) -> Cursor:
    """Make the cursor of a request.

    Args:
        task: the kind of the request.
        log_id: of the log.
        positions: the positions of all records of the request, at least one; for a bulk request, those of the first and the last record in
            each partition.
        request: the name of a bulk request; empty for any other request.
        hold: whether the changes are to be held.

    Returns:
        The cursor.
    """
    by_partition: dict[int, list[int]] = {}
    for position in positions:
        by_partition.setdefault(position.partition, []).append(position.offset)
    form = cursor.BULK_FORMAT if request else cursor.FORMAT
    return Cursor(form, task, log_id, max(position.time for position in positions), by_partition, request, hold)


def cursor_of_nothing(task: Task, log_id: str, now: datetime) -> Cursor:
    """Make the cursor of a request without changes: it has no records, and its task is done.

    Args:
        task: the kind of the request.
        log_id: of the log.
        now: when it was accepted, with a time zone.

    Returns:
        The cursor.
    """
    return Cursor(cursor.FORMAT, task, log_id, milliseconds_of(now), {})


def count(changes: Sequence[Change]) -> None:
    """Count accepted changes, for operators.

    Args:
        changes: changes that are on the log.
    """
    adds = sum(isinstance(change, Add) for change in changes)
    metrics.accepted.labels("add").inc(adds)
    metrics.accepted.labels("remove").inc(len(changes) - adds)
