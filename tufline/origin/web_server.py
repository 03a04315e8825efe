"""The built-in HTTP server of an origin in a directory: for laptops, demos and small repositories. A CDN or any web server does as well.

``/metadata/`` shows the metadata files with the headers that a CDN should see; ``/targets/``, where configured, the repository's own files.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from tufline.config.settings import DEFAULT_HTTP, HttpConfig, WebConfig
from tufline.errors import ConfigError, InvalidTargetError
from tufline.metadata.paths import check_path
from tufline.origin.store import TIMESTAMP, content_headers
from tufline.runtime.http_server import listen

METADATA: Final = "/metadata/"
TARGETS: Final = "/targets/"
METADATA_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.json")
"""Other names are of what is still being written."""


def _find(directory: Path, address: str) -> Path | None:
    """Find the file at an address below a directory.

    Every file has one address, by which a CDN keeps and purges it: other spellings of it (``a//b``, ``a%2Fb``, ``a/./b``) name nothing.
    """
    try:
        if "%2F" in address.upper():
            return None
        base = directory.resolve()
        found = (base / check_path(unquote_to_bytes(address).decode())).resolve(strict=True)
    except (InvalidTargetError, UnicodeDecodeError, OSError, RuntimeError):  # the last one: symbolic links in a circle
        return None
    return found if found.is_file() and found.is_relative_to(base) else None


def make_app(metadata: Path, targets: Path | None) -> web.Application:
    """Make the web application.

    Args:
        metadata: directory of the published metadata files.
        targets: directory of the repository's own files; None to serve none.

    Returns:
        The application.
    """
    # A client asks for the next root at each refresh: that there is none must not be remembered for long.
    briefly = {"Cache-Control": content_headers(TIMESTAMP)["Cache-Control"]}

    def missing() -> web.Response:
        return web.json_response({"detail": "there is no such file"}, status=404, headers=briefly)

    async def get_metadata(request: web.Request) -> web.StreamResponse:
        name = request.rel_url.raw_path.removeprefix(METADATA)
        path = await asyncio.to_thread(_find, metadata, name) if METADATA_NAME.fullmatch(name) else None
        return missing() if path is None else web.FileResponse(path, headers=content_headers(name))

    async def get_target(request: web.Request) -> web.StreamResponse:
        assert targets is not None
        path = await asyncio.to_thread(_find, targets, request.rel_url.raw_path.removeprefix(TARGETS))
        return missing() if path is None else web.FileResponse(path)

    app = web.Application()
    app.router.add_get(METADATA + "{name:.*}", get_metadata)
    if targets is not None:
        app.router.add_get(TARGETS + "{path:.*}", get_target)
    return app


async def serve(
    metadata: Path,
    config: WebConfig,
    on_listening: Callable[[str], None] | None = None,
    http: HttpConfig = DEFAULT_HTTP,
) -> None:
    """Serve an origin, until cancelled.

    Args:
        metadata: directory of the published metadata files.
        config: where to listen, and what else to serve.
        on_listening: called with the URL when requests are taken.
        http: limits.

    Raises:
        ConfigError: if the address can't be listened on, or there is no such directory of files.
    """
    if config.targets is not None and not config.targets.is_dir():
        raise ConfigError(f"web.targets {config.targets} is no directory: make it, or set web.targets to another")
    await listen(make_app(metadata, config.targets), config.host, config.port, "web", on_listening, http)
