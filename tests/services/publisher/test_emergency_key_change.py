"""An online key is lost and replaced while a publisher is behind: the origin stays up to date, and health reports the problems."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from itertools import count, islice
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Targets

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.metadata import envelope
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.origin.directory import LocalStore
from tufline.origin.store import Store
from tufline.records import Add, Head, NewMetadata, Published, topics
from tufline.runtime.health import Health
from tufline.trust.rotation import next_targets
from tufline_testing.log import DEFAULT_DAYS, announce, eventually, on_a_log, read_all, running, settled
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.origin import Reader, WatchedStore

PARTITIONS = 2
KEPT = 0
"""The partition that the first signer keeps when a second one joins."""

DAY_SECONDS = 86_400


class Hanging(LocalStore):
    """An origin whose file system hangs for half a minute, once."""

    armed = False

    async def put_many(self, files: Iterable[tuple[str, bytes]]) -> list[str]:
        if self.armed:
            self.armed = False
            await asyncio.sleep(30)
        return await super().put_many(files)


class Listening(Health):
    """Remembers everything that was reported to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def problem(self, part: str, reason: str) -> None:
        super().problem(part, reason)
        self.said.add(reason)

    def warn(self, part: str, reason: str | None) -> None:
        super().warn(part, reason)
        if reason is not None:
            self.said.add(reason)


class LostKeyRepository:
    """A log, its offline signers, and an origin; the story starts signers and publishers."""

    def __init__(self, bus: EmbeddedBus, clock: Clock, path: Path, offline: Offline) -> None:
        self.bus, self.clock, self.path, self.offline = bus, clock, path, offline
        self.directory = path / "origin"
        self.health = Listening()
        self.numbers = count()
        self.sent = 0

    async def reopen(self) -> None:
        """Make retention and compaction happen, and open the log again, so that no deleted record is in memory."""
        await self.bus.maintain()
        await self.bus.close()
        self.bus = await open_embedded(self.path / "log.db", topics.topics(PARTITIONS), clock=self.clock, threads=False)

    def signer(self) -> Awaitable[None]:
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=600.0, release_delay=5.0, release_grace=600.0)
        return tufline_signer.service.run(self.bus, config, clock=self.clock, health=Health())

    def publisher(self, store: Store | None = None) -> Awaitable[None]:
        config = PublisherConfig(directory=self.directory)
        return tufline_publisher.service.run(self.bus, config, store or LocalStore(self.directory), clock=self.clock, health=self.health)

    async def announce(self, number: int = 1, partition: int | None = None) -> None:
        """Announce new paths, of any bins or of those of one partition."""
        settings = self.offline.bootstrap(PARTITIONS).settings

        def wanted(path: str) -> bool:
            return partition in {None, settings.partitioning.partition_of_path(path)}

        paths = (path for path in map("p/{}".format, self.numbers) if wanted(path))
        await announce(self.bus, settings, [Add(path, 1, {"sha256": "0" * 64}) for path in islice(paths, number)])
        self.sent += number

    async def published(self) -> list[Published]:
        return [records.decode(records.published_decoder, record.value) for record in await read_all(self.bus, topics.PUBLISHED)]

    async def is_live(self) -> bool:
        """Return whether a client finds everything."""
        return len(Reader(self.directory, self.clock).refresh()) == self.sent

    async def stays_fresh(self) -> None:
        """For longer than a timestamp's lifetime a client always finds everything, and the publisher reports no problem."""
        for _ in range(3):
            await asyncio.sleep(DAY_SECONDS / 2)
            assert await self.is_live()
        assert not self.health.problems, self.health.problems

    @property
    def first_key(self) -> Key:
        """The key to which targets 1 delegate the bins."""
        delegations = Metadata[Targets].from_dict(copy.deepcopy(self.offline.payload["metadata"]["targets"])).signed.delegations
        assert delegations is not None
        assert delegations.succinct_roles is not None
        return delegations.keys[delegations.succinct_roles.keyids[0]]

    async def lose_the_key_of_the_bins(self) -> None:
        """Delete the key, which a running signer does not notice, and submit targets with another one, which it can't use at first."""
        old = self.first_key
        (self.path / "keys" / old.unrecognized_fields[ONLINE_KEY_URI].removeprefix("fn:")).unlink()
        new = self.offline.new_key().public_key
        # Otherwise it would sign all bins with both keys as soon as it reads of the targets, and no bin would be refused.
        file = self.path / "keys" / new.unrecognized_fields[ONLINE_KEY_URI].removeprefix("fn:")
        hidden = file.rename(file.with_suffix(".hidden"))
        assert self.offline.targets is not None
        targets = next_targets(self.offline.targets, old.keyid, new, self.clock().replace(microsecond=0) + timedelta(days=3650))
        assert targets is not None
        self.offline.targets = targets
        await announce_updates(self.bus, [NewMetadata(role="targets", metadata=self.offline.sign(targets), skip_overlap=True)])
        await asyncio.sleep(1)
        hidden.rename(file)

    async def refused_bins(self) -> list[int]:
        """Offsets of the bins that are not signed by the key that targets 1 delegates to."""
        keyid = self.first_key.keyid.encode()
        return [
            record.offset
            for record in await read_all(self.bus, topics.METADATA)
            if record.key.startswith("bins") and keyid not in record.value
        ]

    async def publishes_past_refused_bins(self) -> list[int]:
        """Wait for refused bins, and until a later file on the log is published; return the bins' offsets."""

        async def are_there() -> bool:
            return bool(await self.refused_bins())

        await eventually(are_there)
        refused = await self.refused_bins()
        await self.announce(partition=KEPT)

        async def is_shown() -> bool:
            return (await self.published())[-1].timestamp.offset > refused[-1]

        await eventually(is_shown)
        return refused


def in_a_lost_key_repository(
    tmp_path: Path, mode: str, story: Callable[[LostKeyRepository], Awaitable[None]], *, own_bins: bool = False
) -> None:
    """Tell a story in virtual time, on a log with a bootstrap."""
    offline = Offline(tmp_path / "keys", bins=8, mode=mode, days=DEFAULT_DAYS, own_bins=own_bins)

    async def main(bus: EmbeddedBus, clock: Clock) -> None:
        await story(LostKeyRepository(bus, clock, tmp_path, offline))

    on_a_log(tmp_path / "log.db", offline.bootstrap(PARTITIONS), main)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_a_slow_origin_gets_over_a_lost_key(tmp_path: Path, mode: str) -> None:
    """A publisher that hangs while a lost key is replaced finally publishes everything, and reports what it waits for."""

    async def story(repository: LostKeyRepository) -> None:
        store = Hanging(repository.directory)
        async with running(repository.publisher(store)):
            async with running(repository.signer()):
                await repository.announce()
                await eventually(repository.is_live)
                store.armed = True
                await repository.announce()
                await settled(repository.bus)
                await asyncio.sleep(1)
                await repository.announce()
                await settled(repository.bus)
            (repository.path / "keys" / "online.pem").unlink()
            async with running(repository.signer()):
                await announce_updates(repository.bus, repository.offline.rotate(skip_overlap=True, now=repository.clock()))
                await repository.stays_fresh()
        assert any("of metadata/0 is not published" in text and "bins-" in text for text in repository.health.said), repository.health.said

    in_a_lost_key_repository(tmp_path, mode, story)


async def two_signers(repository: LostKeyRepository, partition: int | None = None) -> None:
    """Let two signers sign bins until the new targets are on the log: one still has the lost key in memory, the other does not."""
    while not any(
        record.key == "targets" and record.headers["version"] == "2" for record in await read_all(repository.bus, topics.METADATA)
    ):
        await repository.announce(4, partition)
        await asyncio.sleep(0.3)


def test_two_signers_of_whom_one_has_the_lost_key_still(tmp_path: Path) -> None:
    """Files that a signer makes with the new key before the targets arrive are finally published, whatever is published meanwhile."""

    async def story(repository: LostKeyRepository) -> None:
        async with running(repository.publisher()), running(repository.signer()):
            await repository.announce()
            await eventually(repository.is_live)
            await repository.lose_the_key_of_the_bins()
            async with running(repository.signer()):
                await two_signers(repository)
                await eventually(repository.is_live)
                await repository.stays_fresh()
        first = (await repository.refused_bins())[0]
        targets = next(
            record.offset
            for record in await read_all(repository.bus, topics.METADATA)
            if record.key == "targets" and record.headers["version"] == "2"
        )
        meanwhile = [one for one in await repository.published() if first < one.timestamp.offset < targets]
        assert meanwhile, "nothing was published meanwhile: the test shows nothing"
        assert all(one.next_offset <= first for one in meanwhile), "a publisher that starts would not read the refused records again"
        assert any(f"offset {first} of metadata/0 is not published" in text for text in repository.health.said), repository.health.said

    in_a_lost_key_repository(tmp_path, "pep458", story, own_bins=True)


@pytest.mark.parametrize("passed", [False, True], ids=["now", "by a version that went past it"])
def test_a_publisher_that_starts_fetches_what_was_refused_before(tmp_path: Path, passed: bool) -> None:
    """Bins that one publisher refused, and that are not written again, are published by the next one, which uploads nothing else again."""

    async def story(repository: LostKeyRepository) -> None:
        async with running(repository.signer()):
            async with running(repository.publisher()):
                await repository.announce()
                await eventually(repository.is_live)
            await repository.lose_the_key_of_the_bins()
            async with running(repository.signer()):
                async with running(repository.publisher()):
                    refused = await repository.publishes_past_refused_bins()
                last = (await repository.published())[-1]
                assert last.next_offset <= refused[0], "a publisher that starts would not read the refused records again"
                if passed:
                    newest = records.encode(msgspec.structs.replace(last, next_offset=await repository.bus.end(topics.METADATA, 0)))
                    await repository.bus.append([Message(topics.PUBLISHED, last.origin, newest)])
                await two_signers(repository, KEPT)
            written = [record for record in await read_all(repository.bus, topics.METADATA) if not record.key.endswith(".root")]
            before = {envelope.file_name(record.key, int(record.headers["version"])) for record in written if record.offset < refused[0]}
            put: set[str] = set()
            store = WatchedStore(LocalStore(repository.directory), lambda operation: put.add(operation.removeprefix("put ")))
            async with running(repository.publisher(store)):
                await repository.announce(partition=KEPT)
                await eventually(repository.is_live, seconds=120)
                await repository.stays_fresh()
            newest_of = {record.key: record.offset for record in await read_all(repository.bus, topics.METADATA)}
            assert set(newest_of.values()) >= set(refused), "they were written again: the test shows nothing"
            assert "timestamp" in put, "the store is not watched: the test shows nothing"
            assert not put & before, "the publisher started over"

    in_a_lost_key_repository(tmp_path, "pep458", story, own_bins=True)


@pytest.mark.parametrize("is_whole", [True, False])
def test_whole_files_of_an_earlier_publisher_are_used(tmp_path: Path, is_whole: bool) -> None:
    """Whole files uploaded before their commit are used, even if the signer is further ahead; truncated ones are uploaded again."""

    async def story(repository: LostKeyRepository) -> None:
        async with running(repository.signer()):
            async with running(repository.publisher()):
                await repository.announce()
                await eventually(repository.is_live)
            last = (await repository.published())[-1]
            await repository.announce(partition=KEPT)
            await settled(repository.bus)
        written = await read_all(repository.bus, topics.METADATA)
        commit = next(record.offset for record in written if record.key == "snapshot" and record.offset >= last.next_offset)
        put = [record for record in written if last.next_offset <= record.offset < commit]
        assert put, "nothing is written in between: the test shows nothing"
        files = [(envelope.file_name(record.key, int(record.headers["version"])), record.value) for record in put]
        await LocalStore(repository.directory).put_many((name, content if is_whole else content[:96]) for name, content in files)
        newest = records.encode(msgspec.structs.replace(last, next_offset=commit))
        ahead = Head(version=900, sha256="0" * 64, length=1, expires="2040-01-01T00:00:00Z", offset=10**6, keyids=["k"])
        heads = [Message(topics.HEADS, record.key, records.encode(ahead), KEPT) for record in put]
        await repository.bus.append([Message(topics.PUBLISHED, last.origin, newest), *heads])
        touched: set[str] = set()
        store = WatchedStore(LocalStore(repository.directory), lambda operation: touched.add(operation.removeprefix("put ")))
        async with running(repository.publisher(store)):
            await eventually(repository.is_live, seconds=120)
        assert "timestamp" in touched, "the store is not watched: the test shows nothing"
        assert bool(touched & {name for name, _ in files}) is not is_whole

    in_a_lost_key_repository(tmp_path, "pep458", story, own_bins=True)


def test_a_new_mirror_after_a_lost_key(tmp_path: Path) -> None:
    """A publisher that reads the whole log, with the old targets before bins that only the new key has signed, makes a whole origin."""

    async def story(repository: LostKeyRepository) -> None:
        async with running(repository.signer()):
            await repository.announce()
            await settled(repository.bus)
        (repository.path / "keys" / "online.pem").unlink()
        async with running(repository.signer()):
            await announce_updates(repository.bus, repository.offline.rotate(skip_overlap=True, now=repository.clock()))
            await repository.announce(8)
            await settled(repository.bus)
            roles = [record.key for record in await read_all(repository.bus, topics.METADATA)]
            assert roles.count("targets") == 2, "the old targets are gone: the test shows nothing"
            async with running(repository.publisher()):
                await eventually(repository.is_live)
                assert not [text for text in repository.health.said if "not published" in text], repository.health.said
                await repository.stays_fresh()

    in_a_lost_key_repository(tmp_path, "pep458", story)


def test_old_targets_and_roots_are_compacted_when_a_publisher_starts(tmp_path: Path) -> None:
    """Long after a key change, when the log only has the newest targets, a new mirror becomes complete, and a late one catches up."""

    async def story(repository: LostKeyRepository) -> None:
        async with running(repository.signer()):
            async with running(repository.publisher()):
                await repository.announce()
                await eventually(repository.is_live)
            await announce_updates(repository.bus, repository.offline.rotate(now=repository.clock()))
            await repository.announce(8)
            await asyncio.sleep(DAY_SECONDS)
        await repository.reopen()
        roles = [record.key for record in await read_all(repository.bus, topics.METADATA)]
        assert roles.count("targets") == 1, "the old targets are still there: the test shows nothing"
        async with running(repository.signer()):
            for directory in (repository.directory, repository.path / "mirror"):
                repository.directory = directory
                async with running(repository.publisher()):
                    await repository.announce()
                    await settled(repository.bus)
                    await eventually(repository.is_live, seconds=120)
                    await repository.stays_fresh()
        await repository.bus.close()

    in_a_lost_key_repository(tmp_path, "pep458", story)
