"""Serving a web application on an address, with limits that no client can evade, and errors that name the setting to change."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web

from tufline.config.settings import DEFAULT_HTTP, HttpConfig
from tufline.errors import ConfigError
from tufline.runtime import descriptors
from tufline.runtime.connections import HttpConnection, ServerConnections

BACKLOG: Final = 1024
"""How many connections the system queues until they are accepted."""

ACCEPTED_AT_ONCE: Final = 8
"""How many connections are accepted before they are counted. They use descriptors beyond the limit, so the number is small."""

SHUTDOWN_SECONDS: Final = 5.0
"""How long running requests may take to finish when the server stops."""

SWEEP_SECONDS: Final = 1.0
"""The longest time between two checks for clients that keep the server waiting."""

_log = structlog.get_logger(__name__)


async def listen(
    app: web.Application,
    host: str,
    port: int,
    section: str,
    on_listening: Callable[[str], None] | None,
    http: HttpConfig = DEFAULT_HTTP,
) -> None:
    """Serve an application, until cancelled.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.
        section: the section of the configuration that has ``host`` and ``port``, for the error.
        on_listening: called with the URL once the server accepts requests.
        http: limits for connections and requests.

    Raises:
        ConfigError: if the server can't listen on the address.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG)
    except OSError as error:
        reason = f"can't listen on {host}:{port} ({error.strerror})"
        raise ConfigError(f"{reason}: set {section}.host and {section}.port to a free address") from error
    loop = asyncio.get_running_loop()
    most = descriptors.connections(http.max_connections)
    if most < http.max_connections:
        _log.warning("http.fewer_connections", server=section, connections=most, open_files=descriptors.limit())
    connections = ServerConnections(section, most, http.idle_timeout, loop.time)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    manager = runner.server
    assert manager is not None
    # aiohttp would decompress bodies without a limit, so tufline_ingest.rest.request_body does it.
    options = {"access_log": None, "keepalive_timeout": http.idle_timeout, "auto_decompress": False}
    server = await loop.create_server(
        lambda: HttpConnection(connections, manager, loop=loop, **options),
        sock=listener,
        backlog=ACCEPTED_AT_ONCE,
    )
    listener.listen(BACKLOG)  # asyncio has set it to ACCEPTED_AT_ONCE
    try:
        if on_listening is not None:
            printed = f"[{host}]" if ":" in host else host
            on_listening(f"http://{printed}:{listener.getsockname()[1]}")
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, http.idle_timeout / 4))
            connections.sweep()
    finally:
        server.close()
        await runner.cleanup()
        listener.close()
