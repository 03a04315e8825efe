"""Who may change an origin, and how: late, foreign and restored publishers, and an origin that changes by itself."""

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tuf.api.metadata import Root

import tufline_publisher.service
import tufline_signer.service
from tufline import records
from tufline.bus import Assigned, Member, Message
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.checks import fsck
from tufline.clock import Clock, utc_now
from tufline.config.settings import PublisherConfig, SignerConfig
from tufline.errors import BusError, ForeignOriginError
from tufline.keys.file import open_file_key
from tufline.metadata import canonical
from tufline.metadata.envelope import SignatureEntry, assemble, disassemble
from tufline.origin import provenance
from tufline.origin.directory import LOCK_PATIENCE_SECONDS, LocalStore
from tufline.origin.directory_lock import locked
from tufline.origin.owner import claim, read_owner
from tufline.origin.store import OWNER, TIMESTAMP
from tufline.records import Add, FileRef, Head, Published, Vector, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.trust import roles
from tufline_cli import main
from tufline_ingest.views.published import Live
from tufline_publisher.resume import find_origin
from tufline_testing.log import DEFAULT_DAYS, announce, announce_bootstrap, bootstrap_record, eventually, on_a_log, read_all, settled
from tufline_testing.offline import Offline, announce_updates
from tufline_testing.origin import Reader, WatchedStore
from tufline_testing.publishing import PARTITIONS, SignedRepository, in_a_signed_repository


class NoMember:
    """A membership in a group that is never revoked."""

    async def leave(self) -> None:
        pass


@dataclass
class StoppedBus:
    """The bus of a paused process: it keeps its partitions, whatever the group has decided meanwhile."""

    bus: EmbeddedBus

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def join(self, _group: str, topic: str, assigned: Assigned, _revoked: Assigned) -> Member:
        await assigned(frozenset(range(self.bus.partitions(topic))))
        return NoMember()


class StopsBefore(LocalStore):
    """A store whose process is stopped for a minute just before it replaces the timestamp."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.is_armed = False
        self.woke_up = asyncio.Event()

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        is_late = self.is_armed and name == TIMESTAMP
        if is_late:
            self.is_armed = False
            await asyncio.sleep(60)
        try:
            await super().replace(name, content, expected=expected, owner=owner)
        finally:
            if is_late:
                self.woke_up.set()


def test_publisher_that_wakes_up_late_changes_nothing(tmp_path: Path) -> None:
    """A publisher that was paused before it replaced the timestamp, while another took over, never reverts the origin."""

    async def story(repository: SignedRepository) -> None:
        store = StopsBefore(repository.directory)
        config = PublisherConfig(directory=repository.directory)
        bus: Any = StoppedBus(repository.bus)
        old = asyncio.create_task(tufline_publisher.service.run(bus, config, store, clock=repository.clock, health=Health()))
        await repository.announce("a")
        await repository.published()
        store.is_armed = True
        await repository.announce("b")
        await eventually(lambda: asyncio.sleep(0, not store.is_armed))
        reader = Reader(repository.directory, repository.clock)
        async with repository.publisher():
            for number in range(3):
                await repository.announce(f"c{number}")
                await repository.published()
            reader.refresh()
            shown = repository.version
            await store.woke_up.wait()
            assert repository.version == shown
            reader.refresh()
            await repository.announce("d")
            assert "d" in await repository.published()
            reader.refresh()
        old.cancel()
        await asyncio.gather(old, return_exceptions=True)

    in_a_signed_repository(tmp_path, story)


class ClaimedByAnother(LocalStore):
    """A store that another log claims just before its publisher replaces the timestamp."""

    is_armed = False

    async def replace(self, name: str, content: bytes, *, expected: bytes | None, owner: bytes | None = None) -> None:
        if self.is_armed and name == TIMESTAMP:
            self.is_armed = False
            await claim(self, "another", utc_now(), expected=await self.get(OWNER))
        await super().replace(name, content, expected=expected, owner=owner)


def test_origin_that_is_claimed_at_the_last_moment(tmp_path: Path) -> None:
    """A publisher replaces nothing at an origin that another log has claimed since the last check, and health names that log."""

    async def story(repository: SignedRepository) -> None:
        store = ClaimedByAnother(repository.directory)
        async with repository.publisher(store):
            await repository.announce("a")
            await repository.published()
            shown = repository.version
            store.is_armed = True
            await repository.announce("b")
            await eventually(lambda: asyncio.sleep(0, "belongs to the log another" in repository.problem), seconds=120)
            assert repository.version == shown

    in_a_signed_repository(tmp_path, story)


class ClaimedAtFirstSight(LocalStore):
    """A new origin that another log claims while a publisher examines it."""

    async def names(self) -> set[str]:
        if await self.get(OWNER) is None:
            await claim(self, "another", utc_now(), expected=None)
        return await super().names()


def test_origin_that_two_logs_find_unclaimed(tmp_path: Path) -> None:
    """Of two logs that find an origin unclaimed one gets it: the other changes nothing there, and its health names the owner."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher(ClaimedAtFirstSight(repository.directory)):
            await repository.announce("a")
            await eventually(lambda: asyncio.sleep(0, "belongs to the log another" in repository.problem), seconds=120)
            assert set(repository.names()) == set()

    in_a_signed_repository(tmp_path, story)


def test_lock_of_a_stopped_process_is_reported_until_it_is_free(tmp_path: Path) -> None:
    """While another process locks the origin nothing is published, health names it constantly, and publishing resumes afterwards."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            shown = repository.version
            with locked(repository.directory):
                await repository.announce("b")
                await repository.signed()
                await asyncio.sleep(2 * LOCK_PATIENCE_SECONDS)
                for _ in range(600):
                    assert f"by process {os.getpid()} on {socket.gethostname()}" in repository.problem
                    await asyncio.sleep(1)
                assert repository.version == shown
            assert set(await repository.published()) == {"a", "b"}
            assert repository.problem == ""

    in_a_signed_repository(tmp_path, story)


async def test_released_only_when_its_threads_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that is cancelled while a thread replaces the timestamp returns when that has ended: no successor is overwritten."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, bins=4)
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS))
    await announce_bootstrap(bus, bootstrap)
    health, directory = Health(), tmp_path / "origin"
    signer = asyncio.create_task(tufline_signer.service.run(bus, SignerConfig(key_dir=tmp_path / "keys"), health=health))

    def publisher() -> asyncio.Task[None]:
        config = PublisherConfig(directory=directory)
        return asyncio.create_task(tufline_publisher.service.run(bus, config, LocalStore(directory), health=Health()))

    entered, may_go, rename = threading.Event(), threading.Event(), os.rename

    def slow_rename(source: str, target: str | Path) -> None:
        if Path(target).name == TIMESTAMP and not entered.is_set():
            entered.set()
            assert may_go.wait(60)
        rename(source, target)

    first = publisher()
    monkeypatch.setattr(os, "rename", slow_rename)
    await announce(bus, bootstrap.settings, [Add("a", 1, {"sha256": "0" * 64})])
    assert await asyncio.to_thread(entered.wait, 60)
    first.cancel()
    done, _ = await asyncio.wait({first}, timeout=0.1)
    may_go.set()
    assert not done, "the partition was released while a thread still writes"
    await asyncio.wait({first})
    second = publisher()
    await settled(bus)
    reader = Reader(directory, utc_now)

    async def is_shown() -> bool:
        return "a" in reader.refresh()

    await eventually(is_shown)
    for task in (second, signer):
        task.cancel()
    await asyncio.gather(second, signer, return_exceptions=True)
    await bus.close()


def test_own_timestamp_that_the_log_has_forgotten(tmp_path: Path) -> None:
    """A publisher that died between the timestamp and its record continues, even after compaction deleted that timestamp from the log."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        append = repository.bus.append

        async def failing(messages: Any) -> Any:
            if any(message.topic == topics.PUBLISHED for message in messages):
                raise BusError("the process dies here")
            return await append(messages)

        repository.bus.append = failing  # type: ignore[method-assign]
        async with repository.publisher():
            await repository.announce("b")
            signed = await repository.signed()
            await eventually(lambda: asyncio.sleep(0, (repository.directory / TIMESTAMP).read_bytes() == signed.timestamp))
        repository.bus.append = append  # type: ignore[method-assign]
        for number in range(3):
            await repository.announce(f"c{number}")
            await repository.signed()
            await asyncio.sleep(3700)
        await repository.bus.maintain()

    async def later(repository: SignedRepository) -> None:
        shown = (repository.directory / TIMESTAMP).read_bytes()
        assert shown not in {record.value for record in await read_all(repository.bus, topics.METADATA)}
        async with repository.publisher():
            assert set(await repository.published()) == {"a", "b", "c0", "c1", "c2"}
            assert repository.problem == ""

    in_a_signed_repository(tmp_path, story)
    in_a_signed_repository(tmp_path, later, is_new=False)


def test_timestamp_record_without_a_version_is_passed_over(tmp_path: Path) -> None:
    """A record that somebody wrote as a timestamp, without a version, does not keep a publisher from its origin."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        for headers in ({}, {VERSION_HEADER: "nonsense"}):
            await repository.bus.append([Message(topics.METADATA, "timestamp", b"nonsense", headers=headers)])
        assert (await provenance.examine(repository.bus, LocalStore(repository.directory))).version == repository.version

    in_a_signed_repository(tmp_path, story)


def test_origin_of_another_repository_with_a_lower_version(tmp_path: Path) -> None:
    """Another repository's origin is never overwritten, even if its timestamp is older, or no root tells whose it is."""

    async def theirs(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("theirs")
            await repository.published()

    in_a_signed_repository(tmp_path / "their", theirs)

    async def ours(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(5):
                await repository.announce(f"x{number}")
                await repository.published()
        for gone in ((), (OWNER,), (OWNER, "1.root.json")):
            shutil.rmtree(repository.directory)
            shutil.copytree(tmp_path / "their" / "origin", repository.directory)
            for name in gone:
                (repository.directory / name).unlink()
            before = {path.name: path.read_bytes() for path in repository.directory.iterdir()}
            async with repository.publisher():
                await asyncio.sleep(600)
                assert ("not belong to this log" if gone else "belongs to the log") in repository.problem
            assert {path.name: path.read_bytes() for path in repository.directory.iterdir()} == before

    in_a_signed_repository(tmp_path, ours)


def test_origin_of_an_earlier_version_is_claimed(tmp_path: Path) -> None:
    """An origin that names no log, as earlier versions left it, is claimed by the log that it verifies under."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        store = LocalStore(repository.directory)
        owner = await read_owner(store)
        assert owner is not None
        assert owner.log == repository.bus.log_id
        (repository.directory / OWNER).unlink()
        async with repository.publisher():
            await repository.announce("b")
            await repository.published()
        claimed = await read_owner(store)
        assert claimed is not None
        assert claimed.log == repository.bus.log_id

    in_a_signed_repository(tmp_path, story)


def test_origin_that_was_given_to_another_log(tmp_path: Path) -> None:
    """A publisher stops immediately when another log adopts its origin, and names it; when the log gets it again, it continues."""

    async def story(repository: SignedRepository) -> None:
        store = LocalStore(repository.directory)
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            await claim(store, "another", repository.clock(), expected=await store.get(OWNER))
            shown = (repository.directory / TIMESTAMP).read_bytes()
            await repository.announce("b")
            await repository.signed()
            await eventually(lambda: asyncio.sleep(0, "belongs to the log another" in repository.problem))
            assert (repository.directory / TIMESTAMP).read_bytes() == shown
            await claim(store, repository.bus.log_id, repository.clock(), expected=await store.get(OWNER))
            assert "b" in await repository.published()
        (repository.directory / OWNER).write_bytes(b"\xff")
        with pytest.raises(ForeignOriginError, match=r"damaged.*tufline origin adopt"):
            await read_owner(store)

    in_a_signed_repository(tmp_path, story)


def copy_log(tmp_path: Path) -> None:
    """Keep a copy of a log that is not open."""
    for path in tmp_path.glob("log.db*"):
        shutil.copy(path, tmp_path / path.name.replace("log.db", "old.db"))


def test_older_copy_of_the_log_rolls_no_client_back(tmp_path: Path) -> None:
    """A log restored from an older copy does not touch the origin, reports why, and continues only once it has passed what is published."""

    async def before(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()

    async def lost(repository: SignedRepository) -> None:
        async with repository.publisher():
            for number in range(3):
                await repository.announce(f"lost{number}")
                await repository.published()

    async def restored(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)
        reader.refresh()
        before = {name: (repository.directory / name).read_bytes() for name in repository.names()}
        async with repository.publisher():
            await eventually(lambda: asyncio.sleep(0, "the log is an older copy" in repository.problem))
            assert "bring the right log back" not in repository.problem
            assert {name: (repository.directory / name).read_bytes() for name in repository.names()} == before
            for number in range(12):
                await repository.announce(*(f"new{number}/{other}" for other in range(16)))  # in every bin
                await repository.signed()
                await asyncio.sleep(20)
                reader.refresh()
            assert "new11/3" in await repository.published()
            reader.refresh()
            assert repository.problem == ""
        for name, content in before.items():
            assert name == TIMESTAMP or (repository.directory / name).read_bytes() == content, f"{name} has two contents"

    in_a_signed_repository(tmp_path, before)
    copy_log(tmp_path)
    in_a_signed_repository(tmp_path, lost, is_new=False)
    in_a_signed_repository(tmp_path, restored, name="old", is_new=False)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a byte that is not UTF-8": lambda content: content.replace(b'"keyid":"', b'"keyid":"\xff', 1),
    "deep nesting": lambda _: b'{"signatures":' + b"[" * 100_000,
    "nothing": lambda _: b"",
    "a signature of nobody": lambda content: assemble(bytes(disassemble(content).signed), [SignatureEntry("0" * 64, "00" * 64)]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_timestamp_is_put_again(tmp_path: Path, name: str) -> None:
    """Whatever bytes the origin's timestamp.json has: fsck reports it, and a publisher replaces it, at its start and while it runs."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            expected = await repository.published()
        path = repository.directory / TIMESTAMP
        good = path.read_bytes()
        bad = DAMAGES[name](good)
        path.write_bytes(bad)
        report = await fsck.compare(repository.bus, LocalStore(repository.directory), "origin")
        assert any(TIMESTAMP in finding for finding in report.findings)
        for is_claimed in (True, False):
            path.write_bytes(bad)
            if not is_claimed:
                (repository.directory / OWNER).unlink()
            async with repository.publisher():
                await eventually(lambda: asyncio.sleep(0, path.read_bytes() == good), seconds=300)
                assert await repository.published() == expected
                path.write_bytes(bad)
                await eventually(lambda: asyncio.sleep(0, path.read_bytes() == good), seconds=300)
                await eventually(lambda: asyncio.sleep(0, repository.problem == ""), seconds=300)

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("pattern", ["1.root.json", "*.targets.json", "*.bins-*.json", "*.snapshot.json", TIMESTAMP, "*"])
def test_vanished_files_are_noticed(tmp_path: Path, pattern: str) -> None:
    """Files that vanish from the origin while the publisher runs are noticed within minutes and put again, without any new commit."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a", "b", "c")
            expected = await repository.published()
            lost = [path for path in repository.directory.glob(pattern) if path.name in repository.names()]
            before = {path.name: path.read_bytes() for path in lost if is_needed(path.name, repository)}
            for path in lost:
                path.unlink()
            await eventually(lambda: repository.has(set(before)), seconds=600)
            assert {name: (repository.directory / name).read_bytes() for name in before} == before
            await eventually(lambda: asyncio.sleep(0, repository.problem == ""), seconds=300)
            assert Reader(repository.directory, repository.clock).refresh() == expected

    def is_needed(name: str, repository: SignedRepository) -> bool:
        snapshot = max(repository.directory.glob("*.snapshot.json"), key=lambda path: int(path.name.split(".")[0]))
        named = {f"{entry['version']}.{role}" for role, entry in json.loads(snapshot.read_bytes())["signed"]["meta"].items()}
        return name in named | {"1.root.json", TIMESTAMP, snapshot.name}

    in_a_signed_repository(tmp_path, story)


def test_versions_that_no_snapshot_named_are_deleted(tmp_path: Path) -> None:
    """Superseded versions go in time while the publisher runs, also those that were signed and superseded between two snapshots."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, bins=4)

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        config = SignerConfig(key_dir=tmp_path / "keys", commit_interval=10.0)
        signer = asyncio.create_task(tufline_signer.service.run(bus, config, clock=clock, health=Health()))
        repository = SignedRepository(bus, clock, tmp_path, bootstrap)
        async with repository.publisher(superseded_retention=3600.0):
            for number in range(60):
                await repository.announce(f"p{number}")
                await asyncio.sleep(0.5)
            await repository.published()
            assert len(repository.names()) > 40
            await asyncio.sleep(3700)
            expected = {"1.root.json", "1.targets.json", TIMESTAMP}
            assert {name for name in repository.names() if "bins" not in name and "snapshot" not in name} == expected
            assert len(repository.names()) == len(expected) + 4 + 1
            assert len(Reader(repository.directory, repository.clock).refresh()) == 60
        signer.cancel()
        await asyncio.gather(signer, return_exceptions=True)

    on_a_log(tmp_path / "log.db", bootstrap, story)


def test_superseded_files_stay_for_their_time(tmp_path: Path) -> None:
    """Files that a client may be reading stay: after a new commit, every file of the last one stays for the retention time."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher(superseded_retention=1000.0):
            await repository.announce("a")
            await repository.published()
            for number in range(3):
                before = repository.names()
                await repository.announce("a", length=number + 2)
                await repository.published()
                assert repository.names() >= before
                await asyncio.sleep(900)
                assert repository.names() >= before
                await asyncio.sleep(200)
                assert not repository.names() >= before

    in_a_signed_repository(tmp_path, story)


def test_timestamp_of_before_is_not_shown(tmp_path: Path) -> None:
    """A repeated or late timestamp never replaces a newer one, however valid it is, and is not a problem."""

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)

        def look(_: str) -> None:
            reader.refresh()

        async with repository.publisher(WatchedStore(LocalStore(repository.directory), look, look)):
            await repository.announce("a")
            await repository.published()
            (old,) = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1:]
            await repository.announce("b")
            await repository.published()
            shown = repository.version
            await repository.bus.append([Message(topics.METADATA, old.key, old.value, headers=dict(old.headers))])
            await asyncio.sleep(300)
            assert (repository.version, repository.problem) == (shown, "")
        async with repository.publisher(WatchedStore(LocalStore(repository.directory), look, look)):
            await asyncio.sleep(300)
            assert (repository.version, repository.problem) == (shown, "")
            await repository.announce("c")
            assert set(await repository.published()) == {"a", "b", "c"}

    in_a_signed_repository(tmp_path, story)


def test_who_starts_knows_what_was_shown(tmp_path: Path) -> None:
    """A publisher that starts at an origin without the published snapshot uploads everything again, but publishes no older timestamp."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            for path in "ab":
                await repository.announce(path)
                await repository.published()
        last = await repository.last_published()
        assert last is not None
        (repository.directory / f"{last.snapshot.version}.snapshot.json").unlink()
        passed = PassedOver(Health(), "publisher")
        found = await find_origin(repository.bus, LocalStore(repository.directory), "origin", repository.clock(), passed)
        assert (found.offset, found.origin.least) == (0, repository.version)

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("role", ["bins-0", "nobody"])
def test_file_that_no_head_names_holds_up_nothing(tmp_path: Path, role: str) -> None:
    """A file that is not signed, and that no head names, is reported, and a restarted publisher does not read it again."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            (bin_file,) = [one for one in await read_all(repository.bus, topics.METADATA) if one.key == "bins-0"][-1:]
            content = json.loads(bin_file.value)
            content["signed"]["version"] = 900
            forged = Message(topics.METADATA, role, json.dumps(content).encode(), headers={VERSION_HEADER: "900"})
            (position,) = await repository.bus.append([forged])
            place = f"offset {position.offset} of metadata/0"
            await eventually(lambda: asyncio.sleep(0, place in repository.health.warnings.get("publisher.origin.records", "")), seconds=120)
            await repository.announce("b")
            await repository.published()
            newest = records.decode(records.published_decoder, (await read_all(repository.bus, topics.PUBLISHED))[-1].value)
            assert newest.next_offset > position.offset
            assert "publisher.origin.refused" not in repository.health.warnings
            assert repository.health.ready

    in_a_signed_repository(tmp_path, story)


@pytest.mark.parametrize("heads", ["late", "junk"])
def test_file_that_a_head_may_name_is_kept(tmp_path: Path, heads: str) -> None:
    """A refused file whose head appears a moment later, or is unreadable, may be named by a commit: a restarted publisher reads it."""

    async def story(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
            (newest,) = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1:]
            waiting = json.loads(newest.value)
            waiting["signed"]["version"] = 900
            (bin_file,) = [one for one in await read_all(repository.bus, topics.METADATA) if one.key == "bins-0"][-1:]
            content = json.loads(bin_file.value)
            version = content["signed"]["version"] = content["signed"]["version"] + 1
            refused = json.dumps(content).encode()
            if heads != "late":
                await repository.bus.append([Message(topics.HEADS, "bins-0", b"{")])
            # While a commit waits, the publisher looks at the heads as soon as it has read everything.
            _, position = await repository.bus.append(
                [
                    Message(topics.METADATA, "timestamp", json.dumps(waiting).encode(), headers={**newest.headers, VERSION_HEADER: "900"}),
                    Message(topics.METADATA, "bins-0", refused, headers={VERSION_HEADER: str(version)}),
                ]
            )
            await eventually(lambda: asyncio.sleep(0, "publisher.origin.refused" in repository.health.warnings))
            await asyncio.sleep(2)
            if heads == "late":
                await repository.bus.append([Message(topics.HEADS, "bins-0", records.encode(head_of(refused, version, position.offset)))])
            await asyncio.sleep(120)
            assert f"offset {position.offset} " in repository.health.warnings["publisher.origin.refused"]
            layout = repository.bootstrap.settings.layout
            path = next(path for path in map(str, itertools.count()) if layout.index_of(path) != 0)
            await repository.announce(path)
            await eventually(lambda: is_shown(repository, path), seconds=120)
            last = await repository.last_published()
            assert last is not None
            assert last.next_offset <= position.offset

    async def is_shown(repository: SignedRepository, path: str) -> bool:
        return path in Reader(repository.directory, repository.clock).refresh()

    def head_of(content: bytes, version: int, offset: int) -> Head:
        sha256 = hashlib.sha256(content).hexdigest()
        return Head(version=version, sha256=sha256, length=len(content), expires="2040-01-01T00:00:00Z", offset=offset, keyids=["later"])

    in_a_signed_repository(tmp_path, story)


BACKWARDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a bin goes back": (lambda meta: meta["bins-0.json"].update(version=meta["bins-0.json"]["version"] - 1), "names bins-0 version"),
    "targets goes back": (
        lambda meta: meta["targets.json"].update(version=0),
        "names targets version 0, lower than the published version 1",
    ),
    "a bin is lost": (lambda meta: meta.pop("bins-0.json"), "names bins-0 version none, lower than"),
}


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("name", BACKWARDS)
def test_snapshot_that_goes_back_is_not_shown(tmp_path: Path, name: str, is_restarted: bool) -> None:
    """A commit whose snapshot goes back, or lost a role, is not published, although all its signatures are right."""
    spoil, said = BACKWARDS[name]

    async def story(repository: SignedRepository) -> None:
        reader = Reader(repository.directory, repository.clock)
        async with repository.publisher():
            for number in range(2):
                await repository.announce(*(f"{number}/{other}" for other in range(16)))  # in every bin
                await repository.published()
            shown = repository.version
            if not is_restarted:
                await append_commit(repository, spoil)
                await eventually(lambda: asyncio.sleep(0, said in repository.problem), seconds=300)
        if is_restarted:
            await append_commit(repository, spoil)
        async with repository.publisher():
            await eventually(lambda: asyncio.sleep(0, said in repository.problem), seconds=300)
            assert repository.version == shown
            reader.refresh()

    in_a_signed_repository(tmp_path, story)


async def append_commit(repository: SignedRepository, change: Callable[[dict[str, Any]], object]) -> None:
    """Append the commit after the published one to the log, signed as the signer does, with a modified snapshot."""
    root = roles.parse(Root, repository.bootstrap.root).signed

    def signed(role: str, content: dict[str, Any]) -> bytes:
        ((keyid, uri),) = roles.root_keys(root, role).online.items()
        key = open_file_key(uri, root.keys[keyid], repository.path / "keys")
        body = canonical.encode(content)
        return assemble(body, [key.sign(body)])

    timestamp = json.loads((repository.directory / TIMESTAMP).read_bytes())["signed"]
    version = timestamp["meta"]["snapshot.json"]["version"]
    snapshot = json.loads((repository.directory / f"{version}.snapshot.json").read_bytes())["signed"]
    change(snapshot["meta"])
    snapshot["version"] += 1
    timestamp["version"] += 1
    of_snapshot = signed("snapshot", snapshot)
    timestamp["meta"]["snapshot.json"] = {
        "version": version + 1,
        "length": len(of_snapshot),
        "hashes": {"sha256": hashlib.sha256(of_snapshot).hexdigest()},
    }
    (newest,) = [record for record in await read_all(repository.bus, topics.METADATA) if record.key == "timestamp"][-1:]
    files = {"snapshot": (version + 1, of_snapshot), "timestamp": (timestamp["version"], signed("timestamp", timestamp))}
    await repository.bus.append(
        [
            Message(topics.METADATA, role, content, headers={**newest.headers, VERSION_HEADER: str(number)})
            for role, (number, content) in files.items()
        ]
    )


@pytest.mark.parametrize("name", ["old.root.json", "\u0661.root.json", "0.root.json", "01.root.json", "x.y.json", "1.json"])
def test_stray_files_do_not_stop_a_rotation(tmp_path: Path, name: str) -> None:
    """A stray file at the origin, such as one ending in .root.json without a number at the start, stops nothing."""
    offline = Offline(tmp_path / "keys", bins=4, mode="pep458", days=DEFAULT_DAYS)
    bootstrap = offline.bootstrap(PARTITIONS)

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        config = SignerConfig(key_dir=tmp_path / "keys", release_delay=5.0, release_grace=600.0)
        signer = asyncio.create_task(tufline_signer.service.run(bus, config, clock=clock, health=Health()))
        repository = SignedRepository(bus, clock, tmp_path, bootstrap)
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()
        (repository.directory / name).write_text("{}")
        await announce_updates(bus, offline.rotate(now=clock()))
        await asyncio.sleep(2000)  # the grace time is over: a root is held until the commit that needs it
        await repository.announce("b")
        await settled(bus)
        async with repository.publisher():
            assert set(await repository.published()) == {"a", "b"}
            assert repository.problem == ""
        assert (repository.directory / name).read_text() == "{}"
        signer.cancel()
        await asyncio.gather(signer, return_exceptions=True)

    on_a_log(tmp_path / "log.db", bootstrap, story)


def test_fork_of_the_log_is_not_published(tmp_path: Path) -> None:
    """If the origin's timestamp differs from the log's timestamp of the same version, nothing is changed, and health reports it."""

    async def before(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()

    async def forked(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("theirs")
            await repository.published()

    async def ours(repository: SignedRepository) -> None:
        await repository.announce("ours")
        await repository.signed()
        shown = contents(repository)
        assert version_on_log(await read_all(repository.bus, topics.METADATA)) == repository.version
        async with repository.publisher():
            await eventually(lambda: asyncio.sleep(0, "differs from this log's" in repository.problem), seconds=300)
            await asyncio.sleep(600)
            assert {name: contents(repository).get(name) for name in shown} == shown
            assert "differs from this log's" in repository.problem

    def contents(repository: SignedRepository) -> dict[str, bytes]:
        return {name: (repository.directory / name).read_bytes() for name in repository.names()}

    def version_on_log(found: Any) -> int:
        return max(int(record.headers[VERSION_HEADER]) for record in found if record.key == "timestamp")

    in_a_signed_repository(tmp_path, before)
    copy_log(tmp_path)
    in_a_signed_repository(tmp_path, forked, is_new=False)
    in_a_signed_repository(tmp_path, ours, name="old", is_new=False)


async def test_late_record_of_a_publication(tmp_path: Path) -> None:
    """What is live stays live: a record that an older publisher appends late to published does not affect its followers."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(PARTITIONS), threads=False)
    live = Live(bus, "origin")

    def published(version: int, *artifacts: int) -> Message:
        shown = FileRef(version, version, "0" * 64)
        content = Published(origin="origin", timestamp=shown, snapshot=shown, vector=Vector([*artifacts], 1), next_offset=version)
        return Message(topics.PUBLISHED, "origin", records.encode(content))

    following = asyncio.create_task(live.run())
    await live.published_known.wait()
    late = ((2, 4, 5), (3, 5, 4), (2, 9, 9))
    for version, *artifacts in ((3, 5, 5), *late, (3, 6, 5), *late, (4, 6, 6)):
        await bus.append([published(version, *artifacts)])
        # Each is followed on its own: a batch counts by its newest record.
        reached = (version, *artifacts)
        if reached not in late:
            await eventually(partial(is_shown, live, reached))
        else:
            before = shows(live)
            for _ in range(20):
                await asyncio.sleep(0)
                assert shows(live) == before
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()


async def is_shown(live: Live, expected: tuple[int, ...]) -> bool:
    """Return whether something is live."""
    await asyncio.sleep(0)
    return shows(live) == expected


def shows(live: Live) -> tuple[int, ...]:
    """Return what is live: version of the timestamp, then the vector."""
    return (0,) if live.published is None else (live.published.timestamp.version, *live.published.vector.artifacts)


def test_adopting_an_origin(tmp_path: Path) -> None:
    """An origin changes its log by a command only, and to no log that would roll its clients back or is another repository's."""

    async def before(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("a")
            await repository.published()

    async def more(repository: SignedRepository) -> None:
        async with repository.publisher():
            await repository.announce("b")
            await repository.published()

    def run(*arguments: str, log: str) -> Result:
        env = {
            "TUFLINE_BUS__URL": f"embedded:{log}",
            "TUFLINE_PUBLISHER__DIRECTORY": str(tmp_path / "origin"),
            "TUFLINE_BUS__PARTITIONS": "2",
        }
        return CliRunner().invoke(main, ["origin", *arguments], env=env)

    in_a_signed_repository(tmp_path, before)
    copy_log(tmp_path)
    in_a_signed_repository(tmp_path, more, is_new=False)
    (tmp_path / "other").mkdir()
    in_a_signed_repository(tmp_path / "other", before)
    owner = (tmp_path / "origin" / OWNER).read_bytes()

    shown = run("show", log="none.db")
    assert shown.exit_code == 0
    assert f"log {json.loads(owner)['log']} since" in shown.output
    for log, said in ((tmp_path / "old.db", "the log is an older copy"), (tmp_path / "other" / "log.db", "not belong to this log")):
        refused = run("adopt", log=str(log))
        assert refused.exit_code == 1
        assert said in refused.output
        assert "nothing was changed" in refused.output
        assert (tmp_path / "origin" / OWNER).read_bytes() == owner
    (tmp_path / "origin" / OWNER).write_text('{"log":"another","claimed":"2030-01-01T00:00:00Z"}')
    adopted = run("adopt", log=str(tmp_path / "log.db"))
    assert adopted.exit_code == 0, adopted.output
    assert "instead of the log another" in adopted.output
    assert json.loads((tmp_path / "origin" / OWNER).read_bytes())["log"] == json.loads(owner)["log"]
    (tmp_path / "origin" / OWNER).unlink()
    assert "no log has claimed this origin" in run("show", log="none.db").output
    assert json.loads(run("show", "--json", log="none.db").output) is None
