"""The built-in HTTP server of an origin in a directory, for laptops, demos and small repositories. Any other web server works as well.

``/metadata/`` serves the metadata files with the headers that a CDN should see; ``/targets/``, if configured, the repository's own files.
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
"""The names that are served. Other files are temporary or internal."""


def _find(directory: Path, address: str) -> Path | None:
    """Find the file at an address below a directory.

    Every file has exactly one address, under which a CDN caches and purges it. Other spellings (``a//b``, ``a%2Fb``, ``a/./b``) are not
    found.
    """
    try:
        if "%2F" in address.upper():
            return None
        base = directory.resolve()
        found = (base / check_path(unquote_to_bytes(address).decode())).resolve(strict=True)
    except (InvalidTargetError, UnicodeDecodeError, OSError, RuntimeError):  # RuntimeError: symbolic links that form a loop
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
    # A client requests the next root at each refresh, so a 404 must not be cached for long.
    briefly = {"Cache-Control": content_headers(TIMESTAMP)["Cache-Control"]}

    def missing() -> web.Response:
        return web.json_response({"detail": "the file does not exist"}, status=404, headers=briefly)

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
        config: where to listen, and the directory of targets.
        on_listening: called with the URL once the server accepts requests.
        http: limits for connections and requests.

    Raises:
        ConfigError: if the server can't listen on the address, or the directory of targets does not exist.
    """
    if config.targets is not None and not config.targets.is_dir():
        raise ConfigError(f"web.targets is set to {config.targets}, which is not a directory: create it, or set web.targets to another one")
    await listen(make_app(metadata, config.targets), config.host, config.port, "web", on_listening, http)
