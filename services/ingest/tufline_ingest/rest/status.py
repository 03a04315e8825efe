"""The status of the repository over REST, for operators and for the command line."""

from aiohttp import web

import tufline
from tufline.clock import moment_of
from tufline_ingest.context import Context
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.schemas.status import StatusAnswer
from tufline_ingest.views.published import describe_expiries, summarize_expiries


async def get_status(context: Context, _: web.Request) -> web.Response:
    """Answer with the published versions, the backlog, and all problems."""
    published, found = context.published_view.published, context.admin.state.bootstrap
    backlog, now = await context.published_view.backlog(), context.clock.latest()
    expiring = {} if found is None else describe_expiries(context.published_view.expires, found, now)
    problems = expiring | context.health.problems | context.health.warnings
    bins = set() if found is None else {found.settings.layout.name(number) for number in range(found.settings.number_of_bins)}
    return answer(
        StatusAnswer(
            version=tufline.__version__,
            log=context.bus.log_id,
            bootstrap=context.bootstrap_state(),
            number_of_bins=len(bins) or None,
            timestamp=published.timestamp.version if published else 0,
            snapshot=published.snapshot.version if published else 0,
            backlog=backlog.count,
            waiting_seconds=0 if backlog.since is None else max(0, int((now - moment_of(backlog.since)).total_seconds())),
            expires=summarize_expiries(context.published_view.expires, bins),
            problems=problems,
            warnings=sorted({*context.health.warnings, *expiring}),
        )
    )
