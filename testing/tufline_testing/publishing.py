"""For tests of the publisher: a log with a running signer, and an origin, for which a test starts publishers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.origin.directory import LocalStore
from tufline.origin.store import Store
from tufline.records import Add, Bootstrap, topics
from tufline.runtime.health import Health
from tufline_testing.log import Published, announce, bootstrap_record, eventually, on_a_log, read_all, running, settled
from tufline_testing.origin import Reader

PARTITIONS = 2


class Listening(Health):
    """Remembers every warning and problem that was reported to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def problem(self, part: str, reason: str) -> None:
        super().problem(part, reason)
        self.said.append(reason)

    def warn(self, part: str, reason: str | None) -> None:
        super().warn(part, reason)
        if reason is not None:
            self.said.append(reason)


@dataclass
class SignedRepository:
    """A log with a running signer, and the directory of an origin, for which a test starts publishers."""

    bus: EmbeddedBus
    clock: Clock
    path: Path
    bootstrap: Bootstrap
    health: Health = field(default_factory=Health)

    @property
    def directory(self) -> Path:
        return self.path / "origin"

    @property
    def problem(self) -> str:
        return self.health.problems.get("publisher.origin", "")

    @asynccontextmanager
    async def publisher(self, store: Store | None = None, **settings: Any) -> AsyncIterator[None]:
        """Run a publisher; leaving the block stops it at any point of its work."""
        config, store = PublisherConfig(directory=self.directory, **settings), store or LocalStore(self.directory)
        async with running(tufline_publisher.service.run(self.bus, config, store, clock=self.clock, health=self.health)):
            yield

    async def announce(self, *paths: str, length: int = 1) -> None:
        await announce(self.bus, self.bootstrap.settings, [Add(path, length, {"sha256": "0" * 64}) for path in paths])

    async def signed(self) -> Published:
        """Wait until the signer's commit covers everything."""
        return await settled(self.bus)

    async def published(self) -> dict[str, int]:
        """Wait until the newest timestamp of the log is published, and return the targets that a client finds."""
        newest = await self.signed()

        async def shown() -> bool:
            last = await self.last_published()
            path = self.directory / "timestamp.json"
            return last is not None and last.vector == newest.vector and path.exists() and path.read_bytes() == newest.timestamp

        await eventually(shown, seconds=300)
        return Reader(self.directory, self.clock).refresh()

    def names(self) -> set[str]:
        """The names of the metadata files at the origin."""
        return {path.name for path in self.directory.iterdir() if path.name[0] != "."}

    @property
    def version(self) -> int:
        """Version of the published timestamp."""
        version: int = json.loads((self.directory / "timestamp.json").read_bytes())["signed"]["version"]
        return version

    async def has(self, names: set[str]) -> bool:
        """Return whether all these files are at the origin."""
        return names <= await LocalStore(self.directory).names()

    async def last_published(self) -> records.Published | None:
        found = await read_all(self.bus, topics.PUBLISHED)
        return records.decode(records.published_decoder, found[-1].value) if found else None


_bootstrap_decoder: msgspec.json.Decoder[Bootstrap] = records.decoder(Bootstrap)

Story = Callable[[SignedRepository], Awaitable[None]]


def in_a_signed_repository(tmp_path: Path, story: Story, bins: int = 4, name: str = "log", *, is_new: bool = True) -> None:
    """Run a test's story in virtual time. With ``is_new=False`` it uses the existing log and keys, and time starts again."""
    kept = tmp_path / "bootstrap"
    if is_new:
        kept.write_bytes(records.encode(bootstrap_record(tmp_path / "keys", PARTITIONS, bins=bins)))
    bootstrap = _bootstrap_decoder.decode(kept.read_bytes())

    async def main(bus: EmbeddedBus, clock: Clock) -> None:
        config = SignerConfig(key_dir=tmp_path / "keys", renewal_check=3600.0)
        async with running(tufline_signer.service.run(bus, config, clock=clock, health=Health())):
            await story(SignedRepository(bus, clock, tmp_path, bootstrap))

    on_a_log(tmp_path / f"{name}.db", bootstrap, main, is_new=is_new)
