"""The signer's trail: recorded before use, one chain for all its workers, whatever fails."""

import asyncio
import errno
import os
import random
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tufline.audit.records import AuditBegin, AuditEnd, AuditRecord, AuditUse, unseal
from tufline.bus import Bus, Message, Position, Then, Writer
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.checks.audit.checks import Report
from tufline.checks.audit.verify import verify
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.errors import BusError
from tufline.metadata import envelope
from tufline.records import Add, Bootstrap, topics
from tufline.runtime.health import Health
from tufline_signer import service
from tufline_signer.signing.audit_sinks import FileSink
from tufline_testing.log import announce, bootstrap_record, eventually, on_a_log, read_all, settled
from tufline_testing.trails import trail, verify_files

PARTITIONS = 4


@dataclass
class World:
    """A log with a bootstrap, and a signer for it."""

    bus: EmbeddedBus
    clock: Clock
    path: Path
    bootstrap: Bootstrap
    health: Health = field(default_factory=Health)

    @property
    def file(self) -> Path:
        return self.path / "audit.log"

    @asynccontextmanager
    async def signer(self, bus: Bus | None = None, **settings: Any) -> AsyncIterator[None]:
        """Run a signer that uses ``bus`` as its log; leaving the block stops it properly."""
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=60.0, **settings)
        task = asyncio.create_task(service.run(bus or self.bus, config, clock=self.clock, health=self.health))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def add(self, *paths: str) -> None:
        await announce(self.bus, self.bootstrap.settings, [Add(path, 1, {"sha256": "0" * 64}) for path in paths])

    async def records(self) -> list[AuditRecord]:
        return [unseal(record.value)[0] for record in await read_all(self.bus, topics.AUDIT)]

    async def uses(self) -> list[AuditUse]:
        return [record for record in await self.records() if isinstance(record, AuditUse)]

    async def verified(self, *files: Path) -> Report:
        """Verify the topic, which must have no finding."""
        report = await verify(self.bus, files, [])
        assert report.findings == []
        return report


def in_world(tmp_path: Path, story: Callable[[World], Awaitable[None]], **of_bootstrap: Any) -> None:
    """Tell a story in virtual time."""
    bootstrap = bootstrap_record(tmp_path / "keys", PARTITIONS, **of_bootstrap)
    on_a_log(tmp_path / "log.db", bootstrap, lambda bus, clock: story(World(bus, clock, tmp_path, bootstrap)))


@dataclass
class SeenBus:
    """The log of a signer, with events injected at its appends and commits."""

    bus: EmbeddedBus
    on_append: Callable[[Sequence[Message]], Awaitable[None]] | None = None
    after_append: Callable[[Sequence[Message]], Awaitable[None]] | None = None
    on_commit: Callable[[Sequence[Message]], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    async def append(self, messages: Sequence[Message]) -> Sequence[Position]:
        if self.on_append is not None:
            await self.on_append(messages)
        done = await self.bus.append(messages)
        if self.after_append is not None:
            await self.after_append(messages)
        return done

    async def writer(self, writer_id: str) -> Writer:
        return SeenWriter(await self.bus.writer(writer_id), self)


@dataclass
class SeenWriter:
    """A writer of a ``SeenBus``."""

    writer: Writer
    seen: SeenBus

    async def commit(self, messages: Sequence[Message], then: Then | None = None) -> Sequence[Position]:
        if self.seen.on_commit is not None:
            await self.seen.on_commit(messages)
        return await self.writer.commit(messages, then)

    async def close(self) -> None:
        await self.writer.close()


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_a_signature_is_on_record_before_it_is_used(tmp_path: Path, mode: str) -> None:
    """When a signed file is appended, its use is already recorded durably on the topic and in the file."""

    async def story(world: World) -> None:
        seen = SeenBus(world.bus)
        checked: list[str] = []
        early: list[str] = []

        async def look(messages: Sequence[Message]) -> None:
            recorded = {(use.keyid, one.role, one.sha256) for use in await world.uses() for one in use.signatures}
            in_file = world.file.read_text() if world.file.exists() else ""
            for message in messages:
                # For targets the signed bytes differ from those in the file: the verification below covers them.
                if message.topic != topics.METADATA or message.key in {"1.root", "targets"}:
                    continue
                content = envelope.disassemble(message.value)
                digest = envelope.sha256(bytes(content.signed))
                early.extend(
                    message.key
                    for entry in content.signatures
                    if (entry.keyid, message.key, digest) not in recorded or digest not in in_file
                )
                checked.append(message.key)

        seen.on_commit = look
        async with world.signer(seen, audit_file=world.file):
            await world.add("a", "b", "c")
            await settled(world.bus)
            assert not any(world.health.problems.values())
        assert early == []
        assert set(checked) >= {"timestamp", "snapshot", "bins-0"}
        report = await world.verified(world.file)
        assert report.notes == []
        assert report.compared == report.recorded > 20

    in_world(tmp_path, story, mode=mode)


def test_a_process_is_one_chain_from_its_first_use_to_its_end(tmp_path: Path) -> None:
    """All workers of a process write one chain, with each requester and the key's opening; the chain ends when the process does."""

    async def story(world: World) -> None:
        for life in range(2):
            async with world.signer():
                await world.add(*(f"{life}/{number}" for number in range(40)))
                await settled(world.bus)
        all_ = await world.records()
        begins = [record for record in all_ if isinstance(record, AuditBegin)]
        assert [record.number for record in all_ if isinstance(record, AuditBegin)] == [0, 0]
        assert begins[0].after is None
        assert begins[1].after is not None
        assert begins[1].after.chain == begins[0].chain != begins[1].chain
        assert isinstance(all_[-1], AuditEnd)
        for begin in begins:
            of_chain = [record for record in all_ if record.chain == begin.chain]
            assert [record.number for record in of_chain] == list(range(len(of_chain)))
            uses = [record for record in of_chain if isinstance(record, AuditUse)]
            assert {use.requester.part for use in uses} == {
                "signer",
                "signer.commits",
                *(f"signer.bins.{number}" for number in range(PARTITIONS)),
            }
            assert all((use.requester.pid, use.key) == (os.getpid(), "fn:online.pem") for use in uses)
            assert [one.role for use in uses for one in use.signatures].count("@probe") == 2  # its opening, and the proof that it signs
        assert (await world.verified()).notes == []

    in_world(tmp_path, story)


def test_a_signer_without_work_leaves_no_more_than_its_proof(tmp_path: Path) -> None:
    """A standby process has proved that it can sign, and then does not fill the topic."""

    async def story(world: World) -> None:
        async with world.signer():
            await settled(world.bus)
        before = len(await world.records())
        async with world.signer():
            await asyncio.sleep(600)
        begin, use, end = (await world.records())[before:]
        assert (type(begin), type(use), type(end)) == (AuditBegin, AuditUse, AuditEnd)
        assert isinstance(use, AuditUse)
        assert {one.role for one in use.signatures} == {"@probe"}

    in_world(tmp_path, story)


def test_what_waits_is_written_together(tmp_path: Path) -> None:
    """While an append is in progress, the records of all other workers wait, and go together in the next one, in order."""

    async def story(world: World) -> None:
        sizes: list[int] = []

        async def slow(messages: Sequence[Message]) -> None:
            if messages[0].topic == topics.AUDIT:
                sizes.append(len(messages))
            await asyncio.sleep(0.2)

        async with world.signer(SeenBus(world.bus, on_append=slow)):
            for number in range(20):
                await world.add(*(f"{number}/{one}" for one in range(30)))
                await asyncio.sleep(0.3)
            await settled(world.bus)
        assert max(sizes) > 1
        assert sum(sizes) == len(await world.records())
        await world.verified()

    in_world(tmp_path, story)


@pytest.mark.parametrize("seed", range(8))
def test_unknown_outcomes_do_not_fork_the_chain(tmp_path: Path, seed: int) -> None:
    """Records whose append has an unknown outcome are appended again unchanged: there is no fork and no gap, and work continues."""
    chance = random.Random(seed)

    async def story(world: World) -> None:
        lost = 0

        async def lose(_: Sequence[Message]) -> None:
            nonlocal lost
            if chance.random() < 0.3:
                lost += 1
                raise BusError("the answer was lost")

        async with world.signer(SeenBus(world.bus, lose, lose), audit_file=world.file):
            for number in range(10):
                await world.add(f"p/{number}")
                await asyncio.sleep(chance.choice([0, 0.01, 1]))
            await settled(world.bus)
        assert lost
        report = await world.verified(world.file)
        assert any("twice" in note for note in report.notes)

    in_world(tmp_path, story)


@pytest.mark.parametrize("seed", range(8))
def test_cancelled_workers_leave_the_chain_whole(tmp_path: Path, seed: int) -> None:
    """Losing a partition in the middle of a record undoes nothing: the file's lines and the chain stay whole."""
    chance = random.Random(seed)

    async def story(world: World) -> None:
        async def slow(_: Sequence[Message]) -> None:
            await asyncio.sleep(chance.choice([0, 0.01]))

        for life in range(6):
            async with world.signer(SeenBus(world.bus, slow), audit_file=world.file):
                await world.add(*(f"{life}/{number}" for number in range(20)))
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
        async with world.signer(audit_file=world.file):
            await settled(world.bus)
        report = await world.verified(world.file)
        assert not any("no end" in note for note in report.notes)
        assert world.file.read_bytes().count(b"\n") <= len(await read_all(world.bus, topics.AUDIT))

    in_world(tmp_path, story)


def test_without_a_place_for_its_record_no_key_is_used(tmp_path: Path) -> None:
    """On a full disk signing stops and the reason is reported; with free space it resumes, and pending uses are recorded too."""

    async def story(world: World) -> None:
        world.file.symlink_to("/dev/full")
        async with world.signer(audit_file=world.file):
            await eventually(lambda: asyncio.sleep(0, "No space left on device" in world.health.problems.get("signer", "")))
            problem = world.health.problems["signer"]
            assert problem == (
                f"no key is used while its use can't be recorded; {world.file}: No space left on device (signer.audit_file); "
                "signing resumes when that is fixed"
            )
            assert not world.health.ready
            assert {record.key for record in await read_all(world.bus, topics.METADATA)} <= {"1.root", "targets"}  # signed offline
            world.file.unlink()
            await settled(world.bus)
            await world.add("a")
            await settled(world.bus)
            await eventually(lambda: asyncio.sleep(0, world.health.ready))
            # It fills up while it works.
            world.file.unlink()
            world.file.symlink_to("/dev/full")
            before = len(await read_all(world.bus, topics.METADATA))
            await world.add("b")
            await eventually(lambda: asyncio.sleep(0, any("No space" in one for one in world.health.problems.values())))
            await asyncio.sleep(60)
            assert len(await read_all(world.bus, topics.METADATA)) == before
            waiting = len(await world.uses())
            world.file.unlink()
            await settled(world.bus)
            assert len(await world.uses()) > waiting
        report = await verify(world.bus, [], [])
        assert report.findings == []
        assert any("are not in the compared metadata" in note for note in report.notes)

    in_world(tmp_path, story)


def test_a_log_that_takes_no_records_is_said(tmp_path: Path) -> None:
    """If the topic can't be written, the reason names it; little waits in memory, however long it takes."""

    async def story(world: World) -> None:
        broken = False
        asked = 0

        async def refuse(messages: Sequence[Message]) -> None:
            nonlocal asked
            if broken:
                asked = max(asked, len(messages))
                raise BusError("the topic has no leader")

        async with world.signer(SeenBus(world.bus, refuse)):
            await settled(world.bus)
            broken = True
            await world.add(*map(str, range(40)))
            await eventually(lambda: asyncio.sleep(0, "topic audit: the topic has no leader" in str(world.health.problems)))
            await asyncio.sleep(600)
            broken = False
            await settled(world.bus)
        assert 0 < asked <= PARTITIONS + 1
        await world.verified()

    in_world(tmp_path, story)


def test_a_record_without_its_signature_in_the_world_is_no_fault(tmp_path: Path) -> None:
    """A signer that dies between record and use leaves a record without a matching file, which is a note."""

    async def story(world: World) -> None:
        async def dies(messages: Sequence[Message]) -> None:
            if any(message.topic == topics.METADATA for message in messages):
                raise BusError("the process is gone")

        async with world.signer(SeenBus(world.bus, on_commit=dies)):
            await eventually(lambda: _has(world))
        await asyncio.sleep(5)  # files signed in the same second may be identical
        async with world.signer():
            await settled(world.bus)
        report = await world.verified()
        assert any("recorded signatures are not in the compared metadata" in note for note in report.notes)

    async def _has(world: World) -> bool:
        return len(await world.uses()) > PARTITIONS

    in_world(tmp_path, story)


# The file


async def test_a_file_is_whole_lines(tmp_path: Path) -> None:
    """A half-written line of a dead process is cut off before the next one; a file with nothing else becomes empty."""
    records = trail()
    for torn, kept in ((records[0] + b"\n" + records[1][:100], records[:1]), (b"x" * 200_000, [])):
        path = tmp_path / "audit.log"
        path.write_bytes(torn)
        sink = FileSink(path)
        sink.write(records[len(kept) :])
        sink.close()
        assert path.read_bytes() == b"".join(record + b"\n" for record in records)
        assert (await verify_files(path)).findings == []


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """If the disk accepts only half of a line, it is removed, and the whole line is written once there is space."""
    path, sink = tmp_path / "audit.log", FileSink(tmp_path / "audit.log")
    sink.write([b"first"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*audit\.log") as raised:
            sink.write([b"a line that does not fit"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    assert path.read_bytes() == b"first\n"
    sink.write([b"second"])
    assert path.read_bytes() == b"first\nsecond\n"
    sink.close()


def test_a_rotated_file_goes_on_under_its_name(tmp_path: Path) -> None:
    """When the file was renamed, the next record goes to a new one of the configured name."""
    path, sink = tmp_path / "audit.log", FileSink(tmp_path / "audit.log")
    sink.write([b"1"])
    path.rename(tmp_path / "audit.log.1")
    sink.write([b"2"])
    path.unlink()
    sink.write([b"3", b"4"])
    sink.close()
    assert ((tmp_path / "audit.log.1").read_bytes(), path.read_bytes()) == (b"1\n", b"3\n4\n")


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    """A second process with the same file gets an error, and may use the file once the first is gone."""
    one, other = FileSink(tmp_path / "audit.log"), FileSink(tmp_path / "audit.log")
    one.write([b"1"])
    with pytest.raises(OSError, match="each signer needs a file of its own"):
        other.write([b"2"])
    one.close()
    other.write([b"2"])
    other.close()
    assert (tmp_path / "audit.log").read_bytes() == b"1\n2\n"


@pytest.mark.parametrize(("name", "says"), [("missing/audit.log", "No such file or directory"), (".", "Is a directory")])
def test_a_place_that_can_not_be_is_said(tmp_path: Path, name: str, says: str) -> None:
    """A file that can't be opened is an error with its name."""
    with pytest.raises(OSError, match=says) as raised:
        FileSink(tmp_path / name).write([b"1"])
    with suppress(AttributeError):
        assert raised.value.filename == str(tmp_path / name)
