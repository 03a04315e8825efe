"""Roots at an origin: only valid ones, never before the published commit verifies under them, and never after a commit needs them."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Timestamp

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Message, Record
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.errors import MetadataError
from tufline.origin.directory import LocalStore
from tufline.records import Add, NewMetadata, Published, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.runtime.health import Health
from tufline.trust import roles
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState
from tufline_publisher.trust_chain import TrustChain
from tufline_testing.log import DEFAULT_DAYS, announce, eventually, on_a_log, read_all, running, settled
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.origin import Reader, WatchedStore

PARTITIONS = 2
BINS = 4


def offline(path: Path) -> Offline:
    return Offline(path / "keys", bins=BINS, mode="pep458", days=DEFAULT_DAYS)


def next_root_of(mine: Offline, signed_by: Offline, version: int = 2) -> dict[str, Any]:
    """Make root 2 with one repository's keys, signed with the keys of another."""
    root = copy.deepcopy(mine.root)
    root.version = version
    return signed_by.sign(root)


def test_a_publisher_takes_a_root_that_old_and_new_keys_signed(tmp_path: Path) -> None:
    """A root without enough signatures by the previous root's keys or its own is refused; the right one is accepted after it."""
    ours, others = offline(tmp_path / "ours"), offline(tmp_path / "others")
    chain = TrustChain()
    chain.check_root(1, roles.file_bytes(ours.payload["metadata"]["root"]))
    for wrong in (next_root_of(others, others), next_root_of(others, ours), next_root_of(ours, others)):
        with pytest.raises(MetadataError, match="has 0 valid signatures"):
            chain.check_root(2, roles.file_bytes(wrong))
    assert chain.root_version == 1
    chain.check_root(2, roles.file_bytes(next_root_of(ours, ours)))
    assert chain.root_version == 2


def test_a_publisher_skips_no_root(tmp_path: Path) -> None:
    """A root that skips a version is refused, whoever signed it; so is a root whose record names another version."""
    ours = offline(tmp_path)
    chain = TrustChain()
    chain.check_root(1, roles.file_bytes(ours.payload["metadata"]["root"]))
    for version, said in ((3, 3), (2, 3), (3, 2)):
        with pytest.raises(MetadataError, match=f"root has version {version} after 1"):
            chain.check_root(said, roles.file_bytes(next_root_of(ours, ours, version)))
    for version in (2, 3):
        chain.check_root(version, roles.file_bytes(next_root_of(ours, ours, version)))
    assert chain.root_version == 3


def test_a_publisher_puts_no_other_old_root(tmp_path: Path) -> None:
    """A record that claims to be an earlier root is refused if its own keys have not signed it, or if it differs from the trusted one."""
    ours, others = offline(tmp_path / "ours"), offline(tmp_path / "others")
    first = roles.file_bytes(ours.payload["metadata"]["root"])
    chain = TrustChain()
    chain.check_root(1, first)
    with pytest.raises(MetadataError, match="differs from the trusted"):
        chain.check_root(1, roles.file_bytes(others.payload["metadata"]["root"]))
    chain.check_root(2, roles.file_bytes(next_root_of(ours, ours)))
    unsigned = copy.deepcopy(ours.root)
    unsigned.version = 1
    with pytest.raises(MetadataError, match="has 0 valid signatures"):
        chain.check_root(1, roles.file_bytes(others.sign(unsigned)))
    chain.check_root(1, first)


def test_admin_takes_a_root_that_old_and_new_keys_signed(tmp_path: Path) -> None:
    """The next root is valid only if both the previous root's keys and its own have signed it."""
    ours, others = offline(tmp_path / "ours"), offline(tmp_path / "others")
    first = records.encode(ours.bootstrap(PARTITIONS))
    state = fold(AdminState(), Record(topics.ADMIN, 0, 0, 1_800_000_000_000, "bootstrap", first, {}))
    wrong = (next_root_of(others, others), next_root_of(others, ours), next_root_of(ours, others))
    for offset, metadata in enumerate([*wrong, next_root_of(ours, ours)], 1):
        given = records.encode(NewMetadata(role="root", metadata=metadata))
        state = fold(state, Record(topics.ADMIN, 0, offset, 1_800_000_000_000, "root", given, {}))
    assert {offset: "has 0 valid signatures" in reason for offset, reason in state.refused.items()} == {1: True, 2: True, 3: True}
    assert [one.offset for one in state.roots] == [0, 4]


class NewRootRepository:
    """A log and an origin."""

    def __init__(self, bus: EmbeddedBus, clock: Clock, path: Path, people: Offline) -> None:
        self.bus, self.clock, self.path, self.people = bus, clock, path, people
        self.directory = path / "origin"

    def signer(self) -> Awaitable[None]:
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=60.0, release_delay=5.0, release_grace=600.0)
        return tufline_signer.service.run(self.bus, config, clock=self.clock, health=Health())

    def publisher(self, after: Callable[[str], None] = lambda _: None) -> Awaitable[None]:
        store = WatchedStore(LocalStore(self.directory), lambda _: None, after)
        config = PublisherConfig(directory=self.directory)
        return tufline_publisher.service.run(self.bus, config, store, clock=self.clock, health=Health())

    async def announce(self, path: str) -> None:
        await announce(self.bus, self.people.bootstrap(PARTITIONS).settings, [Add(path, 1, {"sha256": "0" * 64})])
        await settled(self.bus)

    async def becomes_live(self, path: str) -> None:
        await self.announce(path)
        await eventually(lambda: asyncio.sleep(0, path in Reader(self.directory, self.clock).refresh()), seconds=300)

    async def newest(self) -> Published:
        found = await read_all(self.bus, topics.PUBLISHED)
        return records.decode(records.published_decoder, found[-1].value)

    async def shows(self, version: int) -> bool:
        return (await self.newest()).timestamp.version == version


def in_a_new_root_repository(tmp_path: Path, story: Callable[[NewRootRepository], Awaitable[None]]) -> None:
    """Tell a story in virtual time."""
    people = offline(tmp_path)
    on_a_log(tmp_path / "log.db", people.bootstrap(PARTITIONS), lambda bus, clock: story(NewRootRepository(bus, clock, tmp_path, people)))


def test_a_root_waits_for_a_commit_that_stands_under_it(tmp_path: Path) -> None:
    """A root under which the published commit does not verify waits for a commit that does, even across restarts of the publisher."""

    async def story(repository: NewRootRepository) -> None:
        held = repository.directory / "2.root.json"
        async with running(repository.signer()):
            async with running(repository.publisher()):
                await repository.becomes_live("a")
                updates = repository.people.rotate(now=repository.clock())
                file = roles.file_bytes(updates[0].metadata)
                await repository.bus.append([Message(topics.METADATA, "2.root", file, headers={VERSION_HEADER: "2"})])
                await repository.announce("b")
                await asyncio.sleep(60)
                assert not held.exists()
            async with running(repository.publisher()):
                await asyncio.sleep(60)
                assert not held.exists()
                await announce_updates(repository.bus, updates)
                await eventually(lambda: asyncio.sleep(0, held.exists()), seconds=300)
                await repository.becomes_live("c")

    in_a_new_root_repository(tmp_path, story)


def test_a_root_that_is_held_back_is_not_passed(tmp_path: Path) -> None:
    """While a root waits, even beyond further commits, ``next_offset`` stays at it: a restarted publisher reads it again."""

    async def story(repository: NewRootRepository) -> None:
        people, held = repository.people, repository.directory / "2.root.json"
        old = CryptoSigner.from_priv_key_uri(f"file2:{repository.path / 'keys' / 'online.pem'}", people.root.keys[people.online])
        new = people.new_key()
        async with running(repository.publisher()):
            async with running(repository.signer()):
                await repository.becomes_live("a")
            shown = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1]
            root = roles.file_bytes(people.rotate(new=new, now=repository.clock())[0].metadata)
            # The new key has signed the timestamp, but not the snapshot yet.
            timestamp = Metadata[Timestamp].from_bytes(shown.value)
            timestamp.signed.version += 1
            timestamp.sign(old)
            timestamp.sign(new, append=True)
            files = {"2.root": (root, 2), "timestamp": (roles.file_bytes(timestamp.to_dict()), timestamp.signed.version)}
            headers = {key: {**shown.headers, VERSION_HEADER: str(version)} for key, (_, version) in files.items()}
            positions = await repository.bus.append(
                [Message(topics.METADATA, key, content, headers=headers[key]) for key, (content, _) in files.items()]
            )
            await eventually(lambda: repository.shows(timestamp.signed.version))
            assert (await repository.newest()).next_offset == positions[0].offset
            assert not held.exists()

    in_a_new_root_repository(tmp_path, story)


def test_a_commit_that_needs_a_root_comes_after_it(tmp_path: Path) -> None:
    """If the old keys are lost, the new root is published before the first commit that only its keys have signed."""
    operations: list[str] = []

    async def story(repository: NewRootRepository) -> None:
        def after(operation: str) -> None:
            operations.append(operation)
            if operation == "timestamp":
                Reader(repository.directory, repository.clock).refresh()

        async with running(repository.publisher(after)):
            async with running(repository.signer()):
                await repository.becomes_live("a")
            (repository.path / "keys" / "online.pem").unlink()
            async with running(repository.signer()):
                await announce_updates(repository.bus, repository.people.rotate(skip_overlap=True, now=repository.clock()))
                await repository.becomes_live("b")

    in_a_new_root_repository(tmp_path, story)
    assert "root 2.root.json" in operations
