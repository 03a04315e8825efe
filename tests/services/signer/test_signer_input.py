"""How the signer treats the records that it reads: changes without an effect, and faulty records."""

import asyncio
import itertools
from pathlib import Path

import pytest

from tufline import records
from tufline.bus import Message
from tufline.records import Changes, Remove, topics
from tufline.records.receipts import ChangeReceipt, receipt_decoder
from tufline_testing.log import Published, eventually, read_all
from tufline_testing.signing import PARTITIONS, BootstrappedLog, add, on_a_bootstrapped_log


def test_changes_that_took_no_effect_have_a_receipt_each(tmp_path: Path) -> None:
    """Removing a missing path and adding an unchanged one have a receipt each; changes that took effect have none."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("a"), Remove("missing"), add("b"), request="first")
            await log.settled()
            await log.announce(add("a"), add("b", 2), request="second")
            await log.settled()
        receipts = [
            (record.key, records.decode(receipt_decoder, record.value))
            for partition in range(PARTITIONS)
            for record in await read_all(log.bus, topics.RECEIPTS, partition)
        ]
        said = {(request, receipt.path, receipt.outcome) for request, receipt in receipts if isinstance(receipt, ChangeReceipt)}
        assert said == {("first", "missing", "not_found"), ("second", "a", "unchanged")}

    on_a_bootstrapped_log(tmp_path, story)


def test_unchanged_makes_no_version_but_is_covered(tmp_path: Path) -> None:
    """A change without an effect causes no new snapshot, and the vector covers it nevertheless."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.announce(add("a"))
            before = await log.settled()
            await log.announce(add("a"), Remove("b"))
            after = await log.settled()
        assert after.timestamp == before.timestamp
        assert set(after.files) == set(before.files)
        assert after.vector != before.vector

    on_a_bootstrapped_log(tmp_path, story)


UNREADABLE = {
    "another form": b'{"v":1,"changes":7}',
    "no JSON": b"\xff\x00",
    "a text that is not UTF-8": b'{"v":1,"request":"\xff","admin":1,"changes":[]}',
    "nested too deep": b'{"v":1,"request":"r","admin":1,"changes":[],"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_garbage_on_the_log_stops_nothing(tmp_path: Path, value: bytes) -> None:
    """An unreadable record gets a receipt, and the records after it become live."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            await log.settled()
            for partition in range(PARTITIONS):
                await log.bus.append([Message(topics.ARTIFACTS, "bad", value, partition)])
            await log.announce(*(add(f"p/{number}") for number in range(20)))
            published = await log.settled()
        assert len(published.verify(log.clock())) == 20
        for partition in range(PARTITIONS):
            (record,) = await read_all(log.bus, topics.RECEIPTS, partition)
            receipt = records.decode(receipt_decoder, record.value)
            assert isinstance(receipt, ChangeReceipt)
            assert (record.key, receipt.outcome) == ("bad", "refused")

    on_a_bootstrapped_log(tmp_path, story)


def test_a_record_that_names_what_is_not_on_admin_is_not_waited_for(tmp_path: Path) -> None:
    """A record that refers to nonexistent records of admin is applied like any other."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer():
            strange = Changes(request="r", admin=2**62, changes=[add("a")])
            partition = log.bootstrap.settings.partitioning.partition_of_path("a")
            await log.bus.append([Message(topics.ARTIFACTS, "r", records.encode(strange), partition)])
            published = await log.settled()
        assert set(published.verify(log.clock())) == {"a"}

    on_a_bootstrapped_log(tmp_path, story)


def test_newer_schema_waits_for_an_upgrade(tmp_path: Path) -> None:
    """A record of a newer schema is not skipped: the partition waits and reports why, and the others continue."""

    async def story(log: BootstrappedLog) -> None:
        async with log.signer() as health:
            await log.settled()
            await log.bus.append([Message(topics.ARTIFACTS, "new", b'{"v":99,"other":true}', 1)])
            await eventually(lambda: asyncio.sleep(0, "upgrade" in health.problems.get("signer.bins.1", "")))
            paths = (f"p/{number}" for number in itertools.count())
            path = next(path for path in paths if log.bootstrap.settings.partitioning.partition_of_path(path) == 0)
            await log.announce(add(path))
            await eventually(lambda: is_live(log, path))
        head = (await Published.read(log.bus)).vector
        assert head is not None
        assert head.artifacts[1] <= (await log.bus.end(topics.ARTIFACTS, 1)) - 1

    async def is_live(log: BootstrappedLog, path: str) -> bool:
        return path in (await Published.read(log.bus)).verify(log.clock())

    on_a_bootstrapped_log(tmp_path, story)
