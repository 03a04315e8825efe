"""Ingest as a service: the REST API over the log, and the inbox.

In: requests; and from the log ``inbox``, ``admin``, ``published`` and ``heads``. Out: ``artifacts`` and ``admin``, and of the inbox
``rejected`` and ``receipts``. It has no state of its own: any number of replicas answer for any task, and share the inbox.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from tufline.bus import Bus
from tufline.clock import Clock, utc_now
from tufline.config.settings import DEFAULT_HTTP, HttpConfig, IngestConfig
from tufline.records import topics
from tufline.reference_clock import ReferenceClock
from tufline.runtime import operations
from tufline.runtime.health import Health
from tufline.runtime.http_server import listen
from tufline.runtime.partitions import keep_working, own_partitions
from tufline.runtime.passed_over import PassedOver
from tufline.runtime.tasks import all_of
from tufline.views.admin import AdminFollower
from tufline_ingest import retention
from tufline_ingest.errors import NotNowError
from tufline_ingest.inbox import inbox_worker
from tufline_ingest.rest import openapi
from tufline_ingest.rest.api import Api
from tufline_ingest.rest.responses import answer, errors_as_answers
from tufline_ingest.rest.task_receipts import Remarks
from tufline_ingest.rest.tasks import Tasks
from tufline_ingest.rest.trust_api import TrustApi
from tufline_ingest.views.published import Live
from tufline_ingest.views.recent_requests import Recent

PART: Final = "ingest"
READING: Final = f"{PART}.log"

RESTORE_SECONDS: Final = 5.0
"""How long a request is held back while this process, just started, reads the log."""


def make_app(api: Api) -> web.Application:
    """Make the web application.

    Args:
        api: its handlers.

    Returns:
        The application.
    """
    description = openapi.make()

    async def describe(_: web.Request) -> web.Response:
        return answer(description)

    def restored(handler: Handler, *, heads: bool = False) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                async with asyncio.timeout(RESTORE_SECONDS):
                    await api.restored(heads=heads)
            except TimeoutError:
                raise NotNowError("what the log has is still being read since the start: see the log of this process") from None
            return await handler(request)

        return handle

    trust = TrustApi(api)
    handlers = {
        ("POST", "/api/v1/artifacts/"): restored(api.add_artifacts),
        ("POST", "/api/v1/artifacts/delete"): restored(api.remove_artifacts),
        ("POST", "/api/v1/artifacts/bulk"): restored(api.bulk),
        ("GET", "/api/v1/artifacts/{path}"): restored(api.get_artifact),
        ("GET", "/api/v1/task/"): restored(api.get_task),
        ("GET", "/api/v1/bootstrap/"): restored(api.get_bootstrap),
        ("POST", "/api/v1/bootstrap/"): restored(api.post_bootstrap, heads=True),
        ("POST", "/api/v1/metadata/"): restored(trust.post_metadata),
        ("GET", "/api/v1/trust"): restored(trust.get_trust, heads=True),
        ("GET", "/api/v1/status"): restored(api.get_status, heads=True),
        ("GET", "/api/v1/openapi.json"): describe,
        **{("GET", path): handler for path, handler in operations.handlers(api.health).items()},
    }
    app = web.Application(middlewares=[errors_as_answers], client_max_size=api.config.max_request_bytes)
    for (method, path), handler in handlers.items():
        # With and without the slash at the end, and without a redirect: RSTUF's clients use both.
        plain = path.rstrip("/").replace("{path}", "{path:.+}")
        app.router.add_route(method, plain, handler)
        if "{path" not in plain:
            app.router.add_route(method, f"{plain}/", handler)
    return app


async def run(
    bus: Bus,
    config: IngestConfig,
    *,
    clock: Clock = utc_now,
    health: Health,
    on_listening: Callable[[str], None] | None = None,
    http: HttpConfig = DEFAULT_HTTP,
) -> None:
    """Serve the REST API and move the inbox, until cancelled.

    Args:
        bus: the log.
        config: of ingest.
        clock: the wall clock.
        health: of the process, which ``/readyz`` tells.
        on_listening: called with the URL when requests are taken.
        http: limits of the HTTP server.

    Raises:
        ConfigError: if the address can't be listened on.
    """
    of_admin, of_live, of_tasks, of_retention = (PassedOver(health, f"{PART}.{part}") for part in ("admin", "live", "tasks", "retention"))
    admin, live = AdminFollower(bus, of_admin), Live(bus, config.origin, of_live)
    tasks = Tasks(bus, config.max_request_bytes, live, lambda: admin.state, Recent(), Remarks(bus, of_tasks))
    api = Api(bus, config, clock, health, admin, live, tasks, asyncio.Lock())

    def listening(url: str) -> None:
        health.ok(PART)
        if on_listening is not None:
            on_listening(url)

    async def restore() -> None:
        await api.restored(heads=True)
        health.ok(READING)

    reference = ReferenceClock(clock)
    moving = partial(inbox_worker.work, inbox_worker.Shared(bus, config, health, admin, reference))
    health.problem(PART, "beginning to listen")
    health.problem(READING, "reading what the log has")
    await all_of(
        listen(make_app(api), config.host, config.port, PART, listening, http),
        restore(),
        keep_working(f"{PART}.admin", admin.run, health),
        keep_working(f"{PART}.live", live.run, health),
        own_partitions(
            bus,
            inbox_worker.GROUP,
            topics.INBOX,
            inbox_worker.part,
            moving,
            health,
            claimed_in=lambda number: (topics.INBOX_PROGRESS, number),
        ),
        keep_working(f"{PART}.retention", partial(retention.run, bus, live, reference, of_retention, [of_live, of_tasks]), health),
    )
