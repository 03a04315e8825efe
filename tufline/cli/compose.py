"""One process of all services on the embedded bus."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog

import tufline_ingest.service
import tufline_publisher.service
import tufline_signer.service
from tufline import memory, topics, web
from tufline.bus.embedded import EmbeddedBus, open_embedded
from tufline.config import Config
from tufline.errors import ConfigError
from tufline.health import Health
from tufline.store.local import LocalStore
from tufline.tasks import all_of

EMBEDDED: Final = "embedded:"

OnReady = Callable[[str, str], Coroutine[Any, Any, None]]
"""Awaited once both servers listen, with the URLs of the REST API and of the origin."""

_log = structlog.get_logger(__name__)


def kept_in(data: Path) -> dict[str, Any]:
    """Say where ``tufline dev`` keeps everything.

    Args:
        data: its directory.

    Returns:
        Settings, as ``config.load`` takes them.
    """
    return {
        "bus.url": f"{EMBEDDED}{data / 'log.db'}",
        "signer.key_dir": data / "keys" / "online",
        "publisher.directory": data / "origin" / "metadata",
    }


@asynccontextmanager
async def open_bus(config: Config) -> AsyncIterator[EmbeddedBus]:
    """Open the configured bus.

    Args:
        config: of the process.

    Yields:
        The bus.

    Raises:
        ConfigError: if there is no such bus.
    """
    if not config.bus.url.startswith(EMBEDDED) or config.bus.url == EMBEDDED:
        raise ConfigError(f"bus.url = {config.bus.url!r} is no bus: write 'embedded:<file>'")
    path = Path(config.bus.url.removeprefix(EMBEDDED))
    bus = await open_embedded(path, topics.topics(config.bus.partitions), max_pending_bytes=config.bus.max_pending_bytes)
    try:
        yield bus
    finally:
        await bus.close()


async def run(config: Config, on_ready: OnReady) -> None:
    """Run ingest, signer, publisher and the origin's web server, until a signal to stop.

    Args:
        config: of the process.
        on_ready: awaited once both servers listen.
    """
    memory.tune()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_bus(config) as bus:
        serving = asyncio.create_task(_serve(config, bus, on_ready))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()
        _log.info("process.stopping")
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def _serve(config: Config, bus: EmbeddedBus, on_ready: OnReady) -> None:
    health = Health()
    api: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    origin: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def announce() -> None:
        await on_ready(await api, await origin)

    await all_of(
        tufline_ingest.service.run(bus, config.ingest, health=health, on_listening=api.set_result),
        tufline_signer.service.run(bus, config.signer, health=health),
        tufline_publisher.service.run(bus, config.publisher, LocalStore(config.publisher.directory), health=health),
        web.serve(config.publisher.directory, config.web, origin.set_result),
        announce(),
    )
