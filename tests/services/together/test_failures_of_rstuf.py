"""Faults observed in RSTUF with old tasks and on quiet repositories: each is a test of the same name, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.origin.directory import LocalStore
from tufline.records import PROGRESS_KEY, Add, Bootstrap, Progress, topics
from tufline.runtime.health import Health
from tufline_testing.log import announce, bootstrap_record, eventually, on_a_log, read_all, running, settled
from tufline_testing.origin import Reader

PARTITIONS = 2


@dataclass
class PublishedLog:
    """A log, and the services that publish it to an origin."""

    bus: EmbeddedBus
    clock: Clock
    path: Path
    bootstrap: Bootstrap

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Reader]:
        """Run signer and publisher, and provide a client."""
        config, directory = SignerConfig(key_dir=self.path / "keys", renewal_check=600.0), self.path / "origin"
        services = (
            tufline_signer.service.run(self.bus, config, clock=self.clock, health=Health()),
            tufline_publisher.service.run(
                self.bus, PublisherConfig(directory=directory), LocalStore(directory), clock=self.clock, health=Health()
            ),
        )
        async with running(*services):
            yield Reader(directory, self.clock)

    async def published(self) -> None:
        """Wait until everything announced is published."""
        newest = await settled(self.bus)
        timestamp = self.path / "origin" / "timestamp.json"

        async def shown() -> bool:
            return timestamp.exists() and timestamp.read_bytes() == newest.timestamp

        await eventually(shown, 300)


def on_a_published_log(tmp_path: Path, story: Callable[[PublishedLog], Awaitable[None]], days: dict[str, int] | None = None) -> None:
    """Tell a story in virtual time."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, bins=4, days=days)
    on_a_log(tmp_path / "log.db", bootstrap, lambda bus, clock: story(PublishedLog(bus, clock, tmp_path, bootstrap)))


def test_redelivered_old_task_puts_nothing_older_back(tmp_path: Path) -> None:
    """If all tasks are delivered again from the start, live files keep their versions; RSTUF reverted them to old versions."""

    async def story(log: PublishedLog) -> None:
        paths = [f"p/{number}" for number in range(20)]
        async with log.running() as client:
            for length in (1, 2, 3):
                await announce(log.bus, log.bootstrap.settings, [Add(path, length, {"sha256": "0" * 64}) for path in paths])
                await log.published()
            assert client.refresh() == dict.fromkeys(paths, 3)
        before = [record.key for record in await read_all(log.bus, topics.METADATA)]
        # The signer's progress is reset to the beginning, as if a queue delivered all its tasks again.
        again = records.encode(Progress(offset=0))
        await log.bus.append([Message(topics.HEADS, PROGRESS_KEY, again, partition) for partition in range(PARTITIONS)])
        async with log.running():
            await announce(log.bus, log.bootstrap.settings, [Add("next", 1, {"sha256": "0" * 64})])
            await log.published()
            assert client.refresh() == dict.fromkeys(paths, 3) | {"next": 1}
        after = [record.key for record in await read_all(log.bus, topics.METADATA)][len(before) :]
        assert len([role for role in after if role.startswith("bins-")]) == 1

    on_a_published_log(tmp_path, story)


def test_timestamp_never_expires_on_a_quiet_repository(tmp_path: Path) -> None:
    """With bins that live a year and a timestamp of a day, a client succeeds at every hour of fourteen quiet days; in RSTUF it expired."""

    async def story(log: PublishedLog) -> None:
        async with log.running() as client:
            await announce(log.bus, log.bootstrap.settings, [Add("a", 1, {"sha256": "0" * 64})])
            await log.published()
            first = client.timestamp
            for _ in range(14 * 24):
                await asyncio.sleep(3600)
                assert client.refresh() == {"a": 1}
            assert client.timestamp >= first + 14
        bins = [record for record in await read_all(log.bus, topics.METADATA) if record.key.startswith("bins-")]
        assert len(bins) == 5, "an idle bin was signed again although it is valid for a year"

    on_a_published_log(tmp_path, story, {"timestamp": 1, "snapshot": 3, "bins": 365})
