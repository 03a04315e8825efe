"""The workers that sign bins: the size of their transactions and batches, their memory, and the partitions that they serve."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tufline import records
from tufline.bus import MAX_TRANSACTION_BYTES, Message, Position, Record, Then, Writer
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.clock import Clock
from tufline.metadata.bins import Bin
from tufline.metadata.target import TargetEntry
from tufline.records import Add, Changes, Head, Remove, topics
from tufline_signer.bins import bins_worker
from tufline_signer.bins.bin_cache import BinCache
from tufline_signer.bins.pacing import RenewalPace
from tufline_testing.log import newest_heads, read_all
from tufline_testing.signing import BootstrappedLog, add, on_a_bootstrapped_log
from tufline_testing.simulation.virtual_time import run_virtual


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
    "changes of the largest size": (64, lambda nth: [add(f"{nth:06d}/{one}/{LARGE}", custom={"k": "x" * 4080}) for one in range(85)]),
    "removals of missing paths": (2, lambda nth: [Remove(f"{nth}/{one}/{LARGE}") for one in range(450)]),
    "a full bin": (2, lambda nth: [add(f"{nth}/{one}/{LARGE}", custom={"k": "x" * 4080}) for one in range(85)]),
}


@pytest.mark.parametrize(("bins", "changes"), OVERSIZED.values(), ids=OVERSIZED)
def test_no_transaction_is_larger_than_may_be(tmp_path: Path, bins: int, changes: Callable[[int], list[Add | Remove]]) -> None:
    """Whatever changes arrive, in any number, no transaction of the signer has more than MAX_TRANSACTION_BYTES."""
    sizes: list[int] = []

    async def story(log: BootstrappedLog) -> None:
        for nth in range(60):
            await log.announce(*changes(nth))
        async with log.signer(MeasuringBus(log.bus, sizes)):
            await log.settled()

    on_a_bootstrapped_log(tmp_path, story, 1, bins=bins)
    assert sum(sizes) > MAX_TRANSACTION_BYTES
    assert max(sizes) <= MAX_TRANSACTION_BYTES, f"{max(sizes)} bytes"


def test_no_transaction_of_a_publish_is_larger_than_may_be(tmp_path: Path) -> None:
    """Whatever is held, and in however few bins, neither holding nor publishing it needs a transaction that is too large."""
    sizes: list[int] = []

    async def story(log: BootstrappedLog) -> None:
        for nth in range(60):
            await log.announce(*(add(f"{nth:06d}/{one}/{LARGE}", custom={"k": '"' * 2040}) for one in range(85)), hold=True)
        async with log.signer(MeasuringBus(log.bus, sizes), max_held_changes=50_000):
            await log.settled()
            published = await log.published(await log.publish())
        assert len(published.verify(log.clock())) > 100
        assert not any(record.key == records.held_key(0) and b'"path":"0' in record.value for record in await newest_records(log))

    on_a_bootstrapped_log(tmp_path, story, 1, bins=2)
    assert sum(sizes) > 2 * MAX_TRANSACTION_BYTES
    assert max(sizes) <= MAX_TRANSACTION_BYTES, f"{max(sizes)} bytes"


async def newest_records(log: BootstrappedLog) -> list[Record]:
    """Return the newest record of each key in the first partition of ``heads``."""
    return [*{record.key: record for record in await read_all(log.bus, topics.HEADS)}.values()]


def test_receipts_of_strayed_changes_are_not_too_many_for_a_transaction(tmp_path: Path) -> None:
    """A backlog of changes in a wrong partition is refused in transactions of the allowed size, with one receipt for each change."""
    sizes: list[int] = []
    each, times = 450, 60

    async def story(log: BootstrappedLog) -> None:
        partitioning = log.bootstrap.settings.partitioning
        paths = (f"{number}/{LARGE}" for number in itertools.count())
        strayed = itertools.islice((path for path in paths if partitioning.partition_of_path(path) == 0), each)
        value = records.encode(Changes(request="r", admin=1, changes=[Remove(path) for path in strayed]))
        for _ in range(times):
            await log.bus.append([Message(topics.ARTIFACTS, "r", value, 1)])
        async with log.signer(MeasuringBus(log.bus, sizes)):
            await log.settled()
        assert len(await read_all(log.bus, topics.RECEIPTS, 1)) == each * times

    on_a_bootstrapped_log(tmp_path, story, 2, bins=2)
    assert max(sizes) <= MAX_TRANSACTION_BYTES, f"{max(sizes)} bytes"


@pytest.mark.parametrize(
    ("bins", "partitions", "by_hash"), [(2, 8, True), (4, 4, True), (16, 2, True), (16, 3, False), (2, 5, False)], ids=str
)
def test_every_partition_is_served(tmp_path: Path, bins: int, partitions: int, by_hash: bool) -> None:
    """Under either rule all changes become live in their bins; those in an unused partition are refused, and nothing waits for them."""

    async def story(log: BootstrappedLog) -> None:
        adds = [add(f"p/{number}") for number in range(64)]
        async with log.signer() as health:
            await log.announce(*adds[1:])
            stray = records.encode(Changes(request="stray", admin=1, changes=[adds[0]]))
            own = log.bootstrap.settings.partitioning.partition_of_path(adds[0].path)
            others = [partition for partition in range(partitions) if partition != own]
            await log.bus.append([Message(topics.ARTIFACTS, "stray", stray, partition) for partition in others])
            published = await log.settled()
            assert set(published.verify(log.clock())) == {one.path for one in adds[1:]}
            for partition in range(partitions):
                assert health.parts[f"signer.bins.{partition}"] is None
                assert len(await read_all(log.bus, topics.RECEIPTS, partition)) == (partition in others)
            assert health.parts["signer.commits"] is None

    on_a_bootstrapped_log(tmp_path, story, partitions, bins=bins, by_hash=by_hash)


def test_a_renewed_bin_keeps_what_it_has_applied(tmp_path: Path) -> None:
    """A renewed bin's head still records which changes are applied: after a crash none of them is applied again."""

    async def heads(log: BootstrappedLog) -> dict[str, Head]:
        return {role: head for role, head in (await newest_heads(log.bus)).items() if role.startswith("bins-")}

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(renewal_check=3600.0):
            await log.announce(*(add(f"p/{number}") for number in range(20)))
            await log.settled()
            before = await heads(log)
            await asyncio.sleep(86_400 * 4)
            after = await heads(log)
        touched = {role: head for role, head in before.items() if head.applied}
        assert len(touched) > 2
        for role, head in touched.items():
            assert (after[role].version > head.version, after[role].applied) == (True, head.applied)

    on_a_bootstrapped_log(tmp_path, story, bins=4)


@pytest.mark.parametrize("pause", [0.05, 0.1, 1.0])
def test_batches_grow_with_the_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    """During a backlog a batch waits for more records, but not indefinitely, so that each write of a bin covers many records."""
    monkeypatch.setattr(bins_worker, "BACKLOG_BYTES", 2000)

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(batch_max_bytes=1_000_000):
            await log.settled()
            before = await log.bus.end(topics.METADATA, 0)
            for number in range(100):
                await log.announce(*(add(f"p/{number}/{one}") for one in range(60)))
                await asyncio.sleep(pause)
            published = await log.settled()
        assert len(published.verify(log.clock())) == 6000
        written = sum(record.offset >= before and record.key.startswith("bins") for record in await read_all(log.bus, topics.METADATA))
        rounds = written / log.bootstrap.settings.number_of_bins
        if pause < bins_worker.TICK_SECONDS:
            assert rounds <= 4, f"{rounds} rounds"
        else:
            assert rounds > 25, f"{rounds} rounds"

    on_a_bootstrapped_log(tmp_path, story)


def test_renewal_leaves_half_of_the_time() -> None:
    """No renewal starts while another one is in progress, nor for as long as that one took."""

    async def story(_: Clock) -> None:
        pace = RenewalPace()
        assert pace.wait == 0
        with pace.working():
            await asyncio.sleep(3)
            assert pace.wait > 0
        assert pace.wait == pytest.approx(3)
        await asyncio.sleep(3)
        assert pace.wait == 0

    run_virtual(story)


def test_a_large_batch_takes_its_memory_from_the_bins() -> None:
    """A part of the budget that is lent is not available for bins until it is returned."""
    cache = BinCache(10_000)
    for number in range(20):
        full = Bin()
        full.add(TargetEntry("p", b"x" * 420))
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
    """A bin that another writer has advanced is read back from the log; the cached content is not used."""
    cache = BinCache(10_000)
    cache.put("bins-0", 1, Bin())
    assert cache.take("bins-0", head(2)) is None
    assert cache.take("bins-0", head(1)) is None
    assert cache.memory == 0


def head(version: int) -> Head:
    return Head(version=version, sha256="", length=0, expires="", offset=0, keyids=[])
