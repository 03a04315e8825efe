"""The operators' HTTP endpoint of a process: liveness, readiness with the reasons, and metrics."""

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
        alive: always true; a dead process does not answer.
    """

    alive: bool


class Readiness(msgspec.Struct, frozen=True):
    """The answer of /readyz.

    Attributes:
        ready: whether every part of the process is ready.
        parts: name of each part to the reason why it is not ready, in one sentence; empty if it is ready.
    """

    ready: bool
    parts: dict[str, str]


def _json(content: Alive | Readiness, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def liveness() -> web.Response:
    """Make the answer of /healthz.

    Returns:
        200, as the process is alive.
    """
    return _json(Alive(alive=True))


def readiness(health: Health) -> web.Response:
    """Make the answer of /readyz.

    Args:
        health: the process's health.

    Returns:
        200 if all parts are ready, otherwise 503, with the state of each part.
    """
    parts = {part: problem or "" for part, problem in health.parts.items()} | health.warnings
    return _json(Readiness(health.ready, parts), 200 if health.ready else 503)


def metrics() -> web.Response:
    """Make the answer of /metrics.

    Returns:
        All metrics of the process.
    """
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def handlers(health: Health) -> Mapping[str, Handler]:
    """Make the handlers.

    Args:
        health: the process's health.

    Returns:
        Path to the handler of its GET requests.
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
    """Serve the endpoint, until cancelled.

    Args:
        config: where to listen.
        health: the process's health.
        on_listening: called with the URL once the server accepts requests.
        http: limits for connections and requests.

    Raises:
        ConfigError: if the server can't listen on the address.
    """
    app = web.Application()
    for path, handler in handlers(health).items():
        app.router.add_get(path, handler)
    await listen(app, config.host, config.port, SECTION, on_listening, http)
