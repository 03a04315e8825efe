"""The signer on a real log: clients accept what it makes, whatever happens to it."""

import asyncio
import itertools
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tufline import records
from tufline.bus import MAX_TRANSACTION_BYTES, Bus, Message, Position, Then, Writer
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.metadata import key_uris
from tufline.metadata.bins import Bin
from tufline.metadata.target import Entry
from tufline.records import Add, Bootstrap, Changes, Head, Remove, topics
from tufline.records.metadata import VERSION_HEADER
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline.runtime.health import Health
from tufline.trust import ceremony
from tufline.trust.ceremony import NewKey
from tufline_signer import service
from tufline_signer.bins import bins_worker, bins_writer
from tufline_signer.bins.batch import BinCache
from tufline_signer.bins.pacing import Pace
from tufline_testing.log import Published, announce, bootstrap_record, eventually, on_a_log, read_all, settled
from tufline_testing.simulation.virtual_time import run_virtual

PARTITIONS = 4

CHECK_SECONDS = 4 * 3600.0


@dataclass
class World:
    """A log, a clock and a directory of keys."""

    bus: EmbeddedBus
    clock: Clock
    path: Path

    @property
    def config(self) -> SignerConfig:
        return SignerConfig(key_dir=self.path / "keys", renewal_check=60.0)

    @asynccontextmanager
    async def signer(self, health: Health | None = None, **settings: Any) -> AsyncIterator[Health]:
        """Run a signer; leaving the block stops it at any point of its work."""
        health = health or Health()
        config = self.config.model_copy(update=settings)
        task = asyncio.create_task(service.run(self.bus, config, clock=self.clock, health=health))
        try:
            yield health
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settled(self) -> Published:
        """Wait until a commit covers everything announced."""
        return await settled(self.bus)


def in_world(tmp_path: Path, story: Callable[[World, Bootstrap], Awaitable[None]], **of_bootstrap: Any) -> None:
    """Tell a story in virtual time, on a log with a bootstrap."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, **of_bootstrap)
    on_a_log(tmp_path / "log.db", bootstrap, lambda bus, clock: story(World(bus, clock, tmp_path), bootstrap))


def test_a_signer_that_cannot_sign_holds_up_nobody(tmp_path: Path) -> None:
    """A misconfigured signer next to a good one takes no partition, reports why, and joins without intervention once it is fixed."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        moved = tmp_path / "moved"
        async with world.signer() as good:
            await announce(world.bus, bootstrap.settings, [add(f"first/{number}") for number in range(20)])
            await world.settled()
            bad = [("key_dir", moved, "online.pem"), ("audit_file", tmp_path / "none" / "audit.log", "signer.audit_file")]
            for name, value, reason in bad:
                setting: dict[str, Any] = {name: value}
                async with world.signer(Health(), **setting) as health:
                    await announce(world.bus, bootstrap.settings, [add(f"{name}/{number}") for number in range(20)])
                    await world.settled()
                    assert reason in health.problems["signer"]
                    assert not health.ready
                    assert not [part for part in health.problems if part.startswith("signer.bins")]
                    value.parent.mkdir(exist_ok=True)
                    if name == "key_dir":
                        shutil.copytree(tmp_path / "keys", moved)
                    await eventually(partial(has_joined, health))
            assert good.ready

    async def has_joined(health: Health) -> bool:
        return health.ready and "signer.bins.group" in health.problems

    in_world(tmp_path, story)


def add(path: str, length: int = 1, custom: dict[str, Any] | None = None) -> Add:
    return Add(path, length, {"sha256": f"{length:064x}"}, custom)


async def versions_are_consecutive(bus: Bus) -> None:
    """Check that over the whole log each role's versions are 1, 2, 3 and so on."""
    newest: Counter[str] = Counter()
    for record in await read_all(bus, topics.METADATA):
        version = int(record.headers[VERSION_HEADER])
        if record.key.endswith(".root"):
            continue
        again = record.key == "timestamp" and version == newest[record.key]
        assert again or version == newest[record.key] + 1, f"{record.key} goes from {newest[record.key]} to {version}"
        newest[record.key] = version


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_bootstrap_gives_an_empty_repository(tmp_path: Path, mode: str) -> None:
    """After the bootstrap a client accepts the repository even without any change, in both modes of trust."""

    async def story(world: World, _: Bootstrap) -> None:
        async with world.signer() as health:
            published = await world.settled()
            assert published.verify(world.clock()) == {}
            await eventually(lambda: asyncio.sleep(0, health.ready))

    in_world(tmp_path, story, mode=mode)


@pytest.mark.parametrize("seed", range(6))
def test_any_history_gives_its_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whatever is added, replaced and removed, in batches of any size, with any memory for bins, clients see the last state."""
    chance = random.Random(seed)
    monkeypatch.setattr(bins_worker, "BACKLOG_BYTES", chance.choice([1, 2_000_000]))
    monkeypatch.setattr(bins_writer, "PIECE_BINS", chance.choice([2, 400]))

    async def story(world: World, bootstrap: Bootstrap) -> None:
        expected: dict[str, Add] = {}
        settings: dict[str, Any] = {"bin_memory_bytes": chance.choice([1, 3000, 10**9]), "batch_max_bytes": chance.choice([1, 500, 10**7])}
        async with world.signer(**settings):
            for number in range(30):
                changes: list[Add | Remove] = []
                for _ in range(chance.choice([1, 1, 5, 40])):
                    path = f"p/{chance.randrange(60)}"
                    if chance.random() < 0.3:
                        changes.append(Remove(path))
                        expected.pop(path, None)
                    else:
                        changes.append(expected.setdefault(path, add(path, number)) if chance.random() < 0.2 else add(path, number))
                        expected[path] = changes[-1]  # type: ignore[assignment]
                await announce(world.bus, bootstrap.settings, changes)
                await asyncio.sleep(chance.choice([0, 0, 0.01, 1]))
            published = await world.settled()
        seen = published.verify(world.clock())
        assert {path: entry["length"] for path, entry in seen.items()} == {path: change.length for path, change in expected.items()}
        await versions_are_consecutive(world.bus)

    in_world(tmp_path, story)


@pytest.mark.parametrize("seed", range(12))
def test_restarts_lose_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    """A signer that is stopped at any moment, again and again, and that at times runs twice, leaves the state that was announced last."""
    chance = random.Random(seed)

    async def story(world: World, bootstrap: Bootstrap) -> None:
        expected: dict[str, int] = {}
        numbers = itertools.count(1)

        async def announce_some() -> None:
            for _ in range(chance.randrange(4)):
                changes: list[Add | Remove] = []
                for path in (f"p/{chance.randrange(40)}" for _ in range(chance.randrange(1, 30))):
                    if chance.random() < 0.3:
                        changes.append(Remove(path))
                        expected.pop(path, None)
                    else:
                        expected[path] = next(numbers)
                        changes.append(add(path, expected[path]))
                await announce(world.bus, bootstrap.settings, changes)

        for _ in range(25):
            await announce_some()
            async with world.signer():
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    async with world.signer():
                        await announce_some()
                        await asyncio.sleep(chance.choice([0, 0.001, 1]))
        async with world.signer():
            published = await world.settled()
        assert {path: entry["length"] for path, entry in published.verify(world.clock()).items()} == expected
        await versions_are_consecutive(world.bus)

    in_world(tmp_path, story, bins=8)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_nothing_expires_in_quiet_weeks(tmp_path: Path, mode: str) -> None:
    """Without traffic for three weeks a client always accepts everything published, and bins are not renewed all at once."""
    renewals: Counter[int] = Counter()

    async def story(world: World, _: Bootstrap) -> None:
        async with world.signer(renewal_check=1800.0):
            await world.settled()
            began, signed = world.clock(), 0
            while world.clock() < began + timedelta(days=21):
                await asyncio.sleep(CHECK_SECONDS)
                published = await Published.read(world.bus)
                published.verify(world.clock())
                newest = Counter[str]()
                for version, role, _suffix in (name.split(".") for name in published.files):
                    newest[role] = max(newest[role], int(version) if role.startswith("bins") else 0)
                renewals[newest.total() - signed] += 1
                signed = newest.total()
        await versions_are_consecutive(world.bus)

    in_world(tmp_path, story, mode=mode, bins=32, days={"targets": 14} if mode == "rstuf" else None)
    assert sum(count * times for count, times in renewals.items()) > 32 * 4
    assert max(renewals) <= 32, renewals
    assert sum(times for count, times in renewals.items() if count > 16) <= 1, f"bins are renewed all at once: {renewals}"


def test_receipts_say_what_did_not_happen(tmp_path: Path) -> None:
    """Removing a missing path and adding an unchanged one have a receipt each; changes that took effect have none."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            await announce(world.bus, bootstrap.settings, [add("a"), Remove("missing"), add("b")], request="first")
            await world.settled()
            await announce(world.bus, bootstrap.settings, [add("a"), add("b", 2)], request="second")
            await world.settled()
        receipts = [
            (record.key, records.decode(receipt_decoder, record.value))
            for partition in range(PARTITIONS)
            for record in await read_all(world.bus, topics.RECEIPTS, partition)
        ]
        said = {(request, receipt.path, receipt.outcome) for request, receipt in receipts if isinstance(receipt, ChangeReceipt)}
        assert said == {("first", "missing", "not_found"), ("second", "a", "unchanged")}

    in_world(tmp_path, story)


def test_unchanged_makes_no_version_but_is_covered(tmp_path: Path) -> None:
    """A change that changes nothing costs clients no snapshot, and is covered all the same."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            await announce(world.bus, bootstrap.settings, [add("a")])
            before = await world.settled()
            await announce(world.bus, bootstrap.settings, [add("a"), Remove("b")])
            after = await world.settled()
        assert after.timestamp == before.timestamp
        assert set(after.files) == set(before.files)
        assert after.vector != before.vector

    in_world(tmp_path, story)


UNREADABLE = {
    "another form": b'{"v":1,"changes":7}',
    "no JSON": b"\xff\x00",
    "a text that is not UTF-8": b'{"v":1,"request":"\xff","admin":1,"changes":[]}',
    "nested too deep": b'{"v":1,"request":"r","admin":1,"changes":[],"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_garbage_on_the_log_stops_nothing(tmp_path: Path, value: bytes) -> None:
    """An unreadable record gets a receipt, and the records after it become live."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            await world.settled()
            for partition in range(PARTITIONS):
                await world.bus.append([Message(topics.ARTIFACTS, "bad", value, partition)])
            await announce(world.bus, bootstrap.settings, [add(f"p/{number}") for number in range(20)])
            published = await world.settled()
        assert len(published.verify(world.clock())) == 20
        for partition in range(PARTITIONS):
            (record,) = await read_all(world.bus, topics.RECEIPTS, partition)
            receipt = records.decode(receipt_decoder, record.value)
            assert isinstance(receipt, ChangeReceipt)
            assert (record.key, receipt.outcome) == ("bad", "refused")

    in_world(tmp_path, story)


def test_a_record_that_names_what_is_not_on_admin_is_not_waited_for(tmp_path: Path) -> None:
    """A record that asks for records of admin that do not exist is applied like any other."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            strange = Changes(request="r", admin=2**62, changes=[add("a")])
            partition = bootstrap.settings.partitioning.partition_of_path("a")
            await world.bus.append([Message(topics.ARTIFACTS, "r", records.encode(strange), partition)])
            published = await world.settled()
        assert set(published.verify(world.clock())) == {"a"}

    in_world(tmp_path, story)


@dataclass
class MeasuringBus:
    """A bus that records the size of each transaction, in bytes of values."""

    bus: EmbeddedBus
    sizes: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def writer(self, writer_id: str) -> "MeasuringWriter":
        return MeasuringWriter(await self.bus.writer(writer_id), self.sizes)


@dataclass
class MeasuringWriter:
    """A writer of a ``MeasuringBus``."""

    writer: Writer
    sizes: list[int]

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        size = sum(len(message.value) for message in messages)

        def measured(positions: Sequence[Position]) -> Sequence[Message]:
            nonlocal size
            more = [] if then is None else then(positions)
            size += sum(len(message.value) for message in more)
            return more

        positions = await self.writer.commit(messages, measured)
        self.sizes.append(size)
        return positions

    async def close(self) -> None:
        await self.writer.close()


LARGE = "p" * 1000
OVERSIZED: dict[str, tuple[int, Callable[[int], list[Add | Remove]]]] = {
    "changes as large as may be": (64, lambda nth: [add(f"{nth:06d}/{one}/{LARGE}", custom={"k": "x" * 4080}) for one in range(85)]),
    "removals of what is not there": (2, lambda nth: [Remove(f"{nth}/{one}/{LARGE}") for one in range(450)]),
    "a full bin": (2, lambda nth: [add(f"{nth}/{one}/{LARGE}", custom={"k": "x" * 4080}) for one in range(85)]),
}


@pytest.mark.parametrize(("bins", "changes"), OVERSIZED.values(), ids=OVERSIZED)
def test_no_transaction_is_larger_than_may_be(tmp_path: Path, bins: int, changes: Callable[[int], list[Add | Remove]]) -> None:
    """Whatever changes arrive, in any number, no transaction of the signer has more than MAX_TRANSACTION_BYTES."""
    sizes: list[int] = []

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        for nth in range(60):
            await announce(bus, bootstrap.settings, changes(nth))
        async with World(MeasuringBus(bus, sizes), clock, tmp_path).signer():  # type: ignore[arg-type]
            await settled(bus)

    bootstrap = bootstrap_record(tmp_path / "keys", 1, bins=bins)
    on_a_log(tmp_path / "log.db", bootstrap, story)
    assert sum(sizes) > MAX_TRANSACTION_BYTES
    assert max(sizes) <= MAX_TRANSACTION_BYTES, f"{max(sizes)} bytes"


def test_receipts_of_strayed_changes_are_not_too_many_for_a_transaction(tmp_path: Path) -> None:
    """A backlog of changes that are in a wrong partition is refused in transactions of the allowed size, each change with one receipt."""
    sizes: list[int] = []
    each, times = 450, 60

    async def story(bus: EmbeddedBus, clock: Clock) -> None:
        partitioning = bootstrap.settings.partitioning
        paths = (f"{number}/{LARGE}" for number in itertools.count())
        strayed = itertools.islice((path for path in paths if partitioning.partition_of_path(path) == 0), each)
        value = records.encode(Changes(request="r", admin=1, changes=[Remove(path) for path in strayed]))
        for _ in range(times):
            await bus.append([Message(topics.ARTIFACTS, "r", value, 1)])
        async with World(MeasuringBus(bus, sizes), clock, tmp_path).signer():  # type: ignore[arg-type]
            await settled(bus)
        assert len(await read_all(bus, topics.RECEIPTS, 1)) == each * times

    bootstrap = bootstrap_record(tmp_path / "keys", 2, bins=2)
    on_a_log(tmp_path / "log.db", bootstrap, story)
    assert max(sizes) <= MAX_TRANSACTION_BYTES, f"{max(sizes)} bytes"


def test_newer_schema_waits_for_an_upgrade(tmp_path: Path) -> None:
    """A record of a newer schema is not skipped: the partition waits and reports why, and the others continue."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer() as health:
            await world.settled()
            await world.bus.append([Message(topics.ARTIFACTS, "new", b'{"v":99,"other":true}', 1)])
            await eventually(lambda: asyncio.sleep(0, "upgrade" in health.problems["signer.bins.1"]))
            paths = (f"p/{number}" for number in itertools.count())
            path = next(path for path in paths if bootstrap.settings.partitioning.partition_of_path(path) == 0)
            await announce(world.bus, bootstrap.settings, [add(path)])
            await eventually(lambda: is_live(world, path))
        head = (await Published.read(world.bus)).vector
        assert head is not None
        assert head.artifacts[1] <= (await world.bus.end(topics.ARTIFACTS, 1)) - 1

    async def is_live(world: World, path: str) -> bool:
        return path in (await Published.read(world.bus)).verify(world.clock())

    in_world(tmp_path, story)


def test_missing_key_is_said_and_waited_for(tmp_path: Path) -> None:
    """Without its online key the signer names the missing file, and continues once the file is there."""
    hidden = tmp_path / "hidden"

    async def story(world: World, bootstrap: Bootstrap) -> None:
        (world.path / "keys").rename(hidden)
        async with world.signer() as health:
            await eventually(lambda: asyncio.sleep(0, "can't be read" in health.problems.get("signer", "")))
            await announce(world.bus, bootstrap.settings, [add("a")])
            assert not health.ready
            hidden.rename(world.path / "keys")
            published = await world.settled()
            assert list(published.verify(world.clock())) == ["a"]
            await eventually(lambda: asyncio.sleep(0, health.ready))

    in_world(tmp_path, story)


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
@pytest.mark.parametrize("shared", [(), ("snapshot", "bins"), ("timestamp", "snapshot")])
def test_each_role_may_have_a_key_of_its_own(tmp_path: Path, mode: str, shared: tuple[str, ...]) -> None:
    """Online roles with separate keys are signed only by their own, in both modes; some roles may share a key."""
    made: dict[str, NewKey] = {}
    for role in ceremony.ONLINE_ROLES[mode]:
        made[role] = made[shared[0]] if role in shared[1:] else ceremony.make_key("ed25519" if role == "bins" else "ecdsa")
        made[role].signer.public_key.unrecognized_fields.setdefault(key_uris.ONLINE_KEY_URI, f"fn:{role}.pem")
        ceremony.write_private(tmp_path / "keys" / f"{role}.pem", made[role].pem)
    publics = {role: key.signer.public_key for role, key in made.items()}

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            await announce(world.bus, bootstrap.settings, [add("a")])
            published = await world.settled()
        assert list(published.verify(world.clock())) == ["a"]
        for name, content in [*published.files.items(), ("1.timestamp.json", published.timestamp)]:
            role = name.split(".")[1].partition("-")[0]
            if role in publics:
                assert list(Metadata.from_bytes(content).signatures) == [publics[role].keyid], name
        assert not (world.path / "keys" / ceremony.ONLINE_KEY_FILE).exists()

    in_world(tmp_path, story, mode=mode, online=publics)


def test_expired_offline_role_is_said(tmp_path: Path) -> None:
    """When an offline role, which only its key holders can renew, has expired, the signer reports it."""

    async def story(world: World, _: Bootstrap) -> None:
        async with world.signer(renewal_check=3600.0) as health:
            await world.settled()
            await asyncio.sleep(timedelta(days=11).total_seconds())
            assert "targets has expired" in health.problems["signer.commits"]

    in_world(tmp_path, story, days={"targets": 10})


def test_head_names_what_is_on_the_log(tmp_path: Path) -> None:
    """Every head's offset, hash, length, expiry and version are those of the file it names."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            await announce(world.bus, bootstrap.settings, [add(f"p/{number}") for number in range(50)])
            await world.settled()
        seen = set()
        for partition in range(PARTITIONS + 1):
            for record in await read_all(world.bus, topics.HEADS, partition):
                content = records.decode(records.heads_decoder, record.value)
                if isinstance(content, Head) and record.key != "root":
                    file = await world.bus.read(topics.METADATA, 0, content.offset, key=record.key, sha256=content.sha256)
                    assert len(file) == content.length
                    assert f'"version":{content.version}'.encode() in file
                    assert content.expires.encode() in file
                    seen.add(record.key)
        assert seen >= {"targets", "snapshot", "timestamp", "bins-0", "bins-f"}

    in_world(tmp_path, story)


def test_a_renewed_bin_keeps_what_it_has_applied(tmp_path: Path) -> None:
    """A renewed bin's head still records which changes are applied: after a crash none of them is applied again."""

    async def heads(world: World) -> dict[str, Head]:
        found = [record for partition in range(PARTITIONS) for record in await read_all(world.bus, topics.HEADS, partition)]
        contents = {record.key: records.decode(records.heads_decoder, record.value) for record in found}
        return {role: content for role, content in contents.items() if isinstance(content, Head)}

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer(renewal_check=3600.0):
            await announce(world.bus, bootstrap.settings, [add(f"p/{number}") for number in range(20)])
            await world.settled()
            before = await heads(world)
            await asyncio.sleep(86_400 * 4)
            after = await heads(world)
        touched = {role: head for role, head in before.items() if head.applied}
        assert len(touched) > 2
        for role, head in touched.items():
            assert (after[role].version > head.version, after[role].applied) == (True, head.applied)

    in_world(tmp_path, story, bins=4)


def test_no_commit_before_all_bins_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While bins of a partition are missing nothing is committed, and health reports it: a client would look for a bin in vain."""
    create_bins = bins_writer.BinsWriter.create_bins

    async def late(writer: bins_writer.BinsWriter) -> None:
        if writer.partition == 1:
            await asyncio.sleep(600)
        await create_bins(writer)

    monkeypatch.setattr(bins_writer.BinsWriter, "create_bins", late)

    async def story(world: World, _: Bootstrap) -> None:
        async with world.signer() as health:
            await asyncio.sleep(300)
            assert {record.key for record in await read_all(world.bus, topics.METADATA)}.isdisjoint({"snapshot", "timestamp"})
            assert "bins do not exist yet" in health.problems["signer.commits"]
            await asyncio.sleep(600)
            (await world.settled()).verify(world.clock())
            assert health.ready

    in_world(tmp_path, story)


def test_a_restart_alone_makes_no_snapshot(tmp_path: Path) -> None:
    """A signer that starts knows the last snapshot: it makes no other one until something changes, and then one that goes forward."""

    async def snapshots(world: World) -> list[str]:
        return [record.headers[VERSION_HEADER] for record in await read_all(world.bus, topics.METADATA) if record.key == "snapshot"]

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer():
            await announce(world.bus, bootstrap.settings, [add("a"), add("b")])
            await world.settled()
        before = await snapshots(world)
        async with world.signer():
            await asyncio.sleep(300)
            assert await snapshots(world) == before
            await announce(world.bus, bootstrap.settings, [add("c")])
            await world.settled()
            assert len(await snapshots(world)) == len(before) + 1
        await versions_are_consecutive(world.bus)

    in_world(tmp_path, story)


def test_commits_keep_their_interval(tmp_path: Path) -> None:
    """Under steady traffic there is at most one snapshot per commit interval; after a quiet time one is made immediately."""

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer(commit_interval=5.0):
            await world.settled()
            await asyncio.sleep(10)
            before = len([name for name in (await Published.read(world.bus)).files if "snapshot" in name])
            for number in range(100):
                await announce(world.bus, bootstrap.settings, [add(f"p/{number}")])
                await asyncio.sleep(0.5)
            await world.settled()
            after = len([name for name in (await Published.read(world.bus)).files if "snapshot" in name])
            assert 8 <= after - before <= 13
            await asyncio.sleep(10)
            began = world.clock()
            await announce(world.bus, bootstrap.settings, [add("q")])
            await world.settled()
            assert world.clock() - began < timedelta(seconds=1)

    in_world(tmp_path, story)


@pytest.mark.parametrize("pause", [0.05, 0.1, 1.0])
def test_batches_grow_with_the_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    """With a backlog a batch waits while much more arrives, but not indefinitely, so bins are written rarely for many records."""
    monkeypatch.setattr(bins_worker, "BACKLOG_BYTES", 2000)

    async def story(world: World, bootstrap: Bootstrap) -> None:
        async with world.signer(batch_max_bytes=1_000_000):
            await world.settled()
            before = await world.bus.end(topics.METADATA, 0)
            for number in range(100):
                await announce(world.bus, bootstrap.settings, [add(f"p/{number}/{one}") for one in range(60)])
                await asyncio.sleep(pause)
            published = await world.settled()
        assert len(published.verify(world.clock())) == 6000
        written = sum(record.offset >= before and record.key.startswith("bins") for record in await read_all(world.bus, topics.METADATA))
        rounds = written / bootstrap.settings.number_of_bins
        if pause < bins_worker.TICK_SECONDS:
            assert rounds <= 4, f"{rounds} rounds"
        else:
            assert rounds > 25, f"{rounds} rounds"

    in_world(tmp_path, story)


def test_renewal_leaves_half_of_the_time() -> None:
    """Renewal gets no further turn while one is in progress, nor for as long as that one took."""

    async def story(_: Clock) -> None:
        pace = Pace()
        assert pace.wait == 0
        with pace.working():
            await asyncio.sleep(3)
            assert pace.wait > 0
        assert pace.wait == pytest.approx(3)
        await asyncio.sleep(3)
        assert pace.wait == 0

    run_virtual(story)


def test_a_large_batch_takes_its_memory_from_the_bins() -> None:
    """A lent part of the budget is not available for bins until it is returned."""
    cache = BinCache(10_000)
    for number in range(20):
        full = Bin()
        full.add(Entry("p", b"x" * 420))
        cache.put(f"bins-{number}", 1, full)
    assert cache.memory == 10_000
    cache.lend(5000)
    assert cache.memory <= 5000
    cache.lend(20_000)
    assert cache.memory == 0
    cache.lend(0)
    cache.put("bins-0", 1, Bin())
    assert cache.take("bins-0", head(1)) is not None


def test_a_bin_in_memory_is_of_the_version_that_is_wanted() -> None:
    """A bin that another writer has advanced is read back from the log: the cached content is not changed and signed."""
    cache = BinCache(10_000)
    cache.put("bins-0", 1, Bin())
    assert cache.take("bins-0", head(2)) is None
    assert cache.take("bins-0", head(1)) is None
    assert cache.memory == 0


def head(version: int) -> Head:
    return Head(version=version, sha256="", length=0, expires="", offset=0, keyids=[])
