"""The settings of the repository over REST: RSTUF's calls to read them, and to change the lifetimes of the roles that the signer signs."""

from typing import Any

from aiohttp import web
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from tufline import records
from tufline.bus import Message
from tufline.clock import moment_of
from tufline.decoding import excerpt
from tufline.errors import InvalidUpdateError
from tufline.records import LIFETIMES_KEY, NewLifetimes, cursor, topics
from tufline.records.cursor import Task
from tufline.trust import online, roles
from tufline.trust.roles import BINS
from tufline_ingest import accept
from tufline_ingest.context import Context
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest.bootstrap import bootstrap_cursor
from tufline_ingest.rest.request_json import decode, whole
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.repository_settings import CurrentSettings, CustomRoleSettings, SettingsAnswer, SettingsRequest


async def get_settings(context: Context, _: web.Request) -> web.Response:
    """Answer with the settings of the repository."""
    repository = context.check_bootstrapped("No Repository Settings/Config found.")
    settings, root = repository.settings, repository.roots[-1].signed
    keys = {role: roles.root_keys(root, role) for role in (Root.type, Targets.type, Snapshot.type, Timestamp.type)}
    keys[BINS] = roles.bin_keys(repository.targets[-1].signed) if repository.targets else roles.online_bin_keys(root)
    of_roles: dict[str, Any] = {}
    for role, of_role in keys.items():
        of_roles |= {
            f"{role}_expiration": settings.expiration_days[role],
            f"{role}_threshold": of_role.threshold,
            f"{role}_num_keys": len(of_role.keys),
        }
    current = CurrentSettings(
        bootstrap=bootstrap_cursor(context.admin.state, context.bus.log_id),
        client_profile=context.admin.state.profile,
        targets_online_key=not repository.targets,
        number_of_delegated_bins=settings.number_of_bins,
        custom_roles={
            role.name: CustomRoleSettings(
                expiration=settings.expiration_days[BINS] if role.days is None else role.days,
                threshold=role.threshold if role.keyids else keys[BINS].threshold,
                num_keys=len(role.keyids or keys[BINS].keys),
            )
            for role in repository.routing.delegations.roles
        },
        **of_roles,
    )
    return answer(SettingsAnswer(current))


async def put_settings(context: Context, request: web.Request) -> web.Response:
    """Append new lifetimes to the log."""
    context.check_bootstrapped()
    asked = decode(SettingsRequest, await context.body(request))
    wanted = NewLifetimes(
        days={role: whole(f"settings.expiration[{excerpt(role)}]", days) for role, days in asked.settings.expiration.items()}
    )
    async with context.alone():
        state = context.admin.state
        try:
            online.change_lifetimes(state, wanted, state.next_offset)
        except InvalidUpdateError as error:
            custom = state.routing is not None and not state.routing.custom_names.isdisjoint(wanted.days)
            advice = "; PUT /api/v1/delegations changes the lifetime of a custom role" if custom else ""
            raise BadRequestError(f"the settings can't be accepted: {error}{advice}") from None
        (position,) = await context.append([Message(topics.ADMIN, LIFETIMES_KEY, records.encode(wanted))])
        await context.read_back(position.offset)
    where = accept.make_cursor(Task.SETTINGS, context.bus.log_id, [position])
    data = Submitted(cursor.encode(where), moment_of(where.time))
    return answer(SubmittedAnswer(data, "Settings successfully submitted."), 202)
