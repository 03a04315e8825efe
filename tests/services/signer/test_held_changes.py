"""Changes that are held until a publish, and a freeze: what is released, when, and what survives a takeover."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tufline import records
from tufline.bus import DEFAULT_FETCH_BYTES, Reader, Record
from tufline.bus.embedded.bus import EmbeddedBus
from tufline.records import Held, Progress, Remove, topics
from tufline.records.receipts import ChangeReceipt, PublishReceipt, receipt_decoder
from tufline_signer.bins import bins_log
from tufline_signer.bins.bins_log import BinsLog
from tufline_testing.log import Published, announce, append_marks, append_publish, eventually, freeze, read_all
from tufline_testing.signing import PARTITIONS, BootstrappedLog, add, on_a_bootstrapped_log

Lengths = dict[str, int]


@dataclass
class LateAdminBus:
    """A bus whose readers of ``admin`` are late."""

    bus: EmbeddedBus

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        reader = self.bus.reader(topic, partition, offset)
        return LateReader(reader) if topic == topics.ADMIN else reader


@dataclass
class LateReader:
    """A reader of a ``LateAdminBus``."""

    reader: Reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    async def fetch(self, *, max_wait: float, max_bytes: int = DEFAULT_FETCH_BYTES) -> Sequence[Record]:
        found = await self.reader.fetch(max_wait=max_wait, max_bytes=max_bytes)
        await asyncio.sleep(1.0)
        return found


async def lengths(log: BootstrappedLog) -> Lengths:
    """Return what is in the metadata once everything announced is applied: path to length."""
    return {path: target["length"] for path, target in (await log.settled()).verify(log.clock()).items()}


async def lengths_after(log: BootstrappedLog, publish: int) -> Lengths:
    """Return what is in the metadata once a publish is applied."""
    return {path: target["length"] for path, target in (await log.published(publish)).verify(log.clock()).items()}


async def held_on_log(log: BootstrappedLog) -> Mapping[str, int]:
    """Return the paths of the held changes on the log, each with the offset of its record."""
    found: dict[str, int] = {}
    for partition in _partitions(log):
        newest = {record.key: record.value for record in await read_all(log.bus, topics.HEADS, partition)}
        contents = [records.decode(records.heads_decoder, value) for value in newest.values()]
        slots = [content for content in contents if isinstance(content, Held) and content.path]
        assert len(slots) == next((content.held for content in contents if isinstance(content, Progress)), 0)
        found |= {held.path: held.offset for held in slots}
    return found


def _partitions(log: BootstrappedLog) -> range:
    return range(log.bus.partitions(topics.ARTIFACTS))


async def receipts(log: BootstrappedLog) -> list[ChangeReceipt | PublishReceipt]:
    """Return all receipts of the signer."""
    found = [record for partition in _partitions(log) for record in await read_all(log.bus, topics.RECEIPTS, partition)]
    decoded = [records.decode(receipt_decoder, record.value) for record in found]
    return [receipt for receipt in decoded if isinstance(receipt, ChangeReceipt | PublishReceipt)]


def test_held_changes_are_not_in_the_metadata_until_a_publish(tmp_path: Path) -> None:
    """Held additions and removals have no effect until a publish, which applies all of them, and names the bins that it changed."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("a"), add("gone"))
            await log.announce(add("a", 2), add("b", 3), Remove("gone"), hold=True)
            assert await lengths(log) == {"a": 1, "gone": 1}
            assert (await held_on_log(log)).keys() == {"a", "b", "gone"}
            assert await lengths_after(log, await log.publish()) == {"a": 2, "b": 3}
            assert not await held_on_log(log)
        layout = log.bootstrap.settings.layout
        released = {role for receipt in await receipts(log) if isinstance(receipt, PublishReceipt) for role in receipt.roles}
        assert released == {layout.name(layout.index_of(path)) for path in ("a", "b", "gone")}

    on_a_bootstrapped_log(tmp_path, story)


def test_a_later_change_of_the_path_drops_the_held_one(tmp_path: Path) -> None:
    """Whatever comes later for a path, applied or held, replaces its held change: a publish never puts an older change over a newer one."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("added", 1), add("removed", 1), add("same", 1), add("held", 1), hold=True)
            await log.announce(add("same", 2))
            await log.announce(add("same", 1), hold=True)
            await log.announce(add("added", 2), Remove("removed"), add("same", 2))
            await log.announce(add("held", 2), hold=True)
            assert await lengths_after(log, await log.publish()) == {"added": 2, "same": 2, "held": 2}
        outcomes = {receipt.path: receipt.outcome for receipt in await receipts(log) if isinstance(receipt, ChangeReceipt)}
        assert outcomes == {"same": "unchanged"}  # the removal has removed what was held

    on_a_bootstrapped_log(tmp_path, story)


def test_a_publish_releases_what_was_held_before_it_and_nothing_later(tmp_path: Path) -> None:
    """A change that is held after a publish waits for the next one, even if the signer sees both at the same time, or starts late."""

    async def story(log: BootstrappedLog) -> None:
        await log.announce(add("a", 1), add("b", 1), hold=True)
        first = await log.publish()
        await log.announce(add("a", 2), add("c", 1), hold=True)
        async with log.signer():
            assert await lengths_after(log, first) == {"a": 1, "b": 1}
            assert (await held_on_log(log)).keys() == {"a", "c"}
            assert await lengths_after(log, await log.publish()) == {"a": 2, "b": 1, "c": 1}

    on_a_bootstrapped_log(tmp_path, story)


def test_a_publish_that_the_worker_learns_of_late_comes_before_later_holds(tmp_path: Path) -> None:
    """A batch with changes that are to be held waits until ``admin`` is applied: a publish before them, by another process, counts."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(LateAdminBus(log.bus)) as health:
            await log.announce(add("a", 1), hold=True)
            await lengths(log)
            offset = await log.publish()
            await log.announce(add("a", 2), hold=True)
            assert await lengths_after(log, offset) == {"a": 1}
            assert (await held_on_log(log)).keys() == {"a"}
            assert not health.problems

    on_a_bootstrapped_log(tmp_path, story)


def test_changes_held_after_the_mark_of_a_publish_are_not_released(tmp_path: Path) -> None:
    """A change that comes between the marks of a publish and its record is not part of it, and neither is one that it replaces."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("a", 1), add("b", 1), hold=True)
            ends = await append_marks(log.bus, log.bootstrap.settings)
            await log.announce(add("a", 2), add("c", 1), hold=True)
            assert await lengths(log) == {}
            assert await lengths_after(log, await append_publish(log.bus, ends)) == {"b": 1}
            assert (await held_on_log(log)).keys() == {"a", "c"}
            assert await lengths_after(log, await log.publish()) == {"a": 2, "b": 1, "c": 1}

    on_a_bootstrapped_log(tmp_path, story)


@pytest.mark.parametrize("starts_late", [False, True])
@pytest.mark.parametrize("end", [0, 1, 2, 3])
def test_the_end_of_a_publish_is_the_first_offset_that_it_leaves(tmp_path: Path, end: int, starts_late: bool) -> None:
    """The change right below a partition's end is released, the one at the end is not, whether or not both were held before."""

    async def story(log: BootstrappedLog) -> None:
        paths = ["a", "b", "c"]

        async def held() -> bool:
            return len(await held_on_log(log)) == len(paths)

        for offset, path in enumerate(paths):
            assert await announce(log.bus, log.bootstrap.settings, [add(path)], hold=True) == [(0, offset)]
        if starts_late:
            publish = await append_publish(log.bus, [end])
        async with log.signer():
            if not starts_late:
                await eventually(held)
                publish = await append_publish(log.bus, [end])
            assert await lengths_after(log, publish) == dict.fromkeys(paths[:end], 1)
            assert (await held_on_log(log)).keys() == {*paths[end:]}
            assert await lengths_after(log, await log.publish()) == dict.fromkeys(paths, 1)

    on_a_bootstrapped_log(tmp_path, story, 1)


def test_a_publish_goes_on_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the worker dies between two transactions of a publish, the next one releases the rest, and the result names all bins."""
    monkeypatch.setattr(bins_log, "PIECE_BINS", 1)
    paths = [f"p/{number}" for number in range(12)]

    async def story(log: BootstrappedLog) -> None:
        commit = BinsLog.commit
        left = 2

        async def dying(self: BinsLog, *given: Any, **named: Any) -> None:
            nonlocal left
            left -= "publish" in named
            if left < 0:
                raise RuntimeError("it dies in the middle of a publish")
            await commit(self, *given, **named)

        with monkeypatch.context() as patched:
            patched.setattr(BinsLog, "commit", dying)
            async with log.signer():
                await log.announce(*map(add, paths), hold=True)
                await lengths(log)
                offset = await log.publish()
                await asyncio.sleep(5)
        assert 0 < len(await held_on_log(log)) < len(paths)
        async with log.signer():
            assert await lengths_after(log, offset) == dict.fromkeys(paths, 1)
        of_publish = [receipt for receipt in await receipts(log) if isinstance(receipt, PublishReceipt)]
        layout = log.bootstrap.settings.layout
        wanted = {layout.name(layout.index_of(path)) for path in paths}
        assert sorted(role for receipt in of_publish for role in receipt.roles) == sorted(wanted)
        assert [bool(receipt.runs) for receipt in of_publish].count(True) == 0  # the first run names no older ones
        assert {receipt.publish for receipt in of_publish} == {offset}

    on_a_bootstrapped_log(tmp_path, story, 1)


def test_held_changes_survive_a_takeover(tmp_path: Path) -> None:
    """After any number of restarts everything that was held is still held, even if its records of ``artifacts`` were deleted."""

    async def story(log: BootstrappedLog) -> None:
        for number in range(3):
            async with log.signer():
                await log.announce(add(f"p/{number}", number + 1), add("p", number + 1), hold=True)
                assert await lengths(log) == {}
        for partition in range(PARTITIONS):
            await log.bus.trim(topics.ARTIFACTS, partition, await log.bus.end(topics.ARTIFACTS, partition))
        async with log.signer() as health:
            assert (await held_on_log(log)).keys() == {"p", "p/0", "p/1", "p/2"}
            assert await lengths_after(log, await log.publish()) == {"p": 3, "p/0": 1, "p/1": 2, "p/2": 3}
            assert not health.problems

    on_a_bootstrapped_log(tmp_path, story)


def test_slots_are_used_again(tmp_path: Path) -> None:
    """``heads`` gets no more keys than changes were held at the same time, however many are held and published."""

    async def story(log: BootstrappedLog) -> None:
        for restart in range(2):
            async with log.signer():
                for number in range(4):
                    await log.announce(*(add(f"{restart}/{number}/{one}") for one in range(8)), hold=True)
                    await log.published(await log.publish())
        keys = {
            (partition, record.key)
            for partition in range(PARTITIONS)
            for record in await read_all(log.bus, topics.HEADS, partition)
            if record.key.startswith(records.HELD_PREFIX)
        }
        assert 8 <= len(keys) <= 8 * PARTITIONS
        assert max(int(key.removeprefix(records.HELD_PREFIX)) for _, key in keys) < 8

    on_a_bootstrapped_log(tmp_path, story)


def test_a_partition_holds_a_bounded_number_of_changes(tmp_path: Path) -> None:
    """Beyond the limit a change that is to be held is refused with a receipt, and changes nothing; health warns before that."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(max_held_changes=10) as health:
            await log.announce(*(add(f"p/{number}") for number in range(8)), hold=True)
            await lengths(log)
            assert "signer.bins.0.held" not in health.warnings
            await log.announce(add("p/8"), hold=True)
            await lengths(log)
            assert "9 of at most 10" in health.warnings["signer.bins.0.held"]
        assert "signer.bins.0.held" not in health.warnings  # another worker may have the partition now
        async with log.signer(max_held_changes=10) as health:
            await log.announce(add("p/9"), add("p/10"), add("p/11"), add("p/0", 5), hold=True)
            assert await lengths(log) == {}
            refused = {receipt.path: receipt for receipt in await receipts(log) if isinstance(receipt, ChangeReceipt)}
            assert refused.keys() == {"p/10", "p/11"}
            assert all(one.outcome == "refused" and "max_held_changes" in one.reason for one in refused.values())
            found = await lengths_after(log, await log.publish())
            assert found == {f"p/{number}": 1 for number in range(1, 10)} | {"p/0": 5}
            assert "signer.bins.0.held" not in health.warnings
            await log.announce(add("p/10"), hold=True)
            assert await lengths_after(log, await log.publish()) == found | {"p/10": 1}

    on_a_bootstrapped_log(tmp_path, story, 1)


def test_a_refused_change_is_not_held_when_it_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash in a batch, a bin that refused to hold a change does not hold it when there is room by then: its head says so."""
    monkeypatch.setattr(bins_log, "PIECE_BINS", 1)

    async def story(log: BootstrappedLog) -> None:
        layout = log.bootstrap.settings.layout
        paths = [f"p/{number}" for number in range(40)]
        first = [path for path in paths if layout.index_of(path) == 0][:3]
        second = next(path for path in paths if layout.index_of(path) == 1)
        await log.announce(*(add(path) for path in [*first, second]), hold=True)
        commit = BinsLog.commit

        async def dying(
            self: BinsLog, signed: Any, held: Any, of_changes: Any = (), progress: int | None = None, *rest: Any, **more: Any
        ) -> None:
            if progress is not None:
                raise RuntimeError("it dies before the last piece")
            await commit(self, signed, held, of_changes, progress, *rest, **more)

        with monkeypatch.context() as patched:
            patched.setattr(BinsLog, "commit", dying)
            async with log.signer(max_held_changes=2):
                await asyncio.sleep(5)
        assert len(await receipts(log)) == 1
        async with log.signer(max_held_changes=10):
            await log.settled()
            assert await lengths_after(log, await log.publish()) == dict.fromkeys([*first[:2], second], 1)
        assert [receipt.path for receipt in await receipts(log) if isinstance(receipt, ChangeReceipt)] == [first[2]]

    on_a_bootstrapped_log(tmp_path, story, 1, bins=2)


def test_while_it_is_frozen_changes_wait_and_bins_are_renewed(tmp_path: Path) -> None:
    """Frozen, neither changes nor publishes are applied for weeks, nothing expires, and no content changes; thawed, all are applied."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer(renewal_check=3600.0) as health:
            await log.announce(add("a", 1))
            await log.announce(add("held", 1), hold=True)
            before = await lengths(log)
            await freeze(log.bus)
            await asyncio.sleep(1)
            await log.announce(add("a", 2), add("b", 1))
            await log.publish()
            await log.announce(add("c", 1), hold=True)
            await asyncio.sleep(8 * 86_400)
            found = await frozen(log)
            assert {path: target["length"] for path, target in found.items()} == before
            assert not health.problems
        async with log.signer(renewal_check=3600.0):
            await asyncio.sleep(86_400)
            assert {path: target["length"] for path, target in (await frozen(log)).items()} == before
            await freeze(log.bus, frozen=False)
            assert await lengths(log) == {"a": 2, "b": 1, "held": 1}
            assert (await held_on_log(log)).keys() == {"c"}

    on_a_bootstrapped_log(tmp_path, story)


async def frozen(log: BootstrappedLog) -> dict[str, dict[str, object]]:
    """Return the targets in the newest metadata, which must be valid now."""
    return (await Published.read(log.bus)).verify(log.clock())
