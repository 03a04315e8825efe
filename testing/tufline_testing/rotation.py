"""A repository whose keys are rotated: its offline signers, signer and publisher, and clients that check it continuously."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Bus
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.origin.directory import LocalStore
from tufline.records import Add, topics
from tufline.runtime.health import Health
from tufline_testing.log import DEFAULT_DAYS, admin_state, announce, eventually, newest_heads, on_a_log, read_all, running, settled
from tufline_testing.offline import Offline
from tufline_testing.origin import Reader, WatchedStore

PARTITIONS = 2
BINS = 4
DELAY_SECONDS = 60.0
GRACE_SECONDS = 3600.0


@dataclass
class WatchedRepository:
    """A log with its offline signers, and an origin that clients with roots of any age read before and after every operation."""

    bus: Bus
    clock: Clock
    path: Path
    offline: Offline
    health: Health = field(default_factory=Health)
    operations: list[str] = field(default_factory=list)
    root_since: dict[int, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory = self.path / "origin"
        self.reader = Reader(self.directory, self.clock)

    def look(self, operation: str) -> None:
        """Refresh as clients do: one that finds every root, and others for which a cache hides newer roots for a while."""
        self.operations.append(operation)
        self.refresh()
        for version in self.root_since:
            next_since = self.root_since.get(version + 1)
            if next_since is not None and self.clock() < next_since + timedelta(seconds=GRACE_SECONDS / 2):
                Reader(self.directory, self.clock, newest_root=version).refresh()

    def refresh(self) -> None:
        """Refresh as a client that finds every root."""
        self.reader.refresh()
        if self.reader.root:
            self.root_since.setdefault(self.reader.root, self.clock())

    def _services(self, *, publish: bool) -> list[Awaitable[None]]:
        signer = SignerConfig(
            key_dir=self.path / "keys", renewal_check=10.0, release_delay=DELAY_SECONDS, release_grace=GRACE_SECONDS, commit_interval=0.0
        )
        publisher = PublisherConfig(directory=self.directory)
        store = WatchedStore(LocalStore(self.directory), self.look, self.look)
        services: list[Awaitable[None]] = [tufline_signer.service.run(self.bus, signer, clock=self.clock, health=self.health)]
        if publish:
            services.append(tufline_publisher.service.run(self.bus, publisher, store, clock=self.clock, health=self.health))
        return services

    @asynccontextmanager
    async def running(self, *, publish: bool = True) -> AsyncIterator[None]:
        """Run signer and publisher; leaving the block stops them at any point of their work."""
        async with running(*self._services(publish=publish)):
            yield

    async def announce(self, length: int) -> None:
        """Add some artifacts to every bin, and wait until a commit has them."""
        settings, admin = self.offline.bootstrap(PARTITIONS).settings, await admin_state(self.bus)
        changes = [Add(f"p/{number}", length, {"sha256": "0" * 64}) for number in range(24)]
        await announce(self.bus, settings, changes, routing=admin.routing, admin=admin.next_offset)
        await settled(self.bus)

    async def shows_only_the_new_key(self) -> None:
        """Wait until the newest root is published, and everything published is signed with its keys."""

        async def is_so() -> bool:
            self.look("wait")
            return self.reader.root == self.offline.root.version and self.reader.keyids == {self.offline.online}

        await eventually(is_so, seconds=4 * GRACE_SECONDS, step=10)

    async def newest_keyids(self) -> dict[str, set[str]]:
        """Return the keyids of the keys that signed the newest version of each role."""
        return {role: set(head.keyids) for role, head in (await newest_heads(self.bus)).items()}

    async def published_admin(self) -> int:
        """Return up to which offset everything in ``admin`` is published."""
        last = (await read_all(self.bus, topics.PUBLISHED))[-1]
        return records.decode(records.published_decoder, last.value).vector.admin


def in_a_watched_repository(
    tmp_path: Path, mode: str, story: Callable[[WatchedRepository], Awaitable[None]], *, own_bins: bool = False
) -> None:
    """Run a test's story in virtual time, on a log with a bootstrap."""
    offline = Offline(tmp_path / "keys", bins=BINS, mode=mode, days=DEFAULT_DAYS, own_bins=own_bins)

    async def main(bus: EmbeddedBus, clock: Clock) -> None:
        await story(WatchedRepository(bus, clock, tmp_path, offline))

    on_a_log(tmp_path / "log.db", offline.bootstrap(PARTITIONS), main)
