"""What operators ask a process over HTTP: whether it lives, whether it is ready and if not why, and its metrics."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tufline.config.settings import DEFAULT_HTTP, HttpConfig, OpsConfig
from tufline.runtime.health import Health
from tufline.runtime.http_server import listen

SECTION: Final = "ops"

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Alive(msgspec.Struct, frozen=True):
    """The answer of /healthz.

    Attributes:
        alive: always true; a process that does not live does not answer.
    """

    alive: bool


class Readiness(msgspec.Struct, frozen=True):
    """The answer of /readyz.

    Attributes:
        ready: whether every part of the process does its work.
        parts: name of a part to why it is not ready, in one sentence; empty where it is.
    """

    ready: bool
    parts: dict[str, str]


def _json(content: Alive | Readiness, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def liveness() -> web.Response:
    """Answer that the process lives.

    Returns:
        The answer of /healthz.
    """
    return _json(Alive(alive=True))


def readiness(health: Health) -> web.Response:
    """Answer which parts are ready.

    Args:
        health: of the process.

    Returns:
        The answer of /readyz: 200 if all are ready, else 503.
    """
    return _json(Readiness(health.ready, health.problems), 200 if health.ready else 503)


def metrics() -> web.Response:
    """Answer with all metrics of the process.

    Returns:
        The answer of /metrics.
    """
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def handlers(health: Health) -> Mapping[str, Handler]:
    """Make the handlers.

    Args:
        health: of the process.

    Returns:
        Path to handler of GET.
    """

    async def healthz(_: web.Request) -> web.Response:
        return liveness()

    async def readyz(_: web.Request) -> web.Response:
        return readiness(health)

    async def counted(_: web.Request) -> web.Response:
        return metrics()

    return MappingProxyType({"/healthz": healthz, "/readyz": readyz, "/metrics": counted})


async def serve(
    config: OpsConfig,
    health: Health,
    on_listening: Callable[[str], None] | None = None,
    http: HttpConfig = DEFAULT_HTTP,
) -> None:
    """Serve them, until cancelled.

    Args:
        config: where to listen.
        health: of the process.
        on_listening: called with the URL when requests are taken.
        http: limits.

    Raises:
        ConfigError: if the address can't be listened on.
    """
    app = web.Application()
    for path, handler in handlers(health).items():
        app.router.add_get(path, handler)
    await listen(app, config.host, config.port, SECTION, on_listening, http)
