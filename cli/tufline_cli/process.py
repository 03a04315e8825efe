"""Runs some or all services in one process."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog

import tufline_ingest.service
import tufline_publisher.service
import tufline_signer.service
from tufline.bus import Bus
from tufline.config.kinds import EMBEDDED
from tufline.config.settings import Config
from tufline.errors import BusBusyError, BusError, ConfigError
from tufline.origin import web_server
from tufline.origin.opening import open_store
from tufline.runtime import descriptors, memory, operations
from tufline.runtime.health import Health
from tufline.runtime.open_bus import open_bus
from tufline.runtime.probe import keep_probing
from tufline.runtime.task_groups import all_of

INGEST: Final = "ingest"
SIGNER: Final = "signer"
PUBLISHER: Final = "publisher"
SERVICES: Final = (INGEST, SIGNER, PUBLISHER)

BUS: Final = "bus"
"""The part of a process's health that reports whether the bus can be reached."""

RETRY_SECONDS: Final = 2.0

OnReady = Callable[[str, str], Coroutine[Any, Any, None]]
"""Awaited once all servers listen, with the URL of the REST API (or of the HTTP server for operators) and that of a served origin."""

_log = structlog.get_logger(__name__)


def settings_of_data(data: Path) -> dict[str, Any]:
    """Return the settings for the data directory of ``tufline dev``.

    Args:
        data: the data directory.

    Returns:
        Setting to value, as ``tufline.config.loading.load`` accepts overrides.
    """
    return {
        "bus.url": f"{EMBEDDED}{data / 'log.db'}",
        "signer.key_dir": data / "keys" / "online",
        "publisher.directory": data / "origin" / "metadata",
    }


def need_log(config: Config) -> None:
    """Check that the configured log exists, if it is a file: opening it would create one.

    Args:
        config: the process's configuration.

    Raises:
        ConfigError: if the file does not exist.
    """
    log = Path(config.bus.url.removeprefix(EMBEDDED))
    if config.bus.url.startswith(EMBEDDED) and not log.exists():
        raise ConfigError(f"there is no log at {log}: set its place with --data or bus.url")


def need_origin(config: Config) -> None:
    """Check that the configured origin exists: opening it would create one.

    Args:
        config: the process's configuration.

    Raises:
        ConfigError: if the directory does not exist.
    """
    if not config.publisher.directory.exists():
        raise ConfigError(f"there is no origin at {config.publisher.directory}: set its place with --data or publisher.directory")


async def run(config: Config, on_ready: OnReady, services: Collection[str] = SERVICES) -> None:
    """Run services in this process until a signal to stop.

    Args:
        config: the process's configuration.
        on_ready: awaited once all servers listen.
        services: some of ``SERVICES``; by default all. A process without ingest runs the HTTP server of ``tufline.runtime.operations``
            instead.
    """
    memory.tune()
    descriptors.raise_limit()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(_serve(config, on_ready, services))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    serving.cancel()
    if stop.is_set():  # otherwise an error ends it, and says why
        _log.info("process.stopping")
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(config: Config, on_ready: OnReady, services: Collection[str]) -> None:
    health = Health()
    api, origin, ops_url = (loop.create_future() for loop in [asyncio.get_running_loop()] * 3)

    async def announce() -> None:
        first = api if INGEST in services else ops_url
        await on_ready(await first, await origin if PUBLISHER in services else "")

    async def on_the_bus() -> None:
        health.problem(BUS, f"reaching {config.bus.url}")
        async with _patiently(config, health) as bus:
            health.ok(BUS)
            parts: list[Coroutine[Any, Any, None]] = [keep_probing(bus, config.bus.url, BUS, health)]
            shared: dict[str, Any] = {"health": health, "clock_tolerance": config.clock.tolerance}
            if INGEST in services:
                parts.append(tufline_ingest.service.run(bus, config.ingest, on_listening=api.set_result, http=config.http, **shared))
            if SIGNER in services:
                parts.append(tufline_signer.service.run(bus, config.signer, vault=config.vault, **shared))
            if PUBLISHER in services:
                parts.append(tufline_publisher.service.run(bus, config.publisher, open_store(config), **shared))
            await all_of(*parts)

    servers = [] if INGEST in services else [operations.serve(config.ops, health, ops_url.set_result, config.http)]
    if PUBLISHER in services:
        # The origin is served to clients even while the bus can't be reached.
        servers.append(web_server.serve(config.publisher.directory, config.web, origin.set_result, config.http))
    await all_of(on_the_bus(), announce(), *servers)


@asynccontextmanager
async def _patiently(config: Config, health: Health) -> AsyncIterator[Bus]:
    # An error in the configuration ends the process; an unreachable cluster is waited for.
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                bus = await stack.enter_async_context(open_bus(config))
                break
            except BusBusyError:
                raise
            except BusError as error:
                health.problem(BUS, str(error))
                _log.warning("process.bus_unreachable", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        yield bus
