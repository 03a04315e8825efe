"""A repository whose signer and publisher run, in virtual time; and a web server for its origin."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, Self

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Bus
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.origin.directory import LocalStore
from tufline.records import topics
from tufline.runtime.health import Health
from tufline_testing.log import read_all

PARTITIONS: Final = 2

LIVE_SECONDS: Final = 600.0
"""How long a test waits until something is published, in seconds of virtual time."""


class LiveRepository:
    """A log with a running signer and publisher, as a context.

    Attributes:
        bus: the log; only inside the context.
    """

    bus: Bus

    def __init__(self, path: Path, keys: Path, clock: Clock) -> None:
        self._path, self._keys, self._clock = path, keys, clock
        self._health = Health()
        self._services: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        self._path.mkdir()
        origin = self._path / "origin"
        self.bus = await open_embedded(self._path / "log.db", topics.topics(PARTITIONS), clock=self._clock, threads=False)
        signer = SignerConfig(key_dir=self._keys, renewal_check=1.0, release_delay=0.0, release_grace=5.0, commit_interval=0.0)
        publisher = PublisherConfig(directory=origin)
        self._services = [
            asyncio.ensure_future(tufline_signer.service.run(self.bus, signer, clock=self._clock, health=self._health)),
            asyncio.ensure_future(
                tufline_publisher.service.run(self.bus, publisher, LocalStore(origin), clock=self._clock, health=self._health)
            ),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        await self.bus.close()

    async def wait_until_live(self, offset: int) -> None:
        """Wait until everything in ``admin`` up to an offset is published.

        Args:
            offset: offset of a record in ``admin``.

        Raises:
            AssertionError: if it is not published in time; the message has the problems that the services report.
            Exception: the error that ended a service.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LIVE_SECONDS
        while loop.time() < deadline:
            for service in self._services:
                if service.done():
                    service.result()
            found = await read_all(self.bus, topics.PUBLISHED)
            if found and records.decode(records.published_decoder, found[-1].value).vector.admin > offset:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"not live after {LIVE_SECONDS:g} s: {self._health.problems or 'no service reports a problem'}")


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
