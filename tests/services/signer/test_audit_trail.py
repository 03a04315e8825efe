"""The signer's audit trail: each use is recorded first, and all workers write one chain, whatever fails."""

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tufline.audit.records import AuditBegin, AuditEnd, AuditRecord, AuditUse, unseal
from tufline.bus import Bus, Message
from tufline.checks.audit.checks import AuditReport
from tufline.checks.audit.verify import verify
from tufline.errors import BusError
from tufline.metadata import envelope
from tufline.records import topics
from tufline_testing.log import eventually, read_all
from tufline_testing.seen_bus import SeenBus
from tufline_testing.signing import PARTITIONS, BootstrappedLog, add, on_a_bootstrapped_log


async def trail_of(bus: Bus) -> list[AuditRecord]:
    return [unseal(record.value)[0] for record in await read_all(bus, topics.AUDIT)]


async def uses_of(bus: Bus) -> list[AuditUse]:
    return [record for record in await trail_of(bus) if isinstance(record, AuditUse)]


async def verified(bus: Bus, *files: Path) -> AuditReport:
    """Verify the topic, which must have no finding."""
    report = await verify(bus, files, [])
    assert report.findings == []
    return report


@pytest.mark.parametrize("mode", ["pep458", "rstuf"])
def test_a_signature_is_on_record_before_it_is_used(tmp_path: Path, mode: str) -> None:
    """When a signed file is appended, its use is already recorded durably on the topic and in the file."""
    file = tmp_path / "audit.log"

    async def story(log: BootstrappedLog) -> None:
        seen = SeenBus(log.bus)
        checked: list[str] = []
        early: list[str] = []

        async def look(messages: Sequence[Message]) -> None:
            recorded = {(use.keyid, one.role, one.sha256) for use in await uses_of(log.bus) for one in use.signatures}
            in_file = file.read_text() if file.exists() else ""
            for message in messages:
                # The signed bytes of targets differ from those in the file; the verification below covers them.
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
        async with log.signer(seen, audit_file=file) as health:
            await log.announce(add("a"), add("b"), add("c"))
            await log.settled()
            assert not health.problems
        assert early == []
        assert set(checked) >= {"timestamp", "snapshot", "bins-0"}
        report = await verified(log.bus, file)
        assert report.notes == []
        assert report.compared == report.recorded > 20

    on_a_bootstrapped_log(tmp_path, story, mode=mode)


def test_a_process_is_one_chain_from_its_first_use_to_its_end(tmp_path: Path) -> None:
    """All workers of a process write one chain: the opening of the key, each use with its requester, and the end of the process."""

    async def story(log: BootstrappedLog) -> None:
        for life in range(2):
            async with log.signer():
                await log.announce(*(add(f"{life}/{number}") for number in range(40)))
                await log.settled()
        all_ = await trail_of(log.bus)
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
        assert (await verified(log.bus)).notes == []

    on_a_bootstrapped_log(tmp_path, story)


def test_a_signer_without_work_leaves_no_more_than_its_proof(tmp_path: Path) -> None:
    """A standby process proves once that it can sign, and then writes no further records."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.settled()
        before = len(await trail_of(log.bus))
        async with log.signer():
            await asyncio.sleep(600)
        begin, use, end = (await trail_of(log.bus))[before:]
        assert (type(begin), type(use), type(end)) == (AuditBegin, AuditUse, AuditEnd)
        assert isinstance(use, AuditUse)
        assert {one.role for one in use.signatures} == {"@probe"}

    on_a_bootstrapped_log(tmp_path, story)


def test_waiting_records_are_written_together(tmp_path: Path) -> None:
    """While an append is in progress, the records of all other workers wait, and go together in the next one, in order."""

    async def story(log: BootstrappedLog) -> None:
        sizes: list[int] = []

        async def slow(messages: Sequence[Message]) -> None:
            if messages[0].topic == topics.AUDIT:
                sizes.append(len(messages))
            await asyncio.sleep(0.2)

        async with log.signer(SeenBus(log.bus, on_append=slow)):
            for number in range(20):
                await log.announce(*(add(f"{number}/{one}") for one in range(30)))
                await asyncio.sleep(0.3)
            await log.settled()
        assert max(sizes) > 1
        assert sum(sizes) == len(await trail_of(log.bus))
        await verified(log.bus)

    on_a_bootstrapped_log(tmp_path, story)


@pytest.mark.parametrize("seed", range(8))
def test_unknown_outcomes_do_not_fork_the_chain(tmp_path: Path, seed: int) -> None:
    """Records whose append has an unknown outcome are appended again unchanged: there is no fork and no gap, and work continues."""
    file = tmp_path / "audit.log"
    chance = random.Random(seed)

    async def story(log: BootstrappedLog) -> None:
        lost = 0

        async def lose(_: Sequence[Message]) -> None:
            nonlocal lost
            if chance.random() < 0.3:
                lost += 1
                raise BusError("the answer was lost")

        async with log.signer(SeenBus(log.bus, lose, lose), audit_file=file):
            for number in range(10):
                await log.announce(add(f"p/{number}"))
                await asyncio.sleep(chance.choice([0, 0.01, 1]))
            await log.settled()
        assert lost
        report = await verified(log.bus, file)
        assert any("twice" in note for note in report.notes)

    on_a_bootstrapped_log(tmp_path, story)


@pytest.mark.parametrize("seed", range(8))
def test_cancelled_workers_leave_the_chain_whole(tmp_path: Path, seed: int) -> None:
    """The loss of a partition in the middle of a record damages nothing: the file's lines and the chain stay whole."""
    file = tmp_path / "audit.log"
    chance = random.Random(seed)

    async def story(log: BootstrappedLog) -> None:
        async def slow(_: Sequence[Message]) -> None:
            await asyncio.sleep(chance.choice([0, 0.01]))

        for life in range(6):
            async with log.signer(SeenBus(log.bus, slow), audit_file=file):
                await log.announce(*(add(f"{life}/{number}") for number in range(20)))
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
        async with log.signer(audit_file=file):
            await log.settled()
        report = await verified(log.bus, file)
        assert not any("no end" in note for note in report.notes)
        assert file.read_bytes().count(b"\n") <= len(await read_all(log.bus, topics.AUDIT))

    on_a_bootstrapped_log(tmp_path, story)


def test_without_a_place_for_its_record_no_key_is_used(tmp_path: Path) -> None:
    """On a full disk signing stops and the reason is reported; with free space it resumes, and pending uses are recorded too."""
    file = tmp_path / "audit.log"

    async def story(log: BootstrappedLog) -> None:
        file.symlink_to("/dev/full")
        async with log.signer(audit_file=file) as health:
            await eventually(lambda: asyncio.sleep(0, "No space left on device" in health.problems.get("signer", "")))
            problem = health.problems["signer"]
            assert problem == (
                f"no key is used while its use can't be recorded; {file}: No space left on device (signer.audit_file); "
                "signing resumes when that is fixed"
            )
            assert not health.ready
            assert {record.key for record in await read_all(log.bus, topics.METADATA)} <= {"1.root", "targets"}  # signed offline
            file.unlink()
            await log.settled()
            await log.announce(add("a"))
            await log.settled()
            await eventually(lambda: asyncio.sleep(0, health.ready))
            # It fills up while it works.
            file.unlink()
            file.symlink_to("/dev/full")
            before = len(await read_all(log.bus, topics.METADATA))
            await log.announce(add("b"))
            await eventually(lambda: asyncio.sleep(0, any("No space" in one for one in health.problems.values())))
            await asyncio.sleep(60)
            assert len(await read_all(log.bus, topics.METADATA)) == before
            waiting = len(await uses_of(log.bus))
            file.unlink()
            await log.settled()
            assert len(await uses_of(log.bus)) > waiting
        report = await verify(log.bus, [], [])
        assert report.findings == []
        assert any("are not in the compared metadata" in note for note in report.notes)

    on_a_bootstrapped_log(tmp_path, story)


def test_a_log_that_accepts_no_records_is_reported(tmp_path: Path) -> None:
    """If the topic can't be written, the reason names it; few records wait in memory, however long that lasts."""

    async def story(log: BootstrappedLog) -> None:
        broken = False
        asked = 0

        async def refuse(messages: Sequence[Message]) -> None:
            nonlocal asked
            if broken:
                asked = max(asked, len(messages))
                raise BusError("the topic has no leader")

        async with log.signer(SeenBus(log.bus, refuse)) as health:
            await log.settled()
            broken = True
            await log.announce(*(add(str(number)) for number in range(40)))
            await eventually(lambda: asyncio.sleep(0, "topic audit: the topic has no leader" in str(health.problems)))
            await asyncio.sleep(600)
            broken = False
            await log.settled()
        assert 0 < asked <= PARTITIONS + 1
        await verified(log.bus)

    on_a_bootstrapped_log(tmp_path, story)


def test_a_record_whose_signature_is_not_published_is_not_a_fault(tmp_path: Path) -> None:
    """A signer that dies between record and use leaves a record without a matching file, which verification reports as a note."""

    async def story(log: BootstrappedLog) -> None:
        async def dies(messages: Sequence[Message]) -> None:
            if any(message.topic == topics.METADATA for message in messages):
                raise BusError("the process is gone")

        async with log.signer(SeenBus(log.bus, on_commit=dies)):
            await eventually(lambda: _has(log))
        await asyncio.sleep(5)  # files signed in the same second may be identical
        async with log.signer():
            await log.settled()
        report = await verified(log.bus)
        assert any("recorded signatures are not in the compared metadata" in note for note in report.notes)

    async def _has(log: BootstrappedLog) -> bool:
        return len(await uses_of(log.bus)) > PARTITIONS

    on_a_bootstrapped_log(tmp_path, story)
