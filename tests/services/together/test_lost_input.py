"""Input that is lost before it was applied: reported, waited for, and skipped only after an operator accepts the loss."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import tufline_signer.service
from tufline import records
from tufline.bus import Bus, Message
from tufline.bus.embedded import bus as embedded
from tufline.bus.embedded.bus import EmbeddedBus, open_embedded
from tufline.clock import Clock
from tufline.config.settings import SignerConfig
from tufline.errors import InputLostError, LogDamagedError
from tufline.records import PROGRESS_KEY, Add, Bootstrap, InboxProgress, Progress, topics
from tufline.records.receipts import ChangeReceipt, EventReceipt, PublishReceipt, receipt_decoder
from tufline.records.topics import ADMIN, ARTIFACTS, INBOX
from tufline.runtime.health import Health
from tufline.runtime.passed_over import PassedOver
from tufline.views.admin import AdminFollower
from tufline.views.lost_input import CheckedReader
from tufline_cli import main as command
from tufline_ingest.rest.task_receipts import TaskReceipts
from tufline_testing.inbox import all_moved, change, changes_on_log, event, moved_to, numbers, structured
from tufline_testing.inbox import service as moving_service
from tufline_testing.log import Published, announce, announce_bootstrap, bootstrap_record, eventually, read_all, running, settled
from tufline_testing.simulation.virtual_time import run_virtual

BINS_PART = "signer.bins.0"
INBOX_PART = "ingest.inbox.0"


@dataclass
class ReopenedLog:
    """A log with a bootstrap, opened again for each story, so that lost records are not in memory either."""

    path: Path
    bootstrap: Bootstrap = field(init=False)
    passed: timedelta = timedelta()

    def __post_init__(self) -> None:
        self.bootstrap = bootstrap_record(self.path / "keys", 1, bins=4)
        self.tell(lambda bus, _: announce_bootstrap(bus, self.bootstrap))

    def tell(self, story: Callable[[EmbeddedBus, Clock], Awaitable[None]]) -> None:
        """Tell a story in virtual time."""

        async def main(clock: Clock) -> timedelta:
            began = clock()
            before = self.passed
            bus = await open_embedded(self.path / "log.db", topics.topics(1), clock=lambda: clock() + before, threads=False)
            try:
                await story(bus, lambda: clock() + before)
            finally:
                await bus.close()
            return clock() - began

        self.passed += run_virtual(main)

    async def announce(self, bus: Bus, *paths: str) -> None:
        for path in paths:
            await announce(bus, self.bootstrap.settings, [Add(path, 1, {"sha256": "0" * 64})])

    @asynccontextmanager
    async def signer(self, bus: EmbeddedBus, clock: Clock) -> AsyncIterator[Health]:
        health = Health()
        config = SignerConfig(key_dir=self.path / "keys", renewal_check=600.0)
        async with running(tufline_signer.service.run(bus, config, clock=clock, health=health)):
            yield health

    def command(self, *arguments: str) -> tuple[int, str]:
        environment = {"TUFLINE_BUS__URL": f"embedded:{self.path / 'log.db'}", "TUFLINE_BUS__PARTITIONS": "1"}
        done = CliRunner().invoke(command, ["accept-loss", *arguments], env=environment)
        return done.exit_code, done.output


async def lose(bus: EmbeddedBus, topic: str, below: int) -> None:
    """Delete the oldest records, as a wrong retention does."""
    await bus.trim(topic, 0, below)
    await bus.maintain()


async def is_moved_to(bus: Bus, offset: int) -> bool:
    return await moved_to(bus, 0) == offset


async def is_reported(health: Health, part: str) -> bool:
    return "are gone from the log, and were not applied" in health.problems.get(part, "")


def test_lost_artifacts_stop_their_partition_until_the_loss_is_accepted(tmp_path: Path) -> None:
    """After lost records nothing is applied for weeks, but renewals continue; once accepted, the rest is live, and losses have receipts."""
    log = ReopenedLog(tmp_path)

    async def losing(bus: EmbeddedBus, _: Clock) -> None:
        await log.announce(bus, *map(str, range(10)))
        await lose(bus, ARTIFACTS, 5)

    async def held(bus: EmbeddedBus, clock: Clock) -> None:
        async with log.signer(bus, clock) as health:
            await eventually(partial(is_reported, health, BINS_PART))
            assert "tufline accept-loss artifacts 0" in health.problems[BINS_PART]
            until = clock() + timedelta(days=15)
            while clock() < until:
                await asyncio.sleep(12 * 3600)
                assert (await Published.read(bus)).verify(clock()) == {}
            assert await is_reported(health, BINS_PART)
            assert not health.ready

    async def goes_on(bus: EmbeddedBus, clock: Clock) -> None:
        async with log.signer(bus, clock) as health:
            published = await settled(bus)
            assert set(published.verify(clock())) == set("56789")
            assert health.parts[BINS_PART] is None
        receipts = [records.decode(receipt_decoder, record.value) for record in await read_all(bus, topics.RECEIPTS)]
        assert [(one.offset, one.outcome) for one in receipts if isinstance(one, ChangeReceipt)] == [(n, "refused") for n in range(5)]
        newest = next(one for one in reversed(await read_all(bus, topics.HEADS)) if one.key == PROGRESS_KEY)
        progress = records.decode(records.heads_decoder, newest.value)
        assert isinstance(progress, Progress)
        assert progress.trail is not None
        found = await TaskReceipts(bus, PassedOver(Health(), "test")).of(0, range(10), progress.trail)
        assert [one.offset for one in found.receipts] == list(range(5)), "a task's answer does not find the receipts of what was lost"

    log.tell(losing)
    log.tell(held)
    code, said = log.command(ARTIFACTS, "0", "--yes")
    assert (code, "offset 0 to 4" in said) == (0, True), said
    log.tell(goes_on)


def test_an_accepted_loss_is_not_the_next_one(tmp_path: Path) -> None:
    """A second loss, after an accepted one, stops the partition again."""
    log = ReopenedLog(tmp_path)

    async def losing(bus: EmbeddedBus, _: Clock) -> None:
        await log.announce(bus, *map(str, range(10)))
        await lose(bus, ARTIFACTS, 5)

    async def losing_more(bus: EmbeddedBus, _: Clock) -> None:
        await lose(bus, ARTIFACTS, 7)

    async def held(bus: EmbeddedBus, clock: Clock) -> None:
        async with log.signer(bus, clock) as health:
            await eventually(partial(is_reported, health, BINS_PART))
            assert (await settled_or_not(bus)) == 0

    async def settled_or_not(bus: EmbeddedBus) -> int:
        await asyncio.sleep(3600)
        vector = (await Published.read(bus)).vector
        return vector.artifacts[0] if vector else 0

    log.tell(losing)
    assert log.command(ARTIFACTS, "0", "--yes")[0] == 0
    log.tell(losing_more)
    log.tell(held)


async def test_records_that_vanish_before_they_are_read_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is behind reports vanished records, even if no other record follows; records that it has read are not a loss."""
    monkeypatch.setattr(embedded, "TAIL_BYTES", 1)
    bus = await open_embedded(tmp_path / "log.db", topics.topics(1))
    for number in range(6):
        await bus.append([Message(ARTIFACTS, "k", b"%d" % number)])
    readers = [CheckedReader(bus, ARTIFACTS, 0, 0) for _ in range(2)]
    for reader in readers:
        (first,) = await reader.fetch(max_wait=0, max_bytes=1)
        assert first.value == b"0"
    await lose(bus, ARTIFACTS, 1)
    assert [record.value for record in await readers[0].fetch(max_wait=0, max_bytes=1)] == [b"1"]
    await lose(bus, ARTIFACTS, 4)
    with pytest.raises(InputLostError) as found:
        await readers[0].fetch(max_wait=0)
    assert (found.value.first, found.value.below) == (2, 4)
    await lose(bus, ARTIFACTS, 6)
    with pytest.raises(InputLostError) as found:
        await readers[1].fetch(max_wait=0.01)
    assert (found.value.first, found.value.below) == (1, 6)
    await bus.close()


def test_damaged_records_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    """An undecodable record of artifacts or inbox gets a receipt, and the records after it become live."""
    log = ReopenedLog(tmp_path)

    async def writing(bus: EmbeddedBus, _: Clock) -> None:
        await log.announce(bus, *"abc")
        await bus.append([structured(event(change(str(number), number), id=str(number))) for number in range(10, 13)])

    async def goes_on(bus: EmbeddedBus, clock: Clock) -> None:
        health = Health()
        async with log.signer(bus, clock), running(moving_service(bus, health)):
            await eventually(partial(is_moved_to, bus, 3))
            assert set((await settled(bus)).verify(clock())) == {"a", "c", "10", "12"}
        receipts = [records.decode(receipt_decoder, record.value) for record in await read_all(bus, topics.RECEIPTS)]
        said = {(type(one), one.offset, one.outcome) for one in receipts if not isinstance(one, PublishReceipt)}
        assert {(ChangeReceipt, 1, "refused"), (EventReceipt, 1, "rejected")} <= said

    log.tell(writing)
    with closing(sqlite3.connect(tmp_path / "log.db")) as db, db:
        changed = db.execute(
            "UPDATE records SET value = 7, headers = '{' "
            "WHERE id IN (SELECT number << 40 | 1 FROM partitions WHERE topic IN ('artifacts', 'inbox'))"
        )
        assert changed.rowcount == 2
    log.tell(goes_on)


def test_records_trimmed_by_retention_are_not_lost(tmp_path: Path) -> None:
    """If all vanished records had been applied, a signer continues as usual, and there is nothing to accept."""
    log = ReopenedLog(tmp_path)

    async def trimmed(bus: EmbeddedBus, clock: Clock) -> None:
        async with log.signer(bus, clock):
            await log.announce(bus, *"abc")
            await settled(bus)
            await lose(bus, ARTIFACTS, 3)

    async def goes_on(bus: EmbeddedBus, clock: Clock) -> None:
        async with log.signer(bus, clock):
            await log.announce(bus, "d")
            assert set((await settled(bus)).verify(clock())) == set("abcd")

    log.tell(trimmed)
    code, said = log.command(ARTIFACTS, "0", "--yes")
    assert (code, "no record of artifacts 0 is lost" in said) == (1, True), said
    log.tell(goes_on)


def test_a_lost_inbox_waits_for_the_acceptance(tmp_path: Path) -> None:
    """Events after lost ones are not moved until the loss is accepted, and health reports the reason."""
    log = ReopenedLog(tmp_path)

    async def losing(bus: EmbeddedBus, _: Clock) -> None:
        await bus.append([structured(event(change(str(number), number), id=str(number))) for number in range(6)])
        await lose(bus, INBOX, 2)

    async def held(bus: EmbeddedBus, _: Clock) -> None:
        health = Health()
        async with running(moving_service(bus, health)):
            await eventually(partial(is_reported, health, INBOX_PART))
            await asyncio.sleep(3600)
            assert await changes_on_log(bus) == []
            assert "tufline accept-loss inbox 0" in health.problems[INBOX_PART]

    async def goes_on(bus: EmbeddedBus, _: Clock) -> None:
        health = Health()
        async with running(moving_service(bus, health)):
            await all_moved(bus)
            assert numbers(await changes_on_log(bus)) == [2, 3, 4, 5]
            assert health.parts[INBOX_PART] is None

    log.tell(losing)
    log.tell(held)
    assert log.command(INBOX, "0", "--yes")[0] == 0
    log.tell(goes_on)


@pytest.mark.parametrize(
    ("topic", "keeps", "key"), [(ARTIFACTS, topics.HEADS, PROGRESS_KEY), (INBOX, topics.INBOX_PROGRESS, "@2")], ids=[ARTIFACTS, INBOX]
)
def test_a_loss_can_be_accepted_behind_bad_progress(tmp_path: Path, topic: str, keeps: str, key: str) -> None:
    """The command uses the newest readable progress, like the writer that takes the partition over."""
    log = ReopenedLog(tmp_path)

    async def losing(bus: EmbeddedBus, _: Clock) -> None:
        await bus.append([Message(topic, "k", b"v")] * 3)
        progress = Progress(offset=1) if topic == ARTIFACTS else InboxProgress(number=1, offset=1, accepted={})
        await bus.append([Message(keeps, PROGRESS_KEY if topic == ARTIFACTS else "@1", records.encode(progress))])
        await bus.append([Message(keeps, key, b"\xff")])
        await lose(bus, topic, 2)

    log.tell(losing)
    code, said = log.command(topic, "0", "--yes")
    assert (code, "from offset 1 to 1 are gone" in said) == (0, True), said


def test_a_log_without_its_start_is_not_an_empty_log(tmp_path: Path) -> None:
    """If records of admin are lost, no service treats the repository as not bootstrapped."""
    log = ReopenedLog(tmp_path)

    async def losing(bus: EmbeddedBus, _: Clock) -> None:
        await announce_bootstrap(bus, log.bootstrap)
        await lose(bus, ADMIN, 1)

    async def refused(bus: EmbeddedBus, _: Clock) -> None:
        admin = AdminFollower(bus)
        with pytest.raises(LogDamagedError, match="admin from offset 0 to 0 are gone"):
            await admin.run()
        assert not admin.known.is_set()

    log.tell(losing)
    log.tell(refused)


def test_nothing_is_accepted_without_a_yes(tmp_path: Path) -> None:
    """The command asks a question, and changes nothing without an answer; a nonexistent partition is a wrong command line."""
    log = ReopenedLog(tmp_path)

    async def losing(bus: EmbeddedBus, _: Clock) -> None:
        await log.announce(bus, *"abc")
        await lose(bus, ARTIFACTS, 2)

    async def unchanged(bus: EmbeddedBus, _: Clock) -> None:
        assert len(await read_all(bus, ADMIN)) == 1

    log.tell(losing)
    assert log.command(ARTIFACTS, "0")[0] != 0
    assert log.command(ARTIFACTS, "1", "--yes")[0] == 2
    log.tell(unchanged)
