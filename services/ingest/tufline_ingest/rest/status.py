"""The status of the repository over REST, for operators and for the command line."""

from typing import Final

from aiohttp import web

import tufline
from tufline.clock import moment_of
from tufline.metadata.profiles import unreadable_hashes
from tufline_ingest.context import Context
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.status import StatusAnswer
from tufline_ingest.views.published import describe_expiries, describe_held, summarize_expiries

FROZEN: Final = "changes of artifacts wait on the log, and bins are renewed with their old content, until they are thawed (tufline thaw)"


async def get_status(context: Context, _: web.Request) -> web.Response:
    """Answer with the published versions, the backlog, and all problems."""
    published, found = context.published_view.published, context.admin.state.bootstrap
    backlog, now = await context.published_view.backlog(), context.clock.latest()
    expiring = {} if found is None else describe_expiries(context.published_view.expires, found, now)
    frozen_since = context.admin.state.frozen_since
    warnings = expiring | describe_held(context.published_view.progress) | ({} if frozen_since is None else {"freeze": FROZEN})
    problems = warnings | context.health.problems | context.health.warnings
    bins = set() if found is None else {found.settings.layout.name(number) for number in range(found.settings.number_of_bins)}
    return answer(
        StatusAnswer(
            version=tufline.__version__,
            log=context.bus.log_id,
            bootstrap=context.bootstrap_state(),
            client_profile=None if found is None else context.admin.state.profile,
            unreadable_hashes=None if found is None else unreadable_hashes(context.allowed.hash_algorithms),
            number_of_bins=len(bins) or None,
            timestamp=published.timestamp.version if published else 0,
            snapshot=published.snapshot.version if published else 0,
            backlog=backlog.count,
            waiting_seconds=0 if backlog.since is None else max(0, int((now - moment_of(backlog.since)).total_seconds())),
            held=sum(progress.held for progress in context.published_view.progress.values()),
            frozen_since=frozen_since,
            expires=summarize_expiries(context.published_view.expires, bins),
            problems=problems,
            warnings=sorted({*context.health.warnings, *warnings}),
        )
    )
