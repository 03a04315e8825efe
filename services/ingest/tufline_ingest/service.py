"""Ingest as a service: the REST API over the log, and the inbox.

In: requests; and from the log ``inbox``, ``admin``, ``published`` and ``heads``. Out: ``artifacts`` and ``admin``, and for the inbox
    ``rejected`` and ``receipts``. It has no state of its own: every replica answers for every task, and the replicas share the inbox.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from tufline.bus import Bus
from tufline.clock import Clock, utc_now
from tufline.config.settings import DEFAULT_HTTP, HttpConfig, IngestConfig
from tufline.records import topics
from tufline.reference_clock import DEFAULT_TOLERANCE_SECONDS, ReferenceClock
from tufline.runtime.clock_watch import watch_clock
from tufline.runtime.health import Health
from tufline.runtime.http_server import listen
from tufline.runtime.partitions import keep_working, own_partitions
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.task_groups import all_of
from tufline.views.admin import AdminFollower
from tufline_ingest import retention
from tufline_ingest.context import Context
from tufline_ingest.inbox import inbox_worker
from tufline_ingest.rest.application import make_app
from tufline_ingest.rest.task_receipts import TaskReceipts
from tufline_ingest.rest.task_states import Tasks
from tufline_ingest.routes import ROUTES
from tufline_ingest.views.published import PublishedView
from tufline_ingest.views.recent_requests import RecentRequests

PART: Final = "ingest"
READING: Final = f"{PART}.log"


async def run(
    bus: Bus,
    config: IngestConfig,
    *,
    clock: Clock = utc_now,
    clock_tolerance: float = DEFAULT_TOLERANCE_SECONDS,
    health: Health,
    on_listening: Callable[[str], None] | None = None,
    http: HttpConfig = DEFAULT_HTTP,
) -> None:
    """Serve the REST API and move the inbox, until cancelled.

    Args:
        bus: the log.
        config: of ingest.
        clock: the wall clock.
        clock_tolerance: a larger difference between the machine's clock and the log's, in seconds, is reported as a problem.
        health: the health of the process, which ``/readyz`` reports.
        on_listening: called with the URL once requests are accepted.
        http: limits of the HTTP server.

    Raises:
        ConfigError: if the service can't listen on the address.
    """
    of_admin, of_live, of_tasks, of_retention = (PassedOver(health, f"{PART}.{part}") for part in ("admin", "live", "tasks", "retention"))
    admin, view = AdminFollower(bus, of_admin), PublishedView(bus, config.origin, of_live)
    tasks = Tasks(bus, config.max_request_bytes, view, lambda: admin.state, RecentRequests(), TaskReceipts(bus, of_tasks))
    reference = ReferenceClock(clock, clock_tolerance)
    context = Context(bus, config, reference, health, admin, view, tasks, asyncio.Lock())

    def listening(url: str) -> None:
        health.ok(PART)
        if on_listening is not None:
            on_listening(url)

    async def restore() -> None:
        await context.restored(heads=True)
        health.ok(READING)

    moving = partial(inbox_worker.work, inbox_worker.InboxContext(bus, config, health, admin, reference))
    health.problem(PART, "beginning to listen")
    health.problem(READING, "reading what the log has")
    await all_of(
        listen(make_app(context, ROUTES), config.host, config.port, PART, listening, http),
        restore(),
        watch_clock(reference, PART, health),
        keep_working(f"{PART}.admin", admin.run, health),
        keep_working(f"{PART}.live", view.run, health),
        own_partitions(
            bus,
            inbox_worker.GROUP,
            topics.INBOX,
            inbox_worker.part,
            moving,
            health,
            claimed_in=lambda number: (topics.INBOX_PROGRESS, number),
        ),
        keep_working(f"{PART}.retention", partial(retention.run, bus, view, reference, of_retention, [of_live, of_tasks]), health),
    )
