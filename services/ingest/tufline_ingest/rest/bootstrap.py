"""The bootstrap over REST: RSTUF's calls, and the record of ``admin`` that a request becomes."""

import asyncio

from aiohttp import web
from tuf.api.metadata import Root, Targets

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.errors import InvalidBootstrapError, InvalidUpdateError, MetadataError
from tufline.metadata.bins import DEFAULT_NAME_PREFIX, MAX_BINS, MIN_BINS
from tufline.metadata.delegations import Delegations
from tufline.metadata.profiles import profile_of
from tufline.records import CURRENT_RULES, DELEGATIONS_SCHEMA, FIRST_RULES, Bootstrap, Settings, cursor, topics
from tufline.records.cursor import Cursor, Task
from tufline.records.partitioning import partition_bits
from tufline.trust import proposals
from tufline.trust.admin_state import AdminState
from tufline.trust.roles import bins_prefix
from tufline.trust.rules import MAX_EXPIRATION_DAYS
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError, BootstrappedError
from tufline_ingest.rest.request_json import decode, read_metadata, whole
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.role_requests import check_count, keys_named, read_roles
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.trust import BootstrapAnswer, BootstrapRequest, BootstrapState, RoleSettings


def make_bootstrap(request: BootstrapRequest, partitions: int, before: Bootstrap | None = None) -> Bootstrap:
    """Make the record of a bootstrap request; ``rules.check_bootstrap`` judges it.

    Args:
        request: as sent.
        partitions: of ``artifacts``.
        before: the bootstrap to replace, if there is one.

    Returns:
        The record.

    Raises:
        BadRequestError: if the settings can't be accepted.
    """
    roles = request.settings.roles
    if request.timeout is not None:
        whole("timeout", request.timeout)
    if roles.bins is None and roles.delegations is None:
        raise BadRequestError("settings.roles.bins is missing: it has expiration and number_of_delegated_bins")
    of_roles: dict[str, RoleSettings] = {
        "root": roles.root,
        "targets": roles.targets,
        "snapshot": roles.snapshot,
        "timestamp": roles.timestamp,
        # Without bins it is the lifetime of custom roles that have none of their own.
        "bins": roles.bins or roles.targets,
    }
    days = {role: whole(f"settings.roles.{role}.expiration", settings.expiration) for role, settings in of_roles.items()}
    for role, expiration in days.items():
        if not 1 <= expiration <= MAX_EXPIRATION_DAYS:
            raise BadRequestError(f"settings.roles.{role}.expiration must be from 1 to {MAX_EXPIRATION_DAYS} days, not {expiration}")
    root = read_metadata(Root.type, request.metadata.root) or {}
    targets = read_metadata(Targets.type, request.metadata.targets)
    try:
        prefix = DEFAULT_NAME_PREFIX if targets is None else bins_prefix(targets)
    except MetadataError as error:
        raise BadRequestError(f"the bootstrap can't be accepted: {error}") from None
    profile = request.settings.client_profile or profile_of(root, targets)
    if roles.bins is None:
        # Partitions without a bin would have no custom role either (``Routing.partition_of``).
        bins = min(max(MIN_BINS, 1 << (partitions - 1).bit_length()), MAX_BINS)
    else:
        bins = whole("settings.roles.bins.number_of_delegated_bins", roles.bins.number_of_delegated_bins)
    # If a bootstrap follows the first rules, bins and changes may be on the log already (acceptance.check_replacement).
    bits = before.settings.partition_bits if before is not None and before.rules == FIRST_RULES else partition_bits(partitions, bins)
    settings = Settings(bins, prefix, partitions, days, profile, bits, only_custom=roles.bins is None)
    custom = roles.delegations
    return Bootstrap(
        v=settings.schema if custom is None else DELEGATIONS_SCHEMA,
        settings=settings,
        root=root,
        targets=targets,
        replace=request.replace,
        rules=CURRENT_RULES,
        delegations=None if custom is None else Delegations(keys_named(custom), tuple(read_roles(custom, "settings.roles.delegations"))),
    )


async def get_bootstrap(context: Context, _: web.Request) -> web.Response:
    """Answer whether there is a repository."""
    state = context.bootstrap_state()
    if state is None:
        return answer(BootstrapAnswer(BootstrapState(False), "System available for bootstrap."))
    data = BootstrapState(state != "signing", state, bootstrap_cursor(context.admin.state, context.bus.log_id))
    return answer(BootstrapAnswer(data, "System LOCKED for bootstrap."))


def bootstrap_cursor(state: AdminState, log_id: str) -> str:
    """Return the task id of the bootstrap.

    Args:
        state: of ``admin``, with a bootstrap, or with one that waits for signatures.
        log_id: of the log.
    """
    return cursor.encode(Cursor(cursor.FORMAT, Task.BOOTSTRAP, log_id, 0, {0: [_submitted_at(state)]}))


def _submitted_at(state: AdminState) -> int:
    """Return the offset of the bootstrap's record, even if signatures made it complete later."""
    if (waiting := state.open_proposal("bootstrap")) is not None and state.bootstrap is None:
        return waiting.offset
    ended = (one.offset for one in state.proposals.values() if one.outcome == "complete" and one.end == state.bootstrap_offset)
    return next(ended, state.bootstrap_offset)


async def post_bootstrap(context: Context, request: web.Request) -> web.Response:
    """Start a repository, or replace a bootstrap of which nothing is published yet."""
    requested = decode(BootstrapRequest, await context.body(request))
    async with context.alone():
        state = context.admin.state
        is_taken = state.bootstrap is not None or state.open_proposal("bootstrap") is not None
        if is_taken and not (requested.replace and _may_replace(context, state)):
            raise BootstrappedError(context.bootstrap_state(), is_replacement=requested.replace)
        # In a thread, because unsigned input may take long to read.
        wanted: Bootstrap = await asyncio.to_thread(make_bootstrap, requested, context.bus.partitions(topics.ARTIFACTS), state.bootstrap)
        try:
            after, wanted = await asyncio.to_thread(proposals.submit, state, wanted, state.next_offset, context.clock.latest())
        except (InvalidBootstrapError, InvalidUpdateError) as error:
            raise BadRequestError(f"the bootstrap can't be accepted: {error}") from None
        await asyncio.to_thread(check_count, state, after, context.config.max_roles)
        (position,) = await context.append([Message(topics.ADMIN, "bootstrap", records.encode(wanted))])
        await context.read_back(position.offset)
        if requested.replace and position.offset in context.admin.state.refused:
            raise BootstrappedError(context.bootstrap_state(), is_replacement=True)  # the signer was faster
    where = accept.make_cursor(Task.BOOTSTRAP, context.bus.log_id, [position])
    data = Submitted(cursor.encode(where), moment_of(where.time))
    return answer(SubmittedAnswer(data, "Bootstrap accepted."), 202)


def _may_replace(context: Context, state: AdminState) -> bool:
    # A log from an earlier version may have a root although no record of admin says so.
    return not state.begun and not context.published_view.may_have(Root.type)
