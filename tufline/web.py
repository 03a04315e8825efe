"""The built-in HTTP server of an origin in a directory: for laptops, demos and small repositories. A CDN or any web server does as well.

``/metadata/`` shows the metadata files with the headers that a CDN should see; ``/targets/``, where configured, the repository's own files.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from tufline.config import WebConfig
from tufline.errors import ConfigError
from tufline.listen import listen
from tufline.store import TIMESTAMP, content_headers

METADATA_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.json")


def make_app(metadata: Path, targets: Path | None) -> web.Application:
    """Make the web application.

    Args:
        metadata: directory of the published metadata files.
        targets: directory of the repository's own files; None to serve none.

    Returns:
        The application.
    """

    async def get_metadata(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        headers = content_headers(name)
        path = metadata / name
        if not METADATA_NAME.fullmatch(name) or not path.is_file():
            # A client asks for the next root at each refresh: that there is none must not be remembered for long.
            briefly = {"Cache-Control": content_headers(TIMESTAMP)["Cache-Control"]}
            return web.json_response({"detail": "there is no such file"}, status=404, headers=briefly)
        return web.FileResponse(path, headers=headers)

    app = web.Application()
    app.router.add_get("/metadata/{name}", get_metadata)
    if targets is not None:
        app.router.add_static("/targets/", targets)
    return app


async def serve(metadata: Path, config: WebConfig, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve an origin, until cancelled.

    Args:
        metadata: directory of the published metadata files.
        config: where to listen, and what else to serve.
        on_listening: called with the URL when requests are taken.

    Raises:
        ConfigError: if the address can't be listened on, or there is no such directory of files.
    """
    if config.targets is not None and not config.targets.is_dir():
        raise ConfigError(f"web.targets {config.targets} is no directory: make it, or set web.targets to another")
    await listen(make_app(metadata, config.targets), config.host, config.port, "web", on_listening)
