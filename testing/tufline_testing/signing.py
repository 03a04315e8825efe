"""For tests of the signer: a log with a bootstrap, on which a test starts signers."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tufline.bus import Bus
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.metadata.delegations import Delegation, Delegations
from tufline.records import Add, Bootstrap, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.records.routing import AcceptedDelegations, Routing
from tufline.runtime.health import Health
from tufline.trust.admin_state import AdminState
from tufline_signer import service
from tufline_testing.log import (
    Change,
    Published,
    admin_state,
    announce,
    bootstrap_record,
    delegate,
    eventually,
    on_a_log,
    publish,
    read_all,
    running,
    settled,
)

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class BootstrappedLog:
    """A log with a bootstrap, on which a test starts signers.

    Attributes:
        bus: the log.
        clock: the time of the log and of the signers.
        path: a directory, with the online keys in ``keys``.
        bootstrap: the record in ``admin``.
    """

    bus: EmbeddedBus
    clock: Clock
    path: Path
    bootstrap: Bootstrap

    @asynccontextmanager
    async def signer(self, bus: Bus | None = None, **settings: Any) -> AsyncIterator[Health]:
        """Run a signer, on ``bus`` if that is passed, and provide its health; leaving the block stops it at any point of its work."""
        health = Health()
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=60.0).model_copy(update=settings)
        async with running(service.run(bus or self.bus, config, clock=self.clock, health=health)):
            yield health

    async def state(self) -> AdminState:
        """Return the state of ``admin``."""
        return await admin_state(self.bus)

    def routing(self, roles: Sequence[Delegation]) -> Routing:
        """Return the routing by custom roles, for the whole log."""
        settings = self.bootstrap.settings
        return Routing(settings.partitioning, [AcceptedDelegations(1, (0,) * settings.partitions, Delegations({}, tuple(roles)))])

    async def announce(self, *changes: Change, request: str = "r", hold: bool = False, state: AdminState | None = None) -> None:
        """Append changes as ingest does, perhaps to be held; or as an ingest does that knows only an earlier state of ``admin``."""
        admin = state or await self.state()
        await announce(self.bus, self.bootstrap.settings, changes, request, hold=hold, routing=admin.routing, admin=admin.next_offset)

    async def delegate(self, action: Any, *named: Delegation, deleted: Sequence[str] = (), keys: Mapping[str, Any] | None = None) -> int:
        """Change the custom delegations as ingest does, and return the offset in ``admin``."""
        return await delegate(self.bus, self.bootstrap.settings, action, *named, deleted=deleted, keys=keys)

    async def covered(self, offset: int) -> Published:
        """Wait until a commit covers a record of ``admin`` that is no publish, and everything announced."""

        async def is_covered() -> bool:
            found = await settled(self.bus)
            return found.vector is not None and found.vector.has_applied(offset)

        await eventually(is_covered, 600.0)
        return await settled(self.bus)

    async def publish(self) -> int:
        """Publish what is held as ingest does, and return the offset in ``admin``."""
        return await publish(self.bus, self.bootstrap.settings)

    async def published(self, offset: int) -> Published:
        """Wait until a commit covers a publish at an offset in ``admin``, and everything announced."""

        async def covered() -> bool:
            found = await settled(self.bus)
            return found.vector is not None and found.vector.publishes > offset

        await eventually(covered, 600.0)
        return await settled(self.bus)

    async def settled(self) -> Published:
        """Wait until a commit covers everything announced."""
        return await settled(self.bus)


def on_a_bootstrapped_log(
    tmp_path: Path, story: Callable[[BootstrappedLog], Awaitable[None]], partitions: int = PARTITIONS, **of_bootstrap: Any
) -> None:
    """Run a test's story in virtual time, on a new log with a bootstrap."""
    bootstrap = bootstrap_record(tmp_path / "keys", partitions, **of_bootstrap)
    on_a_log(tmp_path / "log.db", bootstrap, lambda bus, clock: story(BootstrappedLog(bus, clock, tmp_path, bootstrap)))


def add(path: str, length: int = 1, custom: dict[str, Any] | None = None) -> Add:
    """Make a change that adds an artifact."""
    return Add(path, length, {"sha256": f"{length:064x}"}, custom)


async def check_consecutive_versions(bus: Bus) -> None:
    """Check that over the whole log each role's versions are 1, 2, 3 and so on."""
    newest: Counter[str] = Counter()
    for record in await read_all(bus, topics.METADATA):
        version = int(record.headers[VERSION_HEADER])
        if record.key.endswith(".root"):
            continue
        again = record.key == "timestamp" and version == newest[record.key]
        assert again or version == newest[record.key] + 1, f"{record.key} goes from {newest[record.key]} to {version}"
        newest[record.key] = version
