"""People replace all keys of offline targets: no client fails at any moment, whatever root it has, and later only the new keys sign."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.records import topics
from tufline_testing.log import eventually, read_all
from tufline_testing.offline import announce_updates
from tufline_testing.rotation import DELAY_SECONDS, GRACE_SECONDS, PARTITIONS, WatchedRepository, in_a_watched_repository


def shown_targets(repository: WatchedRepository) -> int:
    """Return the version of targets that the published snapshot names."""
    timestamp = json.loads((repository.directory / "timestamp.json").read_bytes())
    version = timestamp["signed"]["meta"]["snapshot.json"]["version"]
    snapshot = json.loads((repository.directory / f"{version}.snapshot.json").read_bytes())
    found: int = snapshot["signed"]["meta"]["targets.json"]["version"]
    return found


async def shows(repository: WatchedRepository, root: int, targets: int) -> None:
    """Wait until clients have these versions, while they read without pause."""

    async def is_so() -> bool:
        repository.look("wait")
        return (repository.reader.root, shown_targets(repository)) == (root, targets)

    await eventually(is_so, seconds=2 * GRACE_SECONDS, step=1)


def test_no_client_fails_while_all_keys_of_targets_are_replaced(tmp_path: Path) -> None:
    """The new root follows targets that old and new keys signed; targets of the new keys alone follow when no cache hides that root."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            people, since = repository.offline, repository.clock()
            updates = people.replace_targets_keys(repository.clock())
            await announce_updates(repository.bus, [*updates, *people.renew_targets(repository.clock())])
            await shows(repository, 1, 2)
            await repository.announce(2)
            await shows(repository, 2, 2)
            assert repository.clock() >= since + timedelta(seconds=DELAY_SECONDS), "a cache may still have a snapshot with targets 1"
            assert set(repository.reader.refresh().values()) == {2}
            await repository.announce(3)
            await shows(repository, 2, 3)
            assert repository.clock() >= repository.root_since[2] + timedelta(seconds=GRACE_SECONDS / 2)
            await repository.announce(4)
            await asyncio.sleep(1)
            assert set(repository.reader.refresh().values()) == {4}
            assert repository.health.ready, repository.health.problems

    in_a_watched_repository(tmp_path, "pep458", story)


def test_the_wait_for_caches_ends_however_often_the_signer_starts(tmp_path: Path) -> None:
    """Targets of the new keys alone are not held back for longer because a signer starts again and again."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            await announce_updates(repository.bus, repository.offline.replace_targets_keys(repository.clock()))
            await shows(repository, 2, 2)
        await announce_updates(repository.bus, repository.offline.renew_targets(repository.clock()))
        for number in range(2, 16):
            async with repository.running():
                await repository.announce(number)
                await asyncio.sleep(GRACE_SECONDS / 5)
                repository.look("wait")
        assert shown_targets(repository) == 3

    in_a_watched_repository(tmp_path, "pep458", story)


def test_a_publisher_that_slept_shows_the_targets_before_their_root(tmp_path: Path) -> None:
    """A publisher that was down during the change, until the log had lost commits in between, never shows a root without its targets."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
        async with repository.running(publish=False):
            await announce_updates(repository.bus, repository.offline.replace_targets_keys(repository.clock()))
            await repository.announce(2)
            await asyncio.sleep(2 * DELAY_SECONDS)
            await repository.announce(3)
        await asyncio.sleep(2 * topics.COMPACTION_LAG_SECONDS)
        async with compacted(repository):
            on_log = [record.key for record in await read_all(repository.bus, topics.METADATA)]
            assert on_log.index("2.root") < on_log.index("timestamp")
            async with repository.running():
                await shows(repository, 2, 2)
                assert set(repository.reader.refresh().values()) == {3}

    in_a_watched_repository(tmp_path, "pep458", story)


@asynccontextmanager
async def compacted(repository: WatchedRepository) -> AsyncIterator[None]:
    """Make compaction happen, and open the log again, so that no deleted record is in memory."""
    assert isinstance(repository.bus, EmbeddedBus)
    await repository.bus.maintain()
    await repository.bus.close()
    repository.bus = await open_embedded(repository.path / "log.db", topics.topics(PARTITIONS), clock=repository.clock, threads=False)
    try:
        yield
    finally:
        await repository.bus.close()


def test_lost_keys_of_targets_are_left_behind_at_once(tmp_path: Path) -> None:
    """If the old keys are lost, a root with ``skip_overlap`` makes targets of the new keys alone live, and nothing waits after it."""

    async def story(repository: WatchedRepository) -> None:
        async with repository.running():
            await repository.announce(1)
            since = repository.clock()
            await announce_updates(repository.bus, repository.offline.replace_targets_keys(repository.clock(), skip_overlap=True))
            await repository.announce(2)
            await shows(repository, 2, 2)
            await announce_updates(repository.bus, repository.offline.renew_targets(repository.clock()))
            await shows(repository, 2, 3)
            assert repository.clock() < since + timedelta(seconds=DELAY_SECONDS)
            assert set(repository.reader.refresh().values()) == {2}

    # A client that does not see the new root yet must fail then: no available key can sign for it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchedRepository, "look", lambda repository, operation: repository.refresh() if operation == "wait" else None)
        in_a_watched_repository(tmp_path, "pep458", story)
