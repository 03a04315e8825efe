"""The status of the repository over REST, for operators and for the command line."""

from typing import Final

from aiohttp import web

import tufline
from tufline.clock import moment_of
from tufline.metadata.profiles import unreadable_hashes
from tufline_ingest.context import Context
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.status import StatusAnswer
from tufline_ingest.views.expiries import describe_custom_expiries, describe_expiries, summarize_expiries
from tufline_ingest.views.published import describe_held

FROZEN: Final = "changes of artifacts wait on the log, and bins are renewed with their old content, until they are thawed (tufline thaw)"


async def get_status(context: Context, _: web.Request) -> web.Response:
    """Answer with the published versions, the backlog, and all problems."""
    published, found = context.published_view.published, context.admin.state.bootstrapped
    backlog, now = await context.published_view.backlog(), context.clock.latest()
    expires, expiring = context.published_view.expires, {}
    if found is not None:
        expiring = describe_expiries(expires, found.bootstrap, now) | describe_custom_expiries(expires, found, now)
    frozen_since = context.admin.state.frozen_since
    warnings = expiring | describe_held(context.published_view.progress) | ({} if frozen_since is None else {"freeze": FROZEN})
    problems = warnings | context.health.problems | context.health.warnings
    return answer(
        StatusAnswer(
            version=tufline.__version__,
            log=context.bus.log_id,
            bootstrap=context.bootstrap_state(),
            client_profile=None if found is None else context.admin.state.profile,
            unreadable_hashes=None if found is None else unreadable_hashes(context.allowed.hash_algorithms),
            number_of_bins=None if found is None else found.settings.number_of_bins,
            number_of_custom_roles=None if found is None else len(found.routing.delegations.roles),
            timestamp=published.timestamp.version if published else 0,
            snapshot=published.snapshot.version if published else 0,
            backlog=backlog.count,
            waiting_seconds=0 if backlog.since is None else max(0, int((now - moment_of(backlog.since)).total_seconds())),
            held=sum(progress.held for progress in context.published_view.progress.values()),
            frozen_since=frozen_since,
            expires={} if found is None else summarize_expiries(expires, found),
            problems=problems,
            warnings=sorted({*context.health.warnings, *warnings}),
        )
    )
