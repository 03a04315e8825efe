"""Custom delegations over REST: RSTUF's calls to add, replace and delete roles, and a call that lists them.

An accepted change is one record in ``admin``. It begins at an end of each partition of ``artifacts``: first ingest appends a mark to each
partition, and the record names the offsets after the marks, so that each change of artifacts is routed by one version of the delegations.
"""

import asyncio
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.errors import InvalidUpdateError
from tufline.metadata.delegations import Delegations
from tufline.records import CURRENT_RULES, DELEGATIONS_KEY, OFFLINE_ROLES_SCHEMA, ChangedDelegations, cursor, topics
from tufline.records.cursor import Task
from tufline.trust import delegating
from tufline.trust.admin_state import AdminState
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.role_requests import check_count, keys_named, read_roles
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.delegations import (
    CurrentDelegations,
    CurrentRole,
    DelegationsAnswer,
    DelegationsRequest,
    DeleteDelegationsRequest,
)

Action = Literal["add", "update", "delete"]

MAX_RECORD_BYTES: Final = 512 * 1024
"""The largest record of a change, in bytes: every service parses it in one call."""


async def post_delegations(context: Context, request: web.Request) -> web.Response:
    """Append new custom roles to the log."""
    return await _put(context, request, "add")


async def put_delegations(context: Context, request: web.Request) -> web.Response:
    """Append other keys, paths or lifetimes of custom roles to the log."""
    return await _put(context, request, "update")


async def delete_delegations(context: Context, request: web.Request) -> web.Response:
    """Append the deletion of custom roles to the log."""
    context.check_bootstrapped()
    asked = decode(DeleteDelegationsRequest, await context.body(request))
    return await _submit(context, "delete", deleted=[role.name for role in asked.delegations.roles])


async def get_delegations(context: Context, _: web.Request) -> web.Response:
    """Answer with the custom roles, and how far they are published."""
    delegations = context.check_bootstrapped().routing.delegations
    view, published = context.published_view, await context.published_view.versions_published()
    roles = [
        CurrentRole(
            name=role.name,
            paths=[*role.paths],
            terminating=role.terminating,
            keyids=[*role.keyids],
            threshold=role.threshold,
            expire_policy=role.days,
            version=published.get(role.name, 0),
            expires=view.expires.get(role.name),
            signed_by=[*view.keyids.get(role.name, ())],
        )
        for role in delegations.roles
    ]
    return answer(DelegationsAnswer(CurrentDelegations(roles, delegations.keys)))


async def _put(context: Context, request: web.Request, action: Literal["add", "update"]) -> web.Response:
    context.check_bootstrapped()
    asked = decode(DelegationsRequest, await context.body(request)).delegations
    return await _submit(context, action, roles=read_roles(asked, "delegations"), keys=keys_named(asked))


async def _submit(context: Context, action: Action, **content: Any) -> web.Response:
    async with context.alone():
        repository = context.check_bootstrapped()
        wanted = ChangedDelegations(action=action, ends=[0] * repository.settings.partitions, rules=CURRENT_RULES, **content)
        known = Delegations({**repository.routing.delegations.keys, **wanted.keys}, tuple(wanted.roles))
        if not repository.targets and known.offline:
            wanted = msgspec.structs.replace(wanted, v=OFFLINE_ROLES_SCHEMA)
        # In a thread, because many roles may take long to compare.
        await asyncio.to_thread(_judge, context.admin.state, wanted, context.config.max_roles, context.clock.latest())
        wanted = msgspec.structs.replace(wanted, ends=await context.append_marks(repository))
        (position,) = await context.append([Message(topics.ADMIN, DELEGATIONS_KEY, records.encode(wanted))])
        await context.read_back(position.offset)
    if (reason := context.admin.state.refused.get(position.offset)) is not None:
        raise BadRequestError(f"another request was faster: {reason}")
    where = accept.make_cursor(Task.DELEGATE, context.bus.log_id, [position])
    data = Submitted(cursor.encode(where), moment_of(where.time))
    return answer(SubmittedAnswer(data, f"Metadata delegation {action} accepted."), 202)


def _judge(state: AdminState, wanted: ChangedDelegations, max_roles: int, now: datetime) -> None:
    # First, because each path is compared with all others.
    if (size := len(records.encode(wanted))) > MAX_RECORD_BYTES:
        raise BadRequestError(f"the delegations take {size} bytes, at most {MAX_RECORD_BYTES} are accepted: send them in parts")
    try:
        after = delegating.change(state, wanted, state.next_offset, now)
    except InvalidUpdateError as error:
        raise BadRequestError(f"the delegations can't be accepted: {error}") from None
    check_count(state, after, max_roles)
