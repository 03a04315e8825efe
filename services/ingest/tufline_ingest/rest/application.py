"""The web application: serves every route of a table with a context."""

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from tufline_ingest.context import Context
from tufline_ingest.errors import NotNowError
from tufline_ingest.rest.responses import errors_as_answers
from tufline_ingest.rest.route import Reads, Route

RESTORE_SECONDS: Final = 5.0
"""How long a request waits while this process reads the log after its start."""


def make_app(context: Context, routes: Iterable[Route]) -> web.Application:
    """Make the web application.

    Args:
        context: passed to the handlers.
        routes: the routes to serve.

    Returns:
        The application.
    """
    app = web.Application(middlewares=[errors_as_answers], client_max_size=context.config.max_request_bytes)
    for route in routes:
        # With and without the slash at the end, and without a redirect: RSTUF's clients use both.
        plain = route.path.rstrip("/").replace("{path}", "{path:.+}")
        handler = _over(context, route)
        app.router.add_route(route.method, plain, handler)
        if "{path" not in plain:
            app.router.add_route(route.method, f"{plain}/", handler)
    return app


def _over(context: Context, route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if route.reads is not Reads.NOTHING:
            try:
                async with asyncio.timeout(RESTORE_SECONDS):
                    await context.restored(heads=route.reads is Reads.HEADS)
            except TimeoutError:
                raise NotNowError("the log is still being read after the start: see this process's own log") from None
        return await route.handler(context, request)

    return handle
