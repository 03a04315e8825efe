"""A partition of heads that no single fetch returns whole: every reader reads it to the end."""

import asyncio
from pathlib import Path

from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Bus, Message
from tufline.clock import Clock
from tufline.records import Bootstrap, Claim, Head, Progress, Settings, topics
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline_signer.heads import take_over
from tufline_testing.log import announce_bootstrap, on_a_log, read_all
from tufline_testing.offline import announce_updates
from tufline_testing.rotation import PARTITIONS, WatchedRepository, in_a_watched_repository

BYTES = 100_000


async def enlarge(bus: Bus, partition: int) -> None:
    """Append more to a partition of heads than one fetch returns; compaction deletes none of it."""
    value = records.encode(Claim(writer="x" * BYTES))
    filler = [Message(topics.HEADS, f"filler-{number}", value, partition) for number in range(DEFAULT_FETCH_BYTES // BYTES + 20)]
    await bus.append(filler)
    reader = bus.reader(topics.HEADS, partition, 0)
    await reader.fetch(max_wait=0)
    assert reader.position < await bus.end(topics.HEADS, partition), "one fetch returns it all: the test shows nothing"
    await reader.close()


def head(version: int) -> bytes:
    return records.encode(
        Head(version=version, sha256="0" * 64, length=1, expires="2040-01-01T00:00:00Z", offset=version, keyids=[], applied=version)
    )


def test_a_publisher_that_starts_after_a_key_change_trusts_the_newest_root(tmp_path: Path) -> None:
    """However large the partition of heads is, a publisher that starts trusts the newest root and targets, and continues to publish."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            await enlarge(repository.bus, PARTITIONS)
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await repository.announce(2)
            await repository.shows_only_the_new_key()
        heads = await read_all(repository.bus, topics.HEADS, PARTITIONS)
        assert [record.key for record in heads].count("root") == 2, "the old root's head is gone: the test shows nothing"
        async with repository.running():
            await repository.announce(3)
            await asyncio.sleep(10)
            assert set(repository.reader.refresh().values()) == {3}
            assert repository.health.ready, repository.health.problems

    in_a_watched_repository(tmp_path, "pep458", story)


def test_takeover_reads_to_the_claim(tmp_path: Path) -> None:
    """A takeover of a partition of heads knows its newest heads and progress, however much precedes them."""
    bootstrap = Bootstrap(settings=Settings(2, "bins", PARTITIONS, {}), root={})

    async def story(bus: Bus, clock: Clock) -> None:
        del clock
        await announce_bootstrap(bus, bootstrap)
        for version in (1, 2):
            progress = records.encode(Progress(offset=version))
            await bus.append([Message(topics.HEADS, "bins-0", head(version)), Message(topics.HEADS, records.PROGRESS_KEY, progress)])
            await enlarge(bus, 0)
        async with take_over(bus, "signer.bins.0", 0, PassedOver(Health(), "signer.bins.0")) as owned:
            assert (owned.heads["bins-0"].version, owned.progress) == (2, Progress(offset=2))

    on_a_log(tmp_path / "log.db", bootstrap, story)
