"""The REST API of trust: new versions of root and targets that people signed, and the current and pending versions.

New versions are submitted by RSTUF's call, which accepts only root there; here it also accepts targets (PEP 458's mode) and
``skip_overlap``. A version with too few signatures waits for more (``signatures``). A version with enough signatures becomes current once
everything that it governs verifies under it; its task is done then.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime

import msgspec
from aiohttp import web
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.errors import InvalidUpdateError, MetadataError
from tufline.records import CURRENT_RULES, DELEGATIONS_SCHEMA, RENEWAL_KEY, NewMetadata, Renewal, cursor, topics
from tufline.records.cursor import Task
from tufline.trust import delegating, online, proposals
from tufline.trust.admin_state import AdminState
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.request_json import decode, read_metadata
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.role_requests import check_count
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.trust import MetadataRequest, RenewalRequest, TrustAnswer, TrustedRole


async def post_metadata(context: Context, request: web.Request) -> web.Response:
    """Append new versions of root and targets to the log."""
    context.check_bootstrapped()
    requested = decode(MetadataRequest, await context.body(request))
    of_role = {Root.type: requested.metadata.root, Targets.type: requested.metadata.targets}
    # In a thread, because unsigned input may take long to read.
    submitted = {role: await asyncio.to_thread(read_metadata, role, content) for role, content in of_role.items()}
    updates = [
        NewMetadata(role=role, metadata=one, skip_overlap=requested.skip_overlap, rules=CURRENT_RULES)  # type: ignore[arg-type]
        for role, one in submitted.items()
        if one is not None
    ]
    if not updates:
        raise BadRequestError("metadata is empty: give root, or targets, or both")
    async with context.alone():
        # The clock is read here: a thread without an event loop can't.
        updates = await asyncio.to_thread(_judge, context.admin.state, updates, context.clock.latest(), context.config.max_roles)
        updates = await _with_ends(context, updates)
        positions = await context.append([Message(topics.ADMIN, update.role, records.encode(update)) for update in updates])
        await context.read_back(positions[-1].offset)
    where = accept.make_cursor(Task.METADATA, context.bus.log_id, positions)
    data = Submitted(cursor.encode(where), moment_of(where.time))
    return answer(SubmittedAnswer(data, "Metadata update accepted."), 202)


async def post_renewal(context: Context, request: web.Request) -> web.Response:
    """Append a renewal of online roles to the log."""
    context.check_bootstrapped()
    asked = decode(RenewalRequest, await context.body(request))
    async with context.alone():
        state = context.admin.state
        wanted = asked.roles or online.online_roles(state)
        renewal = Renewal(roles=[*dict.fromkeys(wanted)], since=await context.bus.end(topics.METADATA, 0))
        try:
            online.renew(state, renewal, state.next_offset)
        except InvalidUpdateError as error:
            raise BadRequestError(f"the renewal can't be accepted: {error}") from None
        (position,) = await context.append([Message(topics.ADMIN, RENEWAL_KEY, records.encode(renewal))])
        await context.read_back(position.offset)
    where = accept.make_cursor(Task.RENEW, context.bus.log_id, [position])
    data = Submitted(cursor.encode(where), moment_of(where.time))
    return answer(SubmittedAnswer(data, "Force online metadata update accepted."), 202)


async def _with_ends(context: Context, updates: list[NewMetadata]) -> list[NewMetadata]:
    """Name the ends of the partitions in a version that changes the custom delegations, unless it waits for signatures."""
    repository = context.check_bootstrapped()
    return [
        update if update.ends is None or update.signing else msgspec.structs.replace(update, ends=await context.append_marks(repository))
        for update in updates
    ]


def _judge(state: AdminState, updates: list[NewMetadata], now: datetime, max_roles: int) -> list[NewMetadata]:
    judged: list[NewMetadata] = []
    before = state
    try:
        for update in updates:
            state, content = proposals.submit(state, _with_any_ends(state, update), state.next_offset, now)
            state = replace(state, next_offset=state.next_offset + 1)
            judged.append(content)
    except (InvalidUpdateError, MetadataError) as error:
        raise BadRequestError(f"the metadata can't be accepted: {error}") from None
    check_count(before, state, max_roles)
    return judged


def _with_any_ends(state: AdminState, update: NewMetadata) -> NewMetadata:
    """Let a version that changes the custom delegations be judged before its ends are known."""
    if state.bootstrap is None or not delegating.needs_ends(state, update.role, update.metadata):
        return update
    return msgspec.structs.replace(update, v=DELEGATIONS_SCHEMA, ends=[0] * state.bootstrap.settings.partitions)


async def get_trust(context: Context, _: web.Request) -> web.Response:
    """Answer with the current and pending root and targets, and the keys that sign."""
    repository, view = context.check_bootstrapped(), context.published_view
    settings, layout = repository.settings, repository.settings.layout
    bins = Counter(keyid for index in range(settings.number_of_bins) for keyid in view.keyids.get(layout.name(index), ()))
    targets = repository.targets[-1] if repository.targets else None
    custom = repository.routing.delegations.roles
    catch_all = [settings.name_prefix] if custom else []
    return answer(
        TrustAnswer(
            root=TrustedRole(view.versions.get(Root.type, 0), repository.roots[-1].signed.version, dict(repository.roots[-1].metadata)),
            targets=TrustedRole(
                view.versions.get(Targets.type, 0),
                targets.signed.version if targets else None,
                dict(targets.metadata) if targets else None,
            ),
            keyids={role: list(view.keyids.get(role, ())) for role in (Timestamp.type, Snapshot.type, Targets.type, *catch_all)},
            bins=dict(bins),
            number_of_bins=settings.number_of_bins,
            custom_roles={role.name: list(view.keyids.get(role.name, ())) for role in custom},
            waiting_root=None if (waiting := context.admin.state.waiting_root) is None else waiting.signed.version,
        )
    )
