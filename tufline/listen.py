"""Serving a web application on an address, with errors that say which setting to change."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import web

from tufline.errors import ConfigError

BACKLOG: Final = 1024
SHUTDOWN_SECONDS: Final = 5.0
"""How long requests under way may take to finish when the server stops."""


async def listen(app: web.Application, host: str, port: int, section: str, on_listening: Callable[[str], None] | None) -> None:
    """Serve an application, until cancelled.

    Args:
        app: to serve.
        host: address to listen on.
        port: to listen on; 0 for any free one.
        section: of the configuration that has ``host`` and ``port``, for the error.
        on_listening: called with the URL when requests are taken.

    Raises:
        ConfigError: if the address can't be listened on.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG)
    except OSError as error:
        reason = f"{host}:{port} can't be listened on ({error.strerror})"
        raise ConfigError(f"{reason}: set {section}.host and {section}.port to a free address") from error
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        if on_listening is not None:
            shown = f"[{host}]" if ":" in host else host
            on_listening(f"http://{shown}:{listener.getsockname()[1]}")
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()
        listener.close()
