"""A publisher and custom roles: new ones, deleted ones, and ones with other keys; clients never find a role that they refuse."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

import tufline_publisher.service
from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.checks.fsck import compare
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig
from tufline.metadata.delegations import Delegation
from tufline.origin.directory import LocalStore
from tufline.records import topics
from tufline.records.metadata import VERSION_HEADER
from tufline_testing.hand_signed import BINS, HandSigned, new_key
from tufline_testing.log import eventually, on_a_log, read_all, running
from tufline_testing.origin import Reader, checked_store
from tufline_testing.publishing import Listening


class Repository:
    """A log that the story signs by hand, and an origin whose client refreshes before and after each operation on it."""

    def __init__(self, bus: EmbeddedBus, clock: Clock, path: Path, metadata: HandSigned) -> None:
        self.bus, self.clock, self.path, self.metadata = bus, clock, path, metadata
        self.directory = path / "origin"
        self.health = Listening()

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[None]:
        store = checked_store(self.directory, self.clock)
        config = PublisherConfig(directory=self.directory)
        self.health = Listening()
        async with running(tufline_publisher.service.run(self.bus, config, store, clock=self.clock, health=self.health)):
            yield

    async def commit(self, **others: int) -> None:
        self.metadata.commit(**others)
        await self.metadata.append(self.bus)

    async def compact(self) -> None:
        """Make retention and compaction happen, and open the log again, so that no deleted record is in memory."""
        await asyncio.sleep(86_400)
        await self.bus.maintain()
        await self.bus.close()
        self.bus = await open_embedded(self.path / "log.db", topics.topics(BINS), clock=self.clock, threads=False)

    async def shows(self, *paths: str, findings: Sequence[str] = ()) -> None:
        """Wait until the newest commit is published; then clients find these paths and those in bins, and fsck finds nothing else."""
        timestamp = self.directory / "timestamp.json"

        async def is_newest() -> bool:
            return timestamp.exists() and timestamp.read_bytes() == self.metadata.newest["timestamp"]

        await eventually(is_newest, seconds=120)
        assert Reader(self.directory, self.clock).refresh().keys() == {"in-bins/0", "in-bins/1", *paths}
        assert (await compare(self.bus, LocalStore(self.directory), "origin")).findings == [*findings]

    async def refuses(self, reason: str) -> None:
        """The newest commit is not published, and health says why."""
        before = (self.directory / "timestamp.json").read_bytes()
        await eventually(lambda: asyncio.sleep(0, any(reason in said for said in self.health.said)), seconds=120)
        await asyncio.sleep(120)
        assert reason in self.health.problems.get("publisher.origin", ""), self.health.said
        assert (self.directory / "timestamp.json").read_bytes() == before

    def role(self, name: str, key: CryptoSigner) -> Delegation:
        return Delegation(name=name, paths=(f"{name}/*",), keyids=(key.public_key.keyid,))

    async def add_a_role(self, name: str, key: CryptoSigner) -> None:
        """Add the first custom role, as the signer does: what a new targets delegates to is on the log before it."""
        self.metadata.role(name, [f"{name}/{self.metadata.versions.get(name, 0) + 1}"], key)
        self.metadata.catch_all()
        self.metadata.targets(self.role(name, key), keys=[key])
        await self.commit()

    async def delete_all_roles(self) -> None:
        self.metadata.targets()
        await self.commit()


Story = Callable[[Repository], Awaitable[None]]


def tell(tmp_path: Path, story: Story) -> None:
    """Tell a story in virtual time, on a log with a commit."""
    metadata = HandSigned(tmp_path / "keys")

    async def main(bus: EmbeddedBus, clock: Clock) -> None:
        repository = Repository(bus, clock, tmp_path, metadata)
        await repository.commit()
        await story(repository)

    on_a_log(tmp_path / "log.db", metadata.bootstrap, main)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_new_role_comes_before_the_targets_that_name_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, at_once: bool) -> None:
    """The publisher uploads it once targets names it; that it came early is neither an error in the log nor a problem in health."""

    async def story(repository: Repository) -> None:
        key = new_key()
        async with repository.publisher():
            await repository.shows()
            repository.health.said.clear()
            if not at_once:
                repository.metadata.role("dev", ["dev/0"], key)
                repository.metadata.catch_all()
                await repository.metadata.append(repository.bus)
                await asyncio.sleep(60)
            await repository.add_a_role("dev", key)
            await repository.shows("dev/1" if at_once else "dev/2")
            assert repository.health.said == []
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    tell(tmp_path, story)


def test_an_early_role_that_a_commit_names_already(tmp_path: Path) -> None:
    """A commit may name a role before targets does: no client reads it, and it is verified before the targets that name it are shown."""

    async def story(repository: Repository) -> None:
        key = new_key()
        async with repository.publisher():
            repository.metadata.role("dev", ["dev/a"], key)
            await repository.commit()
            await repository.shows()
            repository.metadata.catch_all()
            repository.metadata.targets(repository.role("dev", key), keys=[key])
            await repository.commit()
            await repository.shows("dev/a")

    tell(tmp_path, story)


def test_an_early_role_that_other_keys_signed(tmp_path: Path) -> None:
    """A file that no client read is not shown to clients by later targets whose keys have not signed it, also by a new process."""

    async def story(repository: Repository) -> None:
        key, other = new_key(), new_key()
        async with repository.publisher():
            repository.metadata.role("dev", ["dev/a"], other)
            await repository.commit()
            await repository.shows()
        for _ in range(2):
            async with repository.publisher():
                if repository.metadata.versions["targets"] == 1:
                    repository.metadata.catch_all()
                    repository.metadata.targets(repository.role("dev", key), keys=[key])
                    await repository.commit()
                await repository.refuses("names for dev have not verified version 1 of it")
        async with repository.publisher():
            repository.metadata.role("dev", ["dev/b"], key)
            await repository.commit()
            await repository.shows("dev/b")

    tell(tmp_path, story)


def test_a_new_origin_after_a_role_was_deleted(tmp_path: Path) -> None:
    """The snapshot still names the deleted role. A publisher that starts, or makes a new origin, publishes that commit and later ones."""

    async def story(repository: Repository) -> None:
        key = new_key()
        async with repository.publisher():
            await repository.add_a_role("dev", key)
            await repository.shows("dev/1")
            await repository.delete_all_roles()
            await repository.shows()
        await repository.compact()
        written = [record.key for record in await read_all(repository.bus, topics.METADATA)]
        assert written.count("targets") == 1, "older targets verify the file: the test shows nothing"
        for directory in (repository.directory, tmp_path / "mirror"):
            repository.directory = directory
            async with repository.publisher():
                await repository.shows()
                repository.metadata.role("bins-0", ["in-bins/0"])
                await repository.commit()
                await repository.shows()
            assert (directory / "1.dev.json").exists()
        await repository.bus.close()

    tell(tmp_path, story)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_deleted_role_that_comes_back_with_another_key(tmp_path: Path, is_new: bool) -> None:
    """A role of the same name gets a new version by its new key; the last version by the old key is not shown to clients again."""

    async def story(repository: Repository) -> None:
        old, new = new_key(), new_key()
        async with repository.publisher():
            await repository.add_a_role("dev", old)
            await repository.shows("dev/1")
            await repository.delete_all_roles()
            await repository.shows()
        if is_new:
            repository.directory = tmp_path / "mirror"
        async with repository.publisher():
            await repository.shows()
            repository.metadata.targets(repository.role("dev", new), keys=[new])
            await repository.commit()
            await repository.refuses("names for dev have not verified version 1 of it")
            repository.metadata.role("dev", ["dev/2"], new)
            await repository.commit()
            await repository.shows("dev/2")

    tell(tmp_path, story)


def test_a_role_whose_key_changes(tmp_path: Path) -> None:
    """Both keys sign it before targets names the new one."""

    async def story(repository: Repository) -> None:
        old, new = new_key(), new_key()
        async with repository.publisher():
            await repository.add_a_role("dev", old)
            await repository.shows("dev/1")
            repository.health.said.clear()
            repository.metadata.role("dev", ["dev/2"], old, new)
            await repository.commit()
            await repository.shows("dev/2")
            repository.metadata.targets(repository.role("dev", new), keys=[new])
            await repository.commit()
            await repository.shows("dev/2")
            assert repository.health.said == []
            repository.metadata.role("dev", ["dev/3"], old)
            await repository.commit()
            await repository.refuses("such as 3.dev.json")

    tell(tmp_path, story)


@pytest.mark.parametrize("lost", ["a role", "bins"])
def test_a_snapshot_that_lacks_a_role(tmp_path: Path, lost: str) -> None:
    """A commit is refused if clients would look for a role that its snapshot does not name."""

    async def story(repository: Repository) -> None:
        key = new_key()
        async with repository.publisher():
            await repository.shows()
            repository.metadata.role("dev", ["dev/1"], key)
            repository.metadata.catch_all(bins=4 if lost == "bins" else 2)
            repository.metadata.targets(repository.role("dev", key), keys=[key])
            if lost == "bins":
                await repository.commit()
                await repository.refuses("its snapshot lacks 2 bins to which bins delegates, such as bins-2")
            else:
                await repository.commit(dev=0)
                await repository.refuses("its snapshot names no version of dev, to which targets version 2 delegates")

    tell(tmp_path, story)


def test_a_catch_all_role_that_names_other_keys(tmp_path: Path) -> None:
    """The bins were verified by the keys that targets names, so a catch-all role that names others is not shown until targets does, too."""

    async def story(repository: Repository) -> None:
        key, other = new_key(), new_key()
        async with repository.publisher():
            await repository.add_a_role("dev", key)
            await repository.shows("dev/1")
            repository.metadata.catch_all(of_bins=[other])
            await repository.commit()
            await repository.refuses("such as 2.bins.json")
            repository.metadata.catch_all()
            await repository.commit()
            await repository.shows("dev/1")

    tell(tmp_path, story)


def test_a_file_of_an_unknown_role_is_not_uploaded(tmp_path: Path) -> None:
    """Whoever can write to the log can't put files to the origin that no snapshot names."""

    async def story(repository: Repository) -> None:
        async with repository.publisher():
            repository.metadata.role("dev", ["dev/a"], new_key())
            await repository.commit(dev=0)
            await repository.shows()
            await asyncio.sleep(120)
            assert not (repository.directory / "1.dev.json").exists()

    tell(tmp_path, story)


def test_a_forged_file_of_the_same_version_is_passed_over(tmp_path: Path) -> None:
    """Of two files of one version the one that the head names is published, although the other one came later."""

    async def story(repository: Repository) -> None:
        key = new_key()
        async with repository.publisher():
            await repository.shows()
            repository.metadata.role("dev", ["dev/a"], key)
            await repository.metadata.append(repository.bus)
            forged = repository.metadata.newest["dev"].replace(b"dev/a", b"dev/b")
            await repository.bus.append([Message(topics.METADATA, "dev", forged, headers={VERSION_HEADER: "1"})])
            await asyncio.sleep(1)
            repository.metadata.catch_all()
            repository.metadata.targets(repository.role("dev", key), keys=[key])
            await repository.commit()
            await repository.shows("dev/a", findings=["log: dev version 1 has two different contents, at the offsets 6 and 7"])

    tell(tmp_path, story)


def test_a_role_whose_key_was_lost(tmp_path: Path) -> None:
    """The new key signs the role alone, before targets names that key: health warns until then, and the role is published at once."""

    async def story(repository: Repository) -> None:
        lost, new = new_key(), new_key()
        async with repository.publisher():
            await repository.add_a_role("dev", lost)
            await repository.shows("dev/1")
            repository.metadata.role("dev", ["dev/2"], new)
            await repository.metadata.append(repository.bus)
            await eventually(lambda: asyncio.sleep(0, "publisher.origin.refused" in repository.health.warnings))
            repository.health.said.clear()
            repository.metadata.targets(repository.role("dev", new), keys=[new])
            await repository.commit()
            await repository.shows("dev/2")
            assert not [said for said in repository.health.said if "can't be published" in said]
            assert repository.health.warnings == {}

    tell(tmp_path, story)
