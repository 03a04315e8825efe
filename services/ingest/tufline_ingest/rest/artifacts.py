"""Artifacts over REST: RSTUF's calls to add and remove them, bulk import, and a query for what is live.

A request is answered when its changes are on the log. It is accepted as a whole or not at all; in a bulk request, each line is accepted or
refused separately.
"""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from tufline.bus import Position
from tufline.clock import moment_of
from tufline.errors import BusError, InvalidTargetError
from tufline.metadata.paths import check_path
from tufline.metadata.target import TargetRules
from tufline.records import Add, Remove, cursor
from tufline.records.cursor import Task
from tufline.records.routing import Routing
from tufline.runtime.turns import Turns
from tufline.trust.admin_state import Bootstrapped
from tufline_ingest import accept, metrics
from tufline_ingest.accept import SHOWN_PATH_LENGTH, Change, Named
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError, NotNowError, TooManyPendingError
from tufline_ingest.rest import request_body
from tufline_ingest.rest.bulk import BulkOutcome, take_lines
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.responses import PART_OF_IT, answer
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.artifacts import AddEnvelope, Artifact, BulkAnswer, BulkResult, LiveArtifact, RemoveRequest

HELD: Final = " Publishing will be skipped."
"""The text that RSTUF appends to the message of a request whose changes are held."""


async def make_adds(request: AddEnvelope, allowed: TargetRules) -> list[Change]:
    """Make the changes of a request that adds artifacts.

    Args:
        request: as sent.
        allowed: what targets may have.

    Returns:
        A change for each artifact.

    Raises:
        BadRequestError: if any change can't be accepted; then none is.
    """
    changes: list[Change] = []
    turns = Turns()
    for number, raw in enumerate(request.artifacts):
        artifact = decode(Artifact, raw, f"artifacts[{number}] of the request")
        try:
            changes.append(accept.make_add(artifact.path, artifact.info, allowed))
        except InvalidTargetError as error:
            raise _refusal(number, artifact.path, error) from None
        await turns.take(len(memoryview(raw)))
    return changes


async def add_task_ids(changes: Sequence[Change], task_id: str) -> list[Change]:
    """Put the id of the task into the custom of every artifact that a request adds.

    Args:
        changes: of the request.
        task_id: of the request.

    Returns:
        The changes, in the same order.

    Raises:
        BadRequestError: if any custom becomes too large.
    """
    changed: list[Change] = []
    turns = Turns()
    for number, change in enumerate(changes):
        try:
            changed.append(accept.add_task_id(change, task_id) if isinstance(change, Add) else change)
        except InvalidTargetError as error:
            raise _refusal(number, change.path, f"with the task id in it, {error}") from None
        await turns.take()
    return changed


async def make_removes(request: RemoveRequest) -> list[Change]:
    """Make the changes of a request that removes artifacts.

    Args:
        request: as sent.

    Returns:
        A change for each path.

    Raises:
        BadRequestError: if any change can't be accepted; then none is.
    """
    changes: list[Change] = []
    turns = Turns()
    for number, path in enumerate(request.artifacts):
        try:
            changes.append(Remove(check_path(path)))
        except InvalidTargetError as error:
            raise _refusal(number, path, error) from None
        await turns.take()
    return changes


def _refusal(number: int, path: str, error: InvalidTargetError | str) -> BadRequestError:
    excerpt = ascii(path[:SHOWN_PATH_LENGTH])
    return BadRequestError(f"artifacts[{number}] ({excerpt}) can't be accepted: {error}; nothing of this request was accepted")


async def _check_room(context: Context, routing: Routing, changes: Sequence[Change]) -> None:
    """Refuse changes of custom roles that people sign, if as many wait already as may.

    Raises:
        TooManyPendingError: with what to do.
    """
    progress, turns = context.published_view.progress, Turns()
    full = {number for number, one in progress.items() if one.max_pending and one.pending >= one.max_pending}
    if not full or not routing.delegations.offline:
        return
    for change in changes:
        for role in routing.roles_of(change):
            if role in routing.delegations.offline and (number := routing.partition_of(role)) in full:
                raise TooManyPendingError(role, progress[number].max_pending)
        await turns.take()


async def _append(
    context: Context, repository: Bootstrapped, changes: Sequence[Change], bulk: str = "", named: Named | None = None, *, hold: bool = False
) -> Sequence[Position]:
    if not bulk:
        await _check_room(context, repository.routing, changes)
    messages = await accept.make_messages(changes, repository.routing, repository.next_offset, bulk, named, hold=hold)
    with metrics.append_seconds.time():
        positions = await context.append(messages)
    if not bulk:
        context.tasks.recent.accepted(messages, positions)
    if not hold:
        context.published_view.watch(positions)
    accept.count(changes)
    return positions


async def _submit(
    context: Context,
    task: Task,
    changes: Sequence[Change],
    message: str,
    *,
    hold: bool,
    is_named: bool = False,
) -> web.Response:
    named, repository = None, context.check_bootstrapped()
    if not changes:
        where = accept.cursor_of_nothing(task, context.bus.log_id, context.clock.latest())
    else:
        if is_named:
            named = await accept.name_task(task, context.bus, changes, repository.routing, context.clock.latest(), hold=hold)
            changes = await add_task_ids(changes, cursor.encode(named.cursor))
        positions = await _append(context, repository, changes, named=named, hold=hold)
        where = accept.make_cursor(task, context.bus.log_id, positions, hold=hold)
        if named is not None:
            context.tasks.recent.found(named.name, where)
    paths = [change.path for change in changes]
    data = Submitted(cursor.encode(where if named is None else named.cursor), moment_of(where.time), paths)
    return answer(SubmittedAnswer(data, message + (HELD if hold else "")), 202)


async def add_artifacts(context: Context, request: web.Request) -> web.Response:
    """Append new or changed artifacts to the log."""
    context.check_bootstrapped()
    requested = decode(AddEnvelope, await context.body(request))
    changes = await make_adds(requested, context.allowed)
    text = "New Artifact(s) successfully submitted."
    hold, is_named = not requested.publish_artifacts, requested.add_task_id_to_custom
    return await _submit(context, Task.ADD, changes, text, hold=hold, is_named=is_named)


async def remove_artifacts(context: Context, request: web.Request) -> web.Response:
    """Append removals of artifacts to the log."""
    context.check_bootstrapped()
    requested = decode(RemoveRequest, await context.body(request))
    changes, hold = await make_removes(requested), not requested.publish_artifacts
    return await _submit(context, Task.REMOVE, changes, "Remove Artifact(s) successfully submitted.", hold=hold)


async def import_lines(context: Context, request: web.Request) -> web.Response:
    """Append the changes of a bulk request to the log while its lines arrive."""
    context.check_bootstrapped()
    outcome, name = BulkOutcome(), accept.name_request()

    async def append(changes: list[Change]) -> Sequence[Position]:
        return await _append(context, context.check_bootstrapped(), changes, name)

    try:
        await take_lines(request_body.pieces(request), context.config.bulk_line_bytes, context.allowed, append, outcome)
    except BusError as error:
        raise NotNowError(f"{outcome.accepted} lines are on the log, then it could take no more: {error}; {PART_OF_IT}") from error
    except BadRequestError as error:
        raise BadRequestError(f"{outcome.accepted} lines are on the log, then reading stopped: {error}") from error
    finally:
        metrics.refused.inc(outcome.refused)
    if not outcome.accepted and not outcome.refused:
        raise BadRequestError("the request has no lines: send one change a line, each a JSON object")
    task_id, time = None, context.clock.latest()
    if outcome.ends:
        where = accept.make_cursor(Task.BULK, context.bus.log_id, outcome.positions, name)
        task_id, time = cursor.encode(where), moment_of(where.time)
    result = BulkResult(task_id, time, outcome.accepted, outcome.refused, outcome.refused_lines)
    return answer(BulkAnswer(result, "Lines submitted."), 202)


async def get_artifact(context: Context, request: web.Request) -> web.Response:
    """Answer with the published metadata of an artifact."""
    repository = context.check_bootstrapped()
    try:
        path = check_path(request.match_info["path"])
    except InvalidTargetError as error:
        raise BadRequestError(f"no artifact can have this path: {error}") from None
    found = await context.published_view.find(path, repository.routing)
    target = found.target
    return answer(
        LiveArtifact(target.path, target.length, target.hashes, found.role, found.role_version, found.snapshot_version, target.custom)
    )
