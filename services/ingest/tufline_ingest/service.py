"""Ingest as a service: the REST API over the log.

In: requests; and from the log ``admin``, ``published`` and ``heads``. Out: ``artifacts`` and ``admin``. It has no state of its own: any
number of replicas answer for any task.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import web

from tufline import ops
from tufline.bus import Bus
from tufline.bus.partitions import keep_working
from tufline.clock import Clock, utc_now
from tufline.config import IngestConfig
from tufline.follow import AdminFollower
from tufline.health import Health
from tufline.listen import listen
from tufline.tasks import all_of
from tufline_ingest import openapi, retention
from tufline_ingest.answers import answer, errors_as_answers
from tufline_ingest.api import Api
from tufline_ingest.live import Live

PART: Final = "ingest"


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

    handlers = {
        ("POST", "/api/v1/artifacts/"): api.add_artifacts,
        ("POST", "/api/v1/artifacts/delete"): api.remove_artifacts,
        ("POST", "/api/v1/artifacts/bulk"): api.bulk,
        ("GET", "/api/v1/artifacts/{path}"): api.get_artifact,
        ("GET", "/api/v1/task/"): api.get_task,
        ("GET", "/api/v1/bootstrap/"): api.get_bootstrap,
        ("POST", "/api/v1/bootstrap/"): api.post_bootstrap,
        ("GET", "/api/v1/status"): api.get_status,
        ("GET", "/api/v1/openapi.json"): describe,
        **{("GET", path): handler for path, handler in ops.handlers(api.health).items()},
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
    bus: Bus, config: IngestConfig, *, clock: Clock = utc_now, health: Health, on_listening: Callable[[str], None] | None = None
) -> None:
    """Serve the REST API, until cancelled.

    Args:
        bus: the log.
        config: of ingest.
        clock: the wall clock.
        health: of the process, which ``/readyz`` tells.
        on_listening: called with the URL when requests are taken.

    Raises:
        ConfigError: if the address can't be listened on.
    """
    admin, live = AdminFollower(bus), Live(bus, config.origin)
    api = Api(bus, config, clock, health, admin, live, asyncio.Lock())

    def listening(url: str) -> None:
        health.ok(PART)
        if on_listening is not None:
            on_listening(url)

    health.problem(PART, "beginning to listen")
    await all_of(
        listen(make_app(api), config.host, config.port, PART, listening),
        keep_working(f"{PART}.admin", admin.run, health),
        keep_working(f"{PART}.live", live.run, health),
        keep_working(f"{PART}.retention", partial(retention.run, bus, live, clock), health),
    )
